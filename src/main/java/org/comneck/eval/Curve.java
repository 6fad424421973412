package org.comneck.eval;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;

/**
 * A measure over rate, and Bjontegaard's comparison of two such curves with monotone piecewise cubic (PCHIP) interpolation over the logarithm of
 * the rate. Points that cost more than another and are no better are left out, so that the rate is a function of the measure; that many are
 * {@link #dropped}.
 */
public final class Curve {
    /**
     * One point.
     *
     * @param rate above 0, any unit
     * @param value the measure, more is better
     */
    public record Point(double rate, double value) {}

    /**
     * What a comparison says.
     *
     * @param percent mean difference of the rate at equal value (BD-rate: negative saves), or of the value at equal rate in the value's unit
     * @param low where the common range of values (or rates) begins
     * @param high where it ends
     * @param warnings why the figure means less than it seems; empty when there is no reason
     */
    public record Difference(double percent, double low, double high, List<String> warnings) {}

    /** Fewest points that such a figure is defined for. */
    private static final int FULL_POINTS = 4;

    /** Least share of the wider curve that must be common. */
    private static final double LEAST_OVERLAP = 0.5;

    private final List<Point> points = new ArrayList<>();
    private final int dropped;

    /** A curve through points in any order. */
    public Curve(List<Point> measured) {
        List<Point> sorted = measured.stream()
                .filter(p -> p.rate() > 0 && Double.isFinite(p.value()))
                .sorted(Comparator.comparingDouble(Point::rate).thenComparing(Point::value, Comparator.reverseOrder()))
                .toList();
        for (Point point : sorted) {
            if (points.isEmpty() || point.value() > points.getLast().value()) {
                points.add(point);
            }
        }
        dropped = measured.size() - points.size();
    }

    /** The points in use, from the cheapest to the best. */
    public List<Point> points() {
        return List.copyOf(points);
    }

    /** How many points another one beats at lower or equal rate. */
    public int dropped() {
        return dropped;
    }

    /** The rate at which a value is reached, NaN outside of the curve. */
    public double rateAt(double value) {
        if (points.isEmpty()
                || value < points.getFirst().value()
                || value > points.getLast().value()) {
            return Double.NaN;
        }
        return points.size() == 1
                ? points.getFirst().rate()
                : Math.exp(new Pchip(values(points), logRates(points)).at(value));
    }

    /** The value at a rate, NaN outside of the curve. */
    public double valueAt(double rate) {
        if (points.isEmpty()
                || rate < points.getFirst().rate()
                || rate > points.getLast().rate()) {
            return Double.NaN;
        }
        return points.size() == 1
                ? points.getFirst().value()
                : new Pchip(logRates(points), values(points)).at(Math.log(rate));
    }

    /** BD-rate of this curve against a reference in per cent, over the values that both reach; NaN when there are none. */
    public Difference rateAgainst(Curve reference) {
        return compare(reference, true);
    }

    /** BD-value (BD-PSNR, BD-accuracy) of this curve against a reference, over the rates that both have; NaN when there are none. */
    public Difference valueAgainst(Curve reference) {
        return compare(reference, false);
    }

    private Difference compare(Curve reference, boolean rate) {
        List<String> warnings = new ArrayList<>();
        if (points.size() < 2 || reference.points.size() < 2) {
            warnings.add("a curve of fewer than two rising points cannot be compared");
            return new Difference(Double.NaN, Double.NaN, Double.NaN, warnings);
        }
        if (points.size() < FULL_POINTS || reference.points.size() < FULL_POINTS) {
            warnings.add("fewer than " + FULL_POINTS + " rising points (" + points.size() + " and "
                    + reference.points.size() + ")");
        }
        double[] x = rate ? values(points) : logRates(points);
        double[] y = rate ? logRates(points) : values(points);
        double[] xReference = rate ? values(reference.points) : logRates(reference.points);
        double[] yReference = rate ? logRates(reference.points) : values(reference.points);
        double low = Math.max(x[0], xReference[0]);
        double high = Math.min(x[x.length - 1], xReference[xReference.length - 1]);
        if (!(high > low)) {
            warnings.add("the curves do not overlap");
            return new Difference(Double.NaN, Double.NaN, Double.NaN, warnings);
        }
        double widest = Math.max(x[x.length - 1] - x[0], xReference[xReference.length - 1] - xReference[0]);
        if ((high - low) / widest < LEAST_OVERLAP) {
            warnings.add(String.format(Locale.ROOT, "the curves overlap by %.0f %% only", 100 * (high - low) / widest));
        }
        double mean = (new Pchip(x, y).integral(low, high) - new Pchip(xReference, yReference).integral(low, high))
                / (high - low);
        return rate
                ? new Difference(100 * Math.expm1(mean), low, high, warnings)
                : new Difference(mean, Math.exp(low), Math.exp(high), warnings);
    }

    private static double[] values(List<Point> points) {
        return points.stream().mapToDouble(Point::value).toArray();
    }

    private static double[] logRates(List<Point> points) {
        return points.stream().mapToDouble(p -> Math.log(p.rate())).toArray();
    }

    /** Fritsch and Butland's slopes, three-point ends, as SciPy's PchipInterpolator has them. */
    private static final class Pchip {
        private final double[] x;
        private final double[] y;
        private final double[] slope;

        /** @param x rising, at least two */
        Pchip(double[] x, double[] y) {
            this.x = x;
            this.y = y;
            int n = x.length;
            double[] h = new double[n - 1];
            double[] d = new double[n - 1];
            for (int i = 0; i < n - 1; i++) {
                h[i] = x[i + 1] - x[i];
                d[i] = (y[i + 1] - y[i]) / h[i];
            }
            slope = new double[n];
            if (n == 2) {
                slope[0] = d[0];
                slope[1] = d[0];
                return;
            }
            for (int i = 1; i < n - 1; i++) {
                if (d[i - 1] * d[i] > 0) {
                    double w1 = 2 * h[i] + h[i - 1];
                    double w2 = h[i] + 2 * h[i - 1];
                    slope[i] = (w1 + w2) / (w1 / d[i - 1] + w2 / d[i]);
                }
            }
            slope[0] = end(h[0], h[1], d[0], d[1]);
            slope[n - 1] = end(h[n - 2], h[n - 3], d[n - 2], d[n - 3]);
        }

        private static double end(double h0, double h1, double d0, double d1) {
            double s = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1);
            if (s * d0 <= 0) {
                return 0;
            }
            return d0 * d1 <= 0 && Math.abs(s) > 3 * Math.abs(d0) ? 3 * d0 : s;
        }

        double at(double where) {
            int i = piece(where);
            double[] c = coefficients(i);
            double t = where - x[i];
            return c[0] + t * (c[1] + t * (c[2] + t * c[3]));
        }

        double integral(double low, double high) {
            double sum = 0;
            for (int i = piece(low); i < x.length - 1 && x[i] < high; i++) {
                double[] c = coefficients(i);
                sum += primitive(c, Math.min(high, x[i + 1]) - x[i]) - primitive(c, Math.max(low, x[i]) - x[i]);
            }
            return sum;
        }

        private static double primitive(double[] c, double t) {
            return t * (c[0] + t * (c[1] / 2 + t * (c[2] / 3 + t * c[3] / 4)));
        }

        private int piece(double where) {
            int i = 0;
            while (i < x.length - 2 && where >= x[i + 1]) {
                i++;
            }
            return i;
        }

        private double[] coefficients(int i) {
            double h = x[i + 1] - x[i];
            double d = (y[i + 1] - y[i]) / h;
            return new double[] {
                y[i], slope[i], (3 * d - 2 * slope[i] - slope[i + 1]) / h, (slope[i] + slope[i + 1] - 2 * d) / (h * h)
            };
        }
    }
}

package org.comneck.eval;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/**
 * Against values from another program (NumPy): harmonic-mean slopes, Hermite basis, trapezoids at two million points instead of primitives.
 */
class CurveTest {
    /** The example that Bjontegaard's spreadsheets and their descendants pass around. */
    private static final Curve FIRST =
            curve(new double[] {85.95, 157.11, 309.58, 686.76}, new double[] {31.42, 34.24, 37.18, 40.28});

    private static final Curve SECOND =
            curve(new double[] {112.75, 204.93, 407.8, 893.34}, new double[] {31.24, 34.17, 37.21, 40.39});

    private static Curve curve(double[] rates, double[] values) {
        return new Curve(IntStream.range(0, rates.length)
                .mapToObj(i -> new Curve.Point(rates[i], values[i]))
                .toList());
    }

    @Test
    void workedExamples() {
        assertEquals(31.37987820239754, SECOND.rateAgainst(FIRST).percent(), 1e-6);
        assertEquals(-1.1834724046224594, SECOND.valueAgainst(FIRST).percent(), 1e-8);
        assertEquals(List.of(), SECOND.rateAgainst(FIRST).warnings());
        Curve a = curve(new double[] {0.1, 0.2, 0.4, 0.8, 1.6}, new double[] {0.30, 0.42, 0.51, 0.55, 0.56});
        Curve b = curve(new double[] {0.08, 0.15, 0.33, 0.6}, new double[] {0.33, 0.45, 0.50, 0.557});
        assertEquals(-30.831944768632415, b.rateAgainst(a).percent(), 1e-6);
        assertEquals(0.04003318520777796, b.valueAgainst(a).percent(), 1e-9);
        assertEquals(0.24270929, a.rateAt(0.45), 1e-8);
    }

    @Test
    void halfTheRateIsMinusFiftyPercentEverywhere() {
        Curve half = curve(new double[] {42.975, 78.555, 154.79, 343.38}, new double[] {31.42, 34.24, 37.18, 40.28});
        assertEquals(-50, half.rateAgainst(FIRST).percent(), 1e-9);
        assertEquals(100, FIRST.rateAgainst(half).percent(), 1e-9);
        assertEquals(31.42, half.rateAgainst(FIRST).low(), 1e-12);
        assertEquals(154.79, half.rateAt(37.18), 1e-9);
        assertEquals(37.18, half.valueAt(154.79), 1e-9);
    }

    @Test
    void curvesThatDoNotOverlapSaySo() {
        Curve low = curve(new double[] {1, 2, 3, 4}, new double[] {1, 2, 3, 4});
        Curve high = curve(new double[] {1, 2, 3, 4}, new double[] {5, 6, 7, 8});
        assertTrue(Double.isNaN(low.rateAgainst(high).percent()));
        assertEquals(List.of("the curves do not overlap"), low.rateAgainst(high).warnings());
        assertEquals(-4, low.valueAgainst(high).percent(), 1e-12);
        Curve little = curve(new double[] {1, 2, 3, 4}, new double[] {3.5, 6, 7, 8});
        assertTrue(little.rateAgainst(low).warnings().getFirst().contains("overlap by 11 % only"));
        assertTrue(Double.isNaN(low.rateAt(5)) && Double.isNaN(low.valueAt(5)));
    }

    @Test
    void pointsThatAnotherBeatsAreLeftOut() {
        Curve curve = curve(new double[] {3, 1, 2, 4, 5}, new double[] {0.2, 0.1, 0.4, 0.3, 0.5});
        assertEquals(
                List.of(new Curve.Point(1, 0.1), new Curve.Point(2, 0.4), new Curve.Point(5, 0.5)), curve.points());
        assertEquals(2, curve.dropped());
        assertTrue(curve.rateAgainst(FIRST).warnings().getFirst().startsWith("fewer than 4 rising points (3 and 4)"));
        Curve flat = curve(new double[] {1, 2}, new double[] {0, 0});
        assertTrue(Double.isNaN(flat.rateAgainst(curve).percent()));
    }
}

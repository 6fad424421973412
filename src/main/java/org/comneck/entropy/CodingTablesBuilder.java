package org.comneck.entropy;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Function;
import java.util.function.IntToDoubleFunction;
import org.comneck.DamagedDataException;
import org.comneck.backend.CodingTables;
import org.comneck.tensor.Tensor;

/**
 * Makes {@link CodingTables} from probabilities, and reads and writes them as tensors of a model file.
 *
 * <p>A table has to fit 255 values, an escape and 12 bits. Among all shifts and a ladder of ranges the builder takes the one that costs the
 * fewest expected bits, side bits included; within a range, frequencies are the integers that cost the fewest. A larger shift, whose symbols
 * take the slower way through the decoder, must save at least a thousandth.
 */
public final class CodingTablesBuilder {
    private static final int TOTAL = 1 << CodingTables.PRECISION;
    private static final int MAX_SHIFT = 7;

    /** How far from 0 probabilities are asked for. */
    private static final int FARTHEST = 8192;

    /** Mass of the tails that may be ignored. */
    private static final double NEGLIGIBLE = 1e-10;

    private static final double SHIFT_MUST_SAVE = 0.999;

    private CodingTablesBuilder() {}

    /** A table for each scale. */
    public static CodingTables gaussian(float[] scales) {
        Table[] tables = new Table[scales.length];
        for (int t = 0; t < tables.length; t++) {
            double scale = scales[t];
            tables[t] = best(v -> GaussianConditional.probability(scale, v));
        }
        return combine(tables);
    }

    /** A table for each channel. */
    public static CodingTables factorized(FactorizedPrior prior) {
        Table[] tables = new Table[prior.channels()];
        for (int t = 0; t < tables.length; t++) {
            int channel = t;
            tables[t] = best(v -> prior.probability(channel, v));
        }
        return combine(tables);
    }

    /**
     * Tables as tensors: {@code prefix.shift}, {@code prefix.first}, {@code prefix.count}, I32 [tables], and {@code prefix.frequency}, I32
     * [tables,256], unused entries 0.
     */
    public static Map<String, Tensor> toTensors(String prefix, CodingTables tables) {
        int n = tables.tables();
        int width = CodingTables.MAX_COUNT + 1;
        int[] frequency = new int[n * width];
        for (int t = 0; t < n; t++) {
            System.arraycopy(tables.frequency()[t], 0, frequency, t * width, tables.frequency()[t].length);
        }
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        tensors.put(prefix + ".shift", Tensor.of(tables.shift(), n));
        tensors.put(prefix + ".first", Tensor.of(tables.first(), n));
        tensors.put(prefix + ".count", Tensor.of(tables.count(), n));
        tensors.put(prefix + ".frequency", Tensor.of(frequency, n, width));
        return tensors;
    }

    /**
     * Inverse of {@link #toTensors}; any integer types.
     *
     * @throws DamagedDataException when the tensors are not sound tables
     */
    public static CodingTables fromTensors(String prefix, Function<String, Tensor> tensors) {
        int[] shift = ints(tensors.apply(prefix + ".shift"), prefix + ".shift");
        int[] first = ints(tensors.apply(prefix + ".first"), prefix + ".first");
        int[] count = ints(tensors.apply(prefix + ".count"), prefix + ".count");
        int[] flat = ints(tensors.apply(prefix + ".frequency"), prefix + ".frequency");
        int width = CodingTables.MAX_COUNT + 1;
        if (flat.length != count.length * width) {
            throw new DamagedDataException(
                    prefix + ".frequency has " + flat.length + " elements, not " + count.length + " rows of " + width);
        }
        int[][] frequency = new int[count.length][];
        for (int t = 0; t < frequency.length; t++) {
            if (count[t] < 1 || count[t] >= width) {
                throw new DamagedDataException(prefix + ".count of table " + t + " is " + count[t]);
            }
            frequency[t] = Arrays.copyOfRange(flat, t * width, t * width + count[t] + 1);
        }
        try {
            return new CodingTables(CodingTables.PRECISION, shift, first, count, frequency);
        } catch (IllegalArgumentException e) {
            throw new DamagedDataException(prefix + ": " + e.getMessage(), -1, e);
        }
    }

    private static int[] ints(Tensor tensor, String name) {
        if (tensor.type().isFloat() || tensor.shape().elements() > CodingTables.MAX_TABLES * 256) {
            throw new DamagedDataException(name + " is " + tensor + ", not integers for at most 256 tables");
        }
        try {
            return tensor.toInts();
        } catch (ArithmeticException e) {
            throw new DamagedDataException(name + " holds integers beyond 32 bits", -1, e);
        }
    }

    private record Table(int shift, int first, int[] frequency, double bits) {}

    private static CodingTables combine(Table[] tables) {
        int[] shift = Arrays.stream(tables).mapToInt(Table::shift).toArray();
        int[] first = Arrays.stream(tables).mapToInt(Table::first).toArray();
        int[] count =
                Arrays.stream(tables).mapToInt(t -> t.frequency().length - 1).toArray();
        int[][] frequency = Arrays.stream(tables).map(Table::frequency).toArray(int[][]::new);
        return new CodingTables(CodingTables.PRECISION, shift, first, count, frequency);
    }

    /** The cheapest table for a distribution over the integers. */
    private static Table best(IntToDoubleFunction probability) {
        // Outwards from 0 until what is left does not matter.
        double mass = probability.applyAsDouble(0);
        int reach = 0;
        double[] right = new double[FARTHEST + 1];
        double[] left = new double[FARTHEST + 1];
        while (reach < FARTHEST && 1 - mass > NEGLIGIBLE) {
            reach++;
            right[reach] = probability.applyAsDouble(reach);
            left[reach] = probability.applyAsDouble(-reach);
            mass += right[reach] + left[reach];
        }
        double[] p = new double[2 * reach + 1];
        for (int v = 1; v <= reach; v++) {
            p[reach + v] = right[v];
            p[reach - v] = left[v];
        }
        p[reach] = probability.applyAsDouble(0);

        Table best = null;
        for (int shift = 0; shift <= MAX_SHIFT; shift++) {
            Table table = best(p, -reach, shift);
            if (table != null && (best == null || table.bits() < SHIFT_MUST_SAVE * best.bits())) {
                best = table;
            }
        }
        return best;
    }

    /** The cheapest range of a shift; null where none fits. {@code p[i]} is the probability of {@code low + i}. */
    private static Table best(double[] p, int low, int shift) {
        int firstGroup = low >> shift;
        double[] group = new double[(low + p.length - 1 >> shift) - firstGroup + 1];
        for (int i = 0; i < p.length; i++) {
            group[(low + i >> shift) - firstGroup] += p[i];
        }
        Table best = null;
        int lastFrom = -1;
        int lastTo = -1;
        for (double exponent = 6; exponent <= 20; exponent += 0.5) {
            double threshold = StrictMath.pow(2, -exponent);
            int from = 0;
            int to = group.length;
            while (from < to - 1 && group[from] < threshold) {
                from++;
            }
            while (to > from + 1 && group[to - 1] < threshold) {
                to--;
            }
            if (to - from > CodingTables.MAX_COUNT || from == lastFrom && to == lastTo) {
                continue;
            }
            lastFrom = from;
            lastTo = to;
            Table table = table(p, low, shift, Arrays.copyOfRange(group, from, to), firstGroup + from);
            if (best == null || table.bits() < best.bits()) {
                best = table;
            }
        }
        return best;
    }

    private static Table table(double[] p, int low, int shift, double[] coded, int first) {
        int start = first << shift;
        int end = (first + coded.length) << shift;
        double escape = 0;
        double bits = 0;
        for (int i = 0; i < p.length; i++) {
            int v = low + i;
            if (v < start || v >= end) {
                int distance = v < start ? start - v : v - end + 1;
                escape += p[i];
                bits += p[i] * (2 + 2 * (31 - Integer.numberOfLeadingZeros(distance)));
            } else {
                bits += p[i] * shift;
            }
        }
        double[] all = Arrays.copyOf(coded, coded.length + 1);
        all[coded.length] = escape;
        int[] frequency = frequencies(all);
        for (int q = 0; q < all.length; q++) {
            bits -= all[q] * StrictMath.log(frequency[q] / (double) TOTAL) / StrictMath.log(2);
        }
        return new Table(shift, first, frequency, bits);
    }

    /** Integers of at least 1 that sum to 4096 and minimise the expected code length: moves single units while that helps. */
    static int[] frequencies(double[] p) {
        int[] f = new int[p.length];
        int sum = 0;
        for (int i = 0; i < p.length; i++) {
            f[i] = Math.max(1, (int) (p[i] * TOTAL));
            sum += f[i];
        }
        while (sum != TOTAL) {
            if (sum < TOTAL) {
                f[mostGain(p, f)]++;
                sum++;
            } else {
                f[leastLoss(p, f)]--;
                sum--;
            }
        }
        while (true) {
            int to = mostGain(p, f);
            int from = leastLoss(p, f);
            if (from < 0 || to == from || gain(p[to], f[to]) <= gain(p[from], f[from] - 1)) {
                return f;
            }
            f[to]++;
            f[from]--;
        }
    }

    private static int mostGain(double[] p, int[] f) {
        int best = 0;
        for (int i = 1; i < f.length; i++) {
            best = gain(p[i], f[i]) > gain(p[best], f[best]) ? i : best;
        }
        return best;
    }

    private static int leastLoss(double[] p, int[] f) {
        int best = -1;
        for (int i = 0; i < f.length; i++) {
            if (f[i] > 1 && (best < 0 || gain(p[i], f[i] - 1) < gain(p[best], f[best] - 1))) {
                best = i;
            }
        }
        return best;
    }

    /** Expected nats saved by raising a frequency by one. */
    private static double gain(double p, int f) {
        return p * StrictMath.log1p(1.0 / f);
    }
}

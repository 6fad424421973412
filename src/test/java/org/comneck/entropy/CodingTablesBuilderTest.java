package org.comneck.entropy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Map;
import org.comneck.DamagedDataException;
import org.comneck.backend.CodingTables;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;

class CodingTablesBuilderTest {
    private static final CodingTables GAUSSIAN = CodingTablesBuilder.gaussian(GaussianConditional.scaleTable());

    /** Expected bits of a value drawn from the scale's own distribution: what the table takes, and what is needed at least. */
    private static double[] bits(int table, double scale) {
        double spent = 0;
        double needed = 0;
        int shift = GAUSSIAN.shift()[table];
        int first = GAUSSIAN.first()[table];
        int count = GAUSSIAN.count()[table];
        for (int v = -4096; v <= 4096; v++) {
            double p = GaussianConditional.probability(scale, v);
            int q = (v >> shift) - first;
            boolean escape = q < 0 || q >= count;
            double cost = 12 - Math.log(GAUSSIAN.frequency()[table][escape ? count : q]) / Math.log(2);
            if (escape) {
                int distance = q < 0 ? (first << shift) - v : v - (first + count << shift) + 1;
                cost += 2 + 2 * (31 - Integer.numberOfLeadingZeros(distance));
            } else {
                cost += shift;
            }
            spent += p * cost;
            needed -= p > 0 ? p * Math.log(p) / Math.log(2) : 0;
        }
        return new double[] {spent, needed};
    }

    @Test
    void everyScaleCostsNearItsEntropy() {
        float[] scales = GaussianConditional.scaleTable();
        for (int t = 0; t < scales.length; t++) {
            double[] bits = bits(t, scales[t]);
            if (Boolean.getBoolean("comneck.print")) {
                System.err.printf(
                        "%d scale %.3f shift %d count %d needed %.5f spent %.5f %.3f%%%n",
                        t,
                        scales[t],
                        GAUSSIAN.shift()[t],
                        GAUSSIAN.count()[t],
                        bits[1],
                        bits[0],
                        100 * (bits[0] / bits[1] - 1));
            }
            // half a thousandth of a bit is what an escape of frequency 1 takes; the rest is the 12-bit grid
            assertTrue(
                    bits[0] <= bits[1] * 1.004 + 0.0006,
                    "table " + t + " of scale " + scales[t] + " spends " + bits[0] + " bits where " + bits[1]
                            + " are needed");
        }
    }

    @Test
    void frequenciesAreTheCheapestIntegers() {
        assertArrayEquals(
                new int[] {2047, 1024, 1024, 1}, CodingTablesBuilder.frequencies(new double[] {0.5, 0.25, 0.25, 0}));
        assertArrayEquals(new int[] {4095, 1}, CodingTablesBuilder.frequencies(new double[] {1, 0}));
    }

    @Test
    void tensorsKeepTheTables() {
        Map<String, Tensor> tensors = CodingTablesBuilder.toTensors("entropy.gaussian", GAUSSIAN);
        assertEquals("I32 [64,256]", tensors.get("entropy.gaussian.frequency").toString());
        CodingTables read = CodingTablesBuilder.fromTensors("entropy.gaussian", tensors::get);
        assertArrayEquals(GAUSSIAN.shift(), read.shift());
        assertArrayEquals(GAUSSIAN.first(), read.first());
        assertArrayEquals(GAUSSIAN.count(), read.count());
        assertArrayEquals(GAUSSIAN.frequency(), read.frequency());
    }

    @Test
    void unsoundTablesOfAFileAreDamage() {
        Map<String, Tensor> tensors = CodingTablesBuilder.toTensors("entropy.gaussian", GAUSSIAN);
        int[] count = GAUSSIAN.count();
        count[3]++;
        tensors.put("entropy.gaussian.count", Tensor.of(count, 64));
        DamagedDataException e = assertThrows(
                DamagedDataException.class, () -> CodingTablesBuilder.fromTensors("entropy.gaussian", tensors::get));
        assertTrue(e.getMessage().contains("table 3"), e.getMessage());
    }
}

package org.comneck.entropy;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.function.IntToDoubleFunction;
import org.comneck.model.SafetensorsFile;
import org.comneck.model.SeededWeights;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/**
 * Our probabilities against the 16-bit tables that the published code computes in f32. Offsets and lengths are equal. A probability in f32 is
 * up to 6e-8 off, 0.004 of a 16-bit unit, which now and then turns a rounding, and with it the sum that all are rescaled by: of the entries
 * of the CDFs 796 of 27,256 (Gaussian) and 65 of 5,362 (factorized) differ, by 2 of 65,536 at most.
 */
class PublishedTablesTest {
    private static Path shared(String file) {
        Path path = Path.of(System.getProperty("comneck.shared", "../shared"))
                .resolve("reference")
                .resolve(file);
        Assumptions.assumeTrue(Files.exists(path), "skipped: no " + path);
        return path;
    }

    /** The published quantisation: rounds each probability to 16 bits, rescales, and lets what became 0 steal from the smallest above 1. */
    private static int[] quantizedCdf(double[] pmf) {
        long[] cdf = new long[pmf.length + 1];
        for (int i = 0; i < pmf.length; i++) {
            cdf[i + 1] = Math.round((double) (float) pmf[i] * 65536);
        }
        long total = Arrays.stream(cdf).sum();
        for (int i = 0; i < cdf.length; i++) {
            cdf[i] = 65536 * cdf[i] / total;
        }
        for (int i = 1; i < cdf.length; i++) {
            cdf[i] += cdf[i - 1];
        }
        cdf[cdf.length - 1] = 65536;
        for (int i = 0; i + 1 < cdf.length; i++) {
            if (cdf[i] == cdf[i + 1]) {
                long best = Long.MAX_VALUE;
                int from = -1;
                for (int j = 0; j + 1 < cdf.length; j++) {
                    long frequency = cdf[j + 1] - cdf[j];
                    if (frequency > 1 && frequency < best) {
                        best = frequency;
                        from = j;
                    }
                }
                if (from < i) {
                    for (int j = from + 1; j <= i; j++) {
                        cdf[j]--;
                    }
                } else {
                    for (int j = i + 1; j <= from; j++) {
                        cdf[j]++;
                    }
                }
            }
        }
        return Arrays.stream(cdf).mapToInt(Math::toIntExact).toArray();
    }

    private static double[] pmf(int first, int length, double tail, IntToDoubleFunction probability) {
        double[] pmf = new double[length + 1];
        for (int i = 0; i < length; i++) {
            pmf[i] = probability.applyAsDouble(first + i);
        }
        pmf[length] = tail;
        return pmf;
    }

    /** Entries that differ, and the largest difference. */
    private record Difference(int entries, int differing, int largest) {
        Difference plus(int[] ours, int[] theirs, int from) {
            int count = 0;
            int most = largest;
            for (int i = 0; i < ours.length; i++) {
                int d = Math.abs(ours[i] - theirs[from + i]);
                count += d > 0 ? 1 : 0;
                most = Math.max(most, d);
            }
            return new Difference(entries + ours.length, differing + count, most);
        }
    }

    @Test
    void gaussianConditional() {
        try (SafetensorsFile file = SafetensorsFile.open(shared("cdf-tables.safetensors"))) {
            float[] published =
                    file.tensors().get("gaussian_conditional.scale_table").toFloats();
            float[] ours = GaussianConditional.scaleTable();
            for (int i = 0; i < ours.length; i++) {
                assertTrue(Math.abs(ours[i] - published[i]) <= Math.ulp(ours[i]), "scale " + i);
            }
            int[] offset = file.tensors().get("gaussian_conditional._offset").toInts();
            int[] length =
                    file.tensors().get("gaussian_conditional._cdf_length").toInts();
            int[] cdf =
                    file.tensors().get("gaussian_conditional._quantized_cdf").toInts();
            int width = cdf.length / length.length;
            // -Phi^-1(tail_mass / 2) with the published tail mass of 1e-9
            double multiplier = 6.109410204869;
            Difference difference = new Difference(0, 0, 0);
            for (int t = 0; t < length.length; t++) {
                double scale = published[t];
                int center = (int) Math.ceil(scale * multiplier);
                assertEquals(-center, offset[t], "offset of table " + t);
                assertEquals(2 * center + 3, length[t], "length of table " + t);
                double tail = 2 * GaussianConditional.upperTail((0.5 + center) / scale);
                int[] computed = quantizedCdf(
                        pmf(-center, 2 * center + 1, tail, v -> GaussianConditional.probability(scale, v)));
                difference = difference.plus(computed, cdf, t * width);
            }
            report("gaussian_conditional", difference);
            assertTrue(difference.largest() <= 2, difference.toString());
            assertTrue(difference.differing() <= difference.entries() / 25, difference.toString());
        }
    }

    @Test
    void factorizedPrior() throws IOException {
        JsonNode weights = new ObjectMapper().readTree(shared("weights.json").toFile());
        FactorizedPrior prior = FactorizedPrior.of(name -> weight(weights, "entropy_bottleneck." + name));
        try (SafetensorsFile file = SafetensorsFile.open(shared("cdf-tables.safetensors"))) {
            int[] offset = file.tensors().get("entropy_bottleneck._offset").toInts();
            int[] length = file.tensors().get("entropy_bottleneck._cdf_length").toInts();
            int[] cdf = file.tensors().get("entropy_bottleneck._quantized_cdf").toInts();
            assertEquals(offset.length, prior.channels());
            int width = cdf.length / length.length;
            Difference difference = new Difference(0, 0, 0);
            int longest = Arrays.stream(length).max().orElseThrow() - 2;
            for (int c = 0; c < length.length; c++) {
                int channel = c;
                float median = prior.median(c);
                int minima = Math.max(0, (int) Math.ceil(median - prior.quantile(c, 0)));
                int maxima = Math.max(0, (int) Math.ceil(prior.quantile(c, 2) - median));
                assertEquals(-minima, offset[c], "offset of channel " + c);
                assertEquals(minima + maxima + 3, length[c], "length of channel " + c);
                // the published code takes the upper tail where the longest channel would end
                double tail = FactorizedPrior.sigmoid(prior.logit(c, median - minima - 0.5))
                        + FactorizedPrior.sigmoid(-prior.logit(c, median - minima + longest - 0.5));
                int[] computed =
                        quantizedCdf(pmf(-minima, minima + maxima + 1, tail, v -> prior.probability(channel, v)));
                difference = difference.plus(computed, cdf, c * width);
            }
            report("entropy_bottleneck", difference);
            assertTrue(difference.largest() <= 2, difference.toString());
            assertTrue(difference.differing() <= difference.entries() / 25, difference.toString());
        }
    }

    private static void report(String name, Difference difference) {
        if (Boolean.getBoolean("comneck.print")) {
            System.err.println(name + " " + difference);
        }
    }

    private static Tensor weight(JsonNode weights, String name) {
        JsonNode spec = weights.get("elic").get(name);
        long[] sizes = new long[spec.get("shape").size()];
        Arrays.setAll(sizes, d -> spec.get("shape").get(d).asLong());
        long seed = weights.get("seed").asLong();
        return SeededWeights.tensor(name, seed, Shape.of(sizes), doubles(spec.get("mean")), doubles(spec.get("spread")))
                .toTensor();
    }

    private static double[] doubles(JsonNode node) {
        double[] values = new double[Math.max(1, node.size())];
        Arrays.setAll(values, i -> node.isArray() ? node.get(i).asDouble() : node.asDouble());
        return values;
    }
}

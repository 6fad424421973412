package org.comneck.model;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;

/**
 * Tensors made from their names, so that full-size networks can be rebuilt anywhere without storing them: for tests and benchmarks.
 *
 * <p>Element i (row-major) of tensor {@code name} is, in 64-bit wrapping arithmetic,
 *
 * <pre>
 *   h    = fnv1a64(utf8(name)) + seed * 0x9E3779B97F4A7C15
 *   z    = h + (i + 1) * 0x9E3779B97F4A7C15                     splitmix64
 *   z    = (z ^ (z &gt;&gt;&gt; 30)) * 0xBF58476D1CE4E5B9
 *   z    = (z ^ (z &gt;&gt;&gt; 27)) * 0x94D049BB133111EB
 *   z    =  z ^ (z &gt;&gt;&gt; 31)
 *   u    = (z &gt;&gt;&gt; 40) * 2^-23 - 1                                double, in [-1, 1)
 *   w[i] = (float) (mean + spread * u)                          double arithmetic, one rounding
 * </pre>
 *
 * A tensor may have several means and spreads: one for each index of its last dimension.
 */
public final class SeededWeights {
    private static final long GOLDEN = 0x9E3779B97F4A7C15L;
    private static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private SeededWeights() {}

    /** F32 elements around one mean. */
    public static TensorSource tensor(String name, long seed, Shape shape, double mean, double spread) {
        return tensor(name, seed, shape, new double[] {mean}, new double[] {spread});
    }

    /**
     * F32 elements; means and spreads have one entry for all elements, or one for each index of the last dimension.
     *
     * @throws IllegalArgumentException when their number fits neither
     */
    public static TensorSource tensor(String name, long seed, Shape shape, double[] means, double[] spreads) {
        int period = means.length;
        if (spreads.length != period || (period != 1 && (shape.rank() == 0 || shape.size(-1) != period))) {
            throw new IllegalArgumentException(
                    name + " " + shape + " with " + means.length + " means and " + spreads.length + " spreads");
        }
        double[] mean = means.clone();
        double[] spread = spreads.clone();
        long base = fnv1a64(name) + seed * GOLDEN;
        return new TensorSource() {
            @Override
            public ElementType type() {
                return ElementType.F32;
            }

            @Override
            public Shape shape() {
                return shape;
            }

            @Override
            public void read(long first, MemorySegment destination) {
                int count = Math.toIntExact(destination.byteSize() / Float.BYTES);
                double mean0 = mean[0];
                double spread0 = spread[0];
                for (int i = 0; i < count; i++) {
                    long z = mix(base + (first + i + 1) * GOLDEN);
                    if (period > 1) {
                        int k = (int) ((first + i) % period);
                        mean0 = mean[k];
                        spread0 = spread[k];
                    }
                    destination.setAtIndex(F32, i, (float) (mean0 + spread0 * ((z >>> 40) * 0x1p-23 - 1.0)));
                }
            }

            @Override
            public String toString() {
                return "seeded " + name + " " + shape;
            }
        };
    }

    private static long mix(long z) {
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    /** The 64-bit FNV-1a hash of a text's UTF-8 bytes. */
    static long fnv1a64(String text) {
        long hash = 0xCBF29CE484222325L;
        for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
            hash = (hash ^ (b & 0xFF)) * 0x100000001B3L;
        }
        return hash;
    }
}

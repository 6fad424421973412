package org.comneck.engine;

/**
 * Separable antialiased resampling of 8-bit RGB, in the arithmetic that Pillow's {@code Image.resize} made the standard of published
 * protocols: weights in f64, normalised, rounded to 22 fractional bits; rows first, rounded to 8 bits, then columns.
 */
final class Resampler {
    /** Fractional bits of a weight: 8-bit samples times weights of up to 2 in magnitude stay within 32 bits. */
    private static final int PRECISION_BITS = 32 - 8 - 2;

    /** The taps of one axis: output i is the sum of weights[i * most + k] * source[first[i] + k], k < count[i]. */
    private record Taps(int most, int[] first, int[] count, int[] weights) {}

    private Resampler() {}

    /** rgb (height,width,3) to (newHeight,newWidth,3). */
    static byte[] resize(byte[] rgb, int width, int height, int newWidth, int newHeight, Resample filter) {
        byte[] wide = rgb;
        if (newWidth != width) {
            wide = new byte[Math.multiplyExact(3, Math.multiplyExact(newWidth, height))];
            horizontal(rgb, width, wide, newWidth, height, taps(width, newWidth, filter));
        }
        if (newHeight == height) {
            return wide == rgb ? rgb.clone() : wide;
        }
        byte[] out = new byte[Math.multiplyExact(3, Math.multiplyExact(newWidth, newHeight))];
        vertical(wide, newWidth, out, newHeight, taps(height, newHeight, filter));
        return out;
    }

    private static Taps taps(int size, int newSize, Resample filter) {
        double scale = (double) size / newSize;
        double stretch = Math.max(scale, 1);
        double support = filter.support() * stretch;
        int most = (int) Math.ceil(support) * 2 + 1;
        int[] first = new int[newSize];
        int[] count = new int[newSize];
        int[] weights = new int[Math.multiplyExact(newSize, most)];
        double[] row = new double[most];
        for (int i = 0; i < newSize; i++) {
            double centre = (i + 0.5) * scale;
            int from = Math.max((int) (centre - support + 0.5), 0);
            int n = Math.min((int) (centre + support + 0.5), size) - from;
            double sum = 0;
            for (int k = 0; k < n; k++) {
                row[k] = filter.weight((k + from - centre + 0.5) * (1 / stretch));
                sum += row[k];
            }
            for (int k = 0; k < n; k++) {
                double weight = sum == 0 ? row[k] : row[k] / sum;
                weights[i * most + k] = (int) (weight * (1 << PRECISION_BITS) + (weight < 0 ? -0.5 : 0.5));
            }
            first[i] = from;
            count[i] = n;
        }
        return new Taps(most, first, count, weights);
    }

    private static void horizontal(byte[] rgb, int width, byte[] out, int newWidth, int height, Taps taps) {
        for (int y = 0; y < height; y++) {
            int row = y * width * 3;
            int to = y * newWidth * 3;
            for (int x = 0; x < newWidth; x++) {
                int r = 1 << (PRECISION_BITS - 1);
                int g = r;
                int b = r;
                int from = row + taps.first[x] * 3;
                int w = x * taps.most;
                for (int k = 0; k < taps.count[x]; k++) {
                    int weight = taps.weights[w + k];
                    r += (rgb[from] & 0xFF) * weight;
                    g += (rgb[from + 1] & 0xFF) * weight;
                    b += (rgb[from + 2] & 0xFF) * weight;
                    from += 3;
                }
                out[to++] = clip(r);
                out[to++] = clip(g);
                out[to++] = clip(b);
            }
        }
    }

    private static void vertical(byte[] rgb, int width, byte[] out, int newHeight, Taps taps) {
        int stride = width * 3;
        int[] sums = new int[stride];
        for (int y = 0; y < newHeight; y++) {
            java.util.Arrays.fill(sums, 1 << (PRECISION_BITS - 1));
            for (int k = 0; k < taps.count[y]; k++) {
                int weight = taps.weights[y * taps.most + k];
                int from = (taps.first[y] + k) * stride;
                for (int x = 0; x < stride; x++) {
                    sums[x] += (rgb[from + x] & 0xFF) * weight;
                }
            }
            int to = y * stride;
            for (int x = 0; x < stride; x++) {
                out[to + x] = clip(sums[x]);
            }
        }
    }

    private static byte clip(int sum) {
        return (byte) Math.clamp(sum >> PRECISION_BITS, 0, 255);
    }
}

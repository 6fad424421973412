package org.comneck.engine;

import java.util.Arrays;
import org.comneck.backend.Taps;

/**
 * Separable antialiased resampling of 8-bit RGB, in the arithmetic that Pillow's {@code Image.resize} made the standard of published
 * protocols: weights in f64, normalised, rounded to 22 fractional bits; rows first, rounded to 8 bits, then columns.
 */
final class Resampler {
    private Resampler() {}

    /** rgb (height,width,3) to (newHeight,newWidth,3). */
    static byte[] resize(byte[] rgb, int width, int height, int newWidth, int newHeight, Resample filter) {
        byte[] wide = rgb;
        if (newWidth != width) {
            wide = new byte[Math.multiplyExact(3, Math.multiplyExact(newWidth, height))];
            horizontal(rgb, width, wide, height, taps(width, newWidth, filter));
        }
        if (newHeight == height) {
            return wide == rgb ? rgb.clone() : wide;
        }
        byte[] out = new byte[Math.multiplyExact(3, Math.multiplyExact(newWidth, newHeight))];
        vertical(wide, newWidth, out, taps(height, newHeight, filter));
        return out;
    }

    /** What each element of an axis is made of. */
    static Taps taps(int size, int newSize, Resample filter) {
        double scale = (double) size / newSize;
        double stretch = Math.max(scale, 1);
        double support = filter.support() * stretch;
        int most = (int) Math.ceil(support) * 2 + 1;
        int[] values = new int[Math.multiplyExact(newSize, most + 2)];
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
            int at = i * (most + 2);
            values[at] = from;
            values[at + 1] = n;
            for (int k = 0; k < n; k++) {
                double weight = sum == 0 ? row[k] : row[k] / sum;
                values[at + 2 + k] = (int) (weight * (1 << Taps.PRECISION_BITS) + (weight < 0 ? -0.5 : 0.5));
            }
        }
        return new Taps(size, most, values);
    }

    private static void horizontal(byte[] rgb, int width, byte[] out, int height, Taps taps) {
        int newWidth = taps.outputs();
        int[] values = taps.values();
        int to = 0;
        for (int y = 0; y < height; y++) {
            int row = y * width * 3;
            for (int x = 0; x < newWidth; x++) {
                int r = 1 << (Taps.PRECISION_BITS - 1);
                int g = r;
                int b = r;
                int from = row + taps.first(x) * 3;
                int w = x * (taps.most() + 2) + 2;
                for (int end = w + taps.count(x); w < end; w++) {
                    int weight = values[w];
                    r += (rgb[from] & 0xFF) * weight;
                    g += (rgb[from + 1] & 0xFF) * weight;
                    b += (rgb[from + 2] & 0xFF) * weight;
                    from += 3;
                }
                out[to++] = Taps.round(r);
                out[to++] = Taps.round(g);
                out[to++] = Taps.round(b);
            }
        }
    }

    private static void vertical(byte[] rgb, int width, byte[] out, Taps taps) {
        int stride = width * 3;
        int[] sums = new int[stride];
        for (int y = 0; y < taps.outputs(); y++) {
            Arrays.fill(sums, 1 << (Taps.PRECISION_BITS - 1));
            for (int k = 0; k < taps.count(y); k++) {
                int weight = taps.weight(y, k);
                int from = (taps.first(y) + k) * stride;
                for (int x = 0; x < stride; x++) {
                    sums[x] += (rgb[from + x] & 0xFF) * weight;
                }
            }
            int to = y * stride;
            for (int x = 0; x < stride; x++) {
                out[to + x] = Taps.round(sums[x]);
            }
        }
    }
}

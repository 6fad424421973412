package org.comneck.eval;

import org.comneck.engine.Photo;

/** How alike two pictures are. */
public final class PictureQuality {
    /** Smallest side that MS-SSIM is defined for: five scales, eleven taps. */
    public static final int LEAST_SIDE = 161;

    /** Of Wang, Simoncelli and Bovik, 2003. */
    private static final double[] SCALE_WEIGHTS = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};

    private static final double C1 = 0.01 * 255 * 0.01 * 255;
    private static final double C2 = 0.03 * 255 * 0.03 * 255;
    private static final double[] WINDOW = window(11, 1.5);

    private PictureQuality() {}

    /** Peak signal-to-noise ratio in dB of 8-bit RGB, all three channels together; infinite for equal pictures. */
    public static double psnr(Photo a, Photo b) {
        sameSize(a, b);
        byte[] x = a.rgb();
        byte[] y = b.rgb();
        long sum = 0;
        for (int i = 0; i < x.length; i++) {
            int difference = (x[i] & 0xFF) - (y[i] & 0xFF);
            sum += difference * difference;
        }
        return 10 * Math.log10(255.0 * 255.0 * x.length / sum);
    }

    /**
     * Multi-scale structural similarity, as learned codecs publish it (pytorch-msssim): Gaussian window of eleven taps, deviation 1.5, valid
     * positions only; five scales, halved by averages of two by two with zero padding of odd sides; each RGB channel alone, then their mean.
     *
     * @return at most 1, or NaN when a side is shorter than {@value #LEAST_SIDE} pixels
     */
    public static double msSsim(Photo a, Photo b) {
        sameSize(a, b);
        if (Math.min(a.width(), a.height()) < LEAST_SIDE) {
            return Double.NaN;
        }
        double sum = 0;
        for (int c = 0; c < 3; c++) {
            sum += msSsim(plane(a, c), plane(b, c), a.width(), a.height());
        }
        return sum / 3;
    }

    private static double msSsim(float[] a, float[] b, int width, int height) {
        double product = 1;
        for (int scale = 0; scale < SCALE_WEIGHTS.length; scale++) {
            if (scale > 0) {
                a = half(a, width, height);
                b = half(b, width, height);
                width = (width + 1) / 2;
                height = (height + 1) / 2;
            }
            double term = ssim(a, b, width, height, scale == SCALE_WEIGHTS.length - 1);
            product *= Math.pow(Math.max(term, 0), SCALE_WEIGHTS[scale]);
        }
        return product;
    }

    /** Mean of contrast and structure, and of luminance too at the last scale. */
    private static double ssim(float[] a, float[] b, int width, int height, boolean luminance) {
        int n = a.length;
        float[] aa = new float[n];
        float[] bb = new float[n];
        float[] ab = new float[n];
        for (int i = 0; i < n; i++) {
            aa[i] = a[i] * a[i];
            bb[i] = b[i] * b[i];
            ab[i] = a[i] * b[i];
        }
        double[] meanA = blur(a, width, height);
        double[] meanB = blur(b, width, height);
        double[] meanAa = blur(aa, width, height);
        double[] meanBb = blur(bb, width, height);
        double[] meanAb = blur(ab, width, height);
        double sum = 0;
        for (int i = 0; i < meanA.length; i++) {
            double squareA = meanA[i] * meanA[i];
            double squareB = meanB[i] * meanB[i];
            double both = meanA[i] * meanB[i];
            double value = (2 * (meanAb[i] - both) + C2) / (meanAa[i] - squareA + meanBb[i] - squareB + C2);
            if (luminance) {
                value *= (2 * both + C1) / (squareA + squareB + C1);
            }
            sum += value;
        }
        return sum / meanA.length;
    }

    /** Valid positions only: (height-10, width-10). */
    private static double[] blur(float[] plane, int width, int height) {
        int taps = WINDOW.length;
        int w = width - taps + 1;
        int h = height - taps + 1;
        double[] rows = new double[w * height];
        for (int y = 0; y < height; y++) {
            for (int k = 0; k < taps; k++) {
                double weight = WINDOW[k];
                int from = y * width + k;
                int to = y * w;
                for (int x = 0; x < w; x++) {
                    rows[to + x] += weight * plane[from + x];
                }
            }
        }
        double[] out = new double[w * h];
        for (int y = 0; y < h; y++) {
            for (int k = 0; k < taps; k++) {
                double weight = WINDOW[k];
                int from = (y + k) * w;
                int to = y * w;
                for (int x = 0; x < w; x++) {
                    out[to + x] += weight * rows[from + x];
                }
            }
        }
        return out;
    }

    /** Averages of two by two; an odd side is padded by a zero before its first element. */
    private static float[] half(float[] plane, int width, int height) {
        int w = (width + 1) / 2;
        int h = (height + 1) / 2;
        int left = width % 2;
        int top = height % 2;
        float[] out = new float[w * h];
        for (int y = 0; y < h; y++) {
            for (int x = 0; x < w; x++) {
                float sum = 0;
                for (int i = 0; i < 4; i++) {
                    int row = 2 * y - top + i / 2;
                    int column = 2 * x - left + i % 2;
                    if (row >= 0 && column >= 0) {
                        sum += plane[row * width + column];
                    }
                }
                out[y * w + x] = sum / 4;
            }
        }
        return out;
    }

    private static float[] plane(Photo photo, int channel) {
        byte[] rgb = photo.rgb();
        float[] out = new float[rgb.length / 3];
        for (int i = 0; i < out.length; i++) {
            out[i] = rgb[3 * i + channel] & 0xFF;
        }
        return out;
    }

    private static double[] window(int taps, double deviation) {
        double[] out = new double[taps];
        double sum = 0;
        for (int i = 0; i < taps; i++) {
            double distance = i - taps / 2;
            out[i] = Math.exp(-distance * distance / (2 * deviation * deviation));
            sum += out[i];
        }
        for (int i = 0; i < taps; i++) {
            out[i] /= sum;
        }
        return out;
    }

    private static void sameSize(Photo a, Photo b) {
        if (a.width() != b.width() || a.height() != b.height()) {
            throw new IllegalArgumentException(a + " and " + b + " cannot be compared");
        }
    }
}

package org.comneck.entropy;

/**
 * The conditional of y: a normal distribution of mean 0, integrated over unit intervals, for each entry of a table of scales (Minnen et al.
 * 2018; the table of CompressAI).
 */
public final class GaussianConditional {
    /** Entries of the published table of scales. */
    public static final int LEVELS = 64;

    private static final double SMALLEST = 0.11;
    private static final double LARGEST = 256;

    private GaussianConditional() {}

    /** The published table, 64 scales from 0.11 to 256 in equal ratios, each rounded to f32. */
    public static float[] scaleTable() {
        // torch.linspace in f32 fills from both ends; its exp is within one unit in the last place of ours.
        float low = (float) StrictMath.log(SMALLEST);
        float high = (float) StrictMath.log(LARGEST);
        float step = (high - low) / (LEVELS - 1);
        float[] scales = new float[LEVELS];
        for (int i = 0; i < LEVELS; i++) {
            float exponent = i < LEVELS / 2
                    ? (float) (low + (double) step * i)
                    : (float) (high - (double) step * (LEVELS - 1 - i));
            scales[i] = (float) StrictMath.exp(exponent);
        }
        return scales;
    }

    /** All scales but the last: the index of a scale is the number of these that are smaller. */
    public static float[] thresholds(float[] scales) {
        return java.util.Arrays.copyOf(scales, scales.length - 1);
    }

    /** Probability of the integer {@code value} at this scale: the normal distribution's mass within half of it. */
    public static double probability(double scale, int value) {
        double distance = Math.abs(value);
        return upperTail((distance - 0.5) / scale) - upperTail((distance + 0.5) / scale);
    }

    /** Mass of the standard normal distribution above x. */
    static double upperTail(double x) {
        return x < 0 ? 1 - upperTail(-x) : 0.5 * complementaryError(x * StrictMath.sqrt(0.5));
    }

    /** erfc(x) for x of at least 0, to about 1e-13 of its value. */
    private static double complementaryError(double x) {
        double gauss = StrictMath.exp(-x * x) / StrictMath.sqrt(StrictMath.PI);
        if (x < 2.5) {
            // erf(x) = 2/sqrt(pi) exp(-x^2) * sum of 2^n x^(2n+1) / (2n+1)!!: all terms positive
            double term = x;
            double sum = x;
            for (int n = 1; n < 100 && term > 1e-18 * sum; n++) {
                term *= 2 * x * x / (2 * n + 1);
                sum += term;
            }
            return 1 - 2 * gauss * sum;
        }
        // continued fraction, from its far end
        double fraction = 0;
        for (int n = 80; n >= 1; n--) {
            fraction = n / 2.0 / (x + fraction);
        }
        return gauss / (x + fraction);
    }
}

package org.comneck.backend.reference;

/**
 * Transcendental functions as fixed sequences of IEEE binary32 operations, so that every implementation gives the same bits. The C++ twin
 * is {@code src/main/cpp/include/canonical_math.h}; docs/arithmetic.md is the definition in words.
 */
public final class CanonicalMath {
    private CanonicalMath() {}

    /**
     * e^x. Inputs above 88 count as 88, inputs below -87 give 0 exactly, NaN gives NaN. Cody-Waite reduction and the degree-5 polynomial of
     * Cephes' expf; within 2 units in the last place.
     */
    public static float exp(float x) {
        if (x < -87f) {
            return 0f;
        }
        if (x > 88f) {
            x = 88f;
        }
        float n = (float) Math.rint(x * 1.44269504088896341f);
        float r = Math.fma(n, -0.693359375f, x);
        r = Math.fma(n, 2.12194440e-4f, r);
        float p = 1.9875691500e-4f;
        p = Math.fma(p, r, 1.3981999507e-3f);
        p = Math.fma(p, r, 8.3334519073e-3f);
        p = Math.fma(p, r, 4.1665795894e-2f);
        p = Math.fma(p, r, 1.6666665459e-1f);
        p = Math.fma(p, r, 5.0000001201e-1f);
        float e = Math.fma(p, r * r, r) + 1f;
        return e * Float.intBitsToFloat(((int) n + 127) << 23);
    }

    /** 1 / (1 + e^-x). */
    public static float sigmoid(float x) {
        return 1f / (1f + exp(-x));
    }

    /** x * sigmoid(1.702 x). */
    public static float quickGelu(float x) {
        return x * sigmoid(1.702f * x);
    }

    /** Error function, Abramowitz and Stegun 7.1.26; absolute error below 3e-7. */
    public static float erf(float x) {
        float a = Math.abs(x);
        float t = 1f / Math.fma(0.3275911f, a, 1f);
        float p = 1.061405429f;
        p = Math.fma(p, t, -1.453152027f);
        p = Math.fma(p, t, 1.421413741f);
        p = Math.fma(p, t, -0.284496736f);
        p = Math.fma(p, t, 0.254829592f);
        float y = Math.fma(-(p * t), exp(-(a * a)), 1f);
        return Math.copySign(y, x);
    }

    /** x/2 * (1 + erf(x / sqrt 2)). */
    public static float gelu(float x) {
        return (0.5f * x) * (1f + erf(x * 0.70710678118654752f));
    }
}

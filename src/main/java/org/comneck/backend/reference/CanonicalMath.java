package org.comneck.backend.reference;

/**
 * Transcendental functions as fixed sequences of IEEE binary32 operations, so that every implementation gives the same bits. The C++ twin
 * is {@code src/main/cpp/include/canonical_math.h}; docs/arithmetic.md is the definition in words.
 *
 * <p>A NaN gives the one quiet NaN 0x7FC00000 ({@link #relu} gives 0).
 */
public final class CanonicalMath {
    /** Adding it leaves a number rounded to the nearest integer, which also stands in the low bits of the sum. */
    private static final float ROUNDER = 12582912f;

    /**
     * p(t) of erfc(a) = t * p(t) * e^(-a^2), t = 1 / (1 + 0.38 a): relative minimax for 0 <= a <= 9.4, error 2e-8 before rounding.
     */
    private static final float[] ERFC = {
        0.21440959f,
        0.213940993f,
        0.203763396f,
        0.139171451f,
        0.228878587f,
        -0.159895957f,
        0.362567335f,
        -0.261684984f,
        0.0588496402f
    };

    private CanonicalMath() {}

    /**
     * e^x: 0 below -87.3, infinity above 88.72, else within 1 unit in the last place or so. Cody-Waite reduction x = n ln 2 + r and the
     * degree-5 polynomial of Cephes' expf.
     */
    public static float exp(float x) {
        if (x != x) {
            return Float.NaN;
        }
        if (x < -87.3f) {
            return 0f;
        }
        if (88.72f < x) {
            return Float.POSITIVE_INFINITY;
        }
        float t = Math.fma(x, 1.44269504088896341f, ROUNDER);
        float n = t - ROUNDER;
        float r = Math.fma(n, -0.693359375f, x);
        r = Math.fma(n, 2.12194440e-4f, r);
        float p = 1.9875691500e-4f;
        p = Math.fma(p, r, 1.3981999507e-3f);
        p = Math.fma(p, r, 8.3334519073e-3f);
        p = Math.fma(p, r, 4.1665795894e-2f);
        p = Math.fma(p, r, 1.6666665459e-1f);
        p = Math.fma(p, r, 5.0000001201e-1f);
        float e = Math.fma(p, r * r, r) + 1f;
        return Float.intBitsToFloat(Float.floatToRawIntBits(e) + (Float.floatToRawIntBits(t) << 23));
    }

    /** 1 / (1 + e^-x). */
    public static float sigmoid(float x) {
        return 1f / (1f + exp(-x));
    }

    /** x * sigmoid(1.702 x), with x at least -100, where the result is -0: minus infinity gives -0 too, not a NaN. */
    public static float quickGelu(float x) {
        if (x != x) {
            return Float.NaN;
        }
        float c = -100f > x ? -100f : x;
        return c * sigmoid(1.702f * c);
    }

    /** t * p(t) of the table above, for a >= 0. */
    private static float erfcFactor(float a) {
        float t = 1f / Math.fma(0.38f, a, 1f);
        float p = ERFC[8];
        for (int i = 7; i >= 0; i--) {
            p = Math.fma(p, t, ERFC[i]);
        }
        return p * t;
    }

    /** Error function: sign(x) * (1 - erfc(|x|)); absolute error below 4e-7. */
    public static float erf(float x) {
        if (x != x) {
            return Float.NaN;
        }
        float a = Math.abs(x);
        float y = Math.fma(-erfcFactor(a), exp(-(a * a)), 1f);
        return Math.copySign(y, x);
    }

    /**
     * x * Phi(x) = x/2 * (1 + erf(x / sqrt 2)), by erfc on the negative side, where 1 + erf would cancel; x is at least -100, as in {@link
     * #quickGelu}.
     */
    public static float gelu(float x) {
        if (x != x) {
            return Float.NaN;
        }
        float c = -100f > x ? -100f : x;
        float tail = erfcFactor(Math.abs(c) * 0.70710678118654752f);
        float half = (0.5f * tail) * exp((-0.5f * c) * c);
        float phi = c < 0f ? half : 1f - half;
        return c * phi;
    }

    /** x > 0 ? x : 0; so -0 and NaN give +0. */
    public static float relu(float x) {
        return x > 0f ? x : 0f;
    }
}

package org.comneck.backend.reference;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Locale;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The Java twin of canonical_math.h: canonical_math_test.cpp walks the same inputs and holds the same checksums. */
class CanonicalMathTest {
    @FunctionalInterface
    private interface Function {
        float of(float x);
    }

    private static Function named(String name) {
        return switch (name) {
            case "exp" -> CanonicalMath::exp;
            case "sigmoid" -> CanonicalMath::sigmoid;
            case "quickGelu" -> CanonicalMath::quickGelu;
            case "erf" -> CanonicalMath::erf;
            case "gelu" -> CanonicalMath::gelu;
            case "relu" -> CanonicalMath::relu;
            default -> throw new IllegalArgumentException(name);
        };
    }

    private static long word(long sum, Function function, int bits) {
        int y = Float.floatToRawIntBits(function.of(Float.intBitsToFloat(bits)));
        return (sum ^ (y & 0xFFFFFFFFL)) * 0x100000001B3L;
    }

    @ParameterizedTest
    @CsvSource({
        "exp,       F18A58F4636B8988",
        "sigmoid,   3BE5FE39C9661D74",
        "quickGelu, 66F24C0B4890885E",
        "erf,       4741F87022E38115",
        "gelu,      9B6BC6F8F6A794EB",
        "relu,      8DDB4ED245975523"
    })
    void sameBitsAsNative(String name, String golden) {
        Function function = named(name);
        long sum = 0xCBF29CE484222325L;
        for (long bits = 0; bits <= 0xFFFFFFFFL; bits += 997) {
            sum = word(sum, function, (int) bits);
        }
        float[] centres = {0f, 1e-38f, 1f, 51f, 52f, 59f, 87.3f, 88.72f, 89f, 100f, 13f, Float.POSITIVE_INFINITY};
        for (float centre : centres) {
            for (int step = -40; step <= 40; step++) {
                int bits = Float.floatToRawIntBits(centre) + step;
                sum = word(sum, function, bits);
                sum = word(sum, function, bits ^ 0x80000000);
            }
        }
        assertEquals(golden, String.format(Locale.ROOT, "%016X", sum));
    }

    @Test
    void limitsAndAccuracy() {
        assertEquals(1f, CanonicalMath.exp(0f));
        assertEquals(0f, CanonicalMath.exp(Float.NEGATIVE_INFINITY));
        assertEquals(Float.POSITIVE_INFINITY, CanonicalMath.exp(Float.POSITIVE_INFINITY));
        assertEquals(-0f, CanonicalMath.quickGelu(Float.NEGATIVE_INFINITY));
        assertEquals(-0f, CanonicalMath.gelu(Float.NEGATIVE_INFINITY));
        assertEquals(Float.POSITIVE_INFINITY, CanonicalMath.gelu(Float.POSITIVE_INFINITY));
        assertEquals(0f, CanonicalMath.relu(-0f));
        assertEquals(0f, CanonicalMath.relu(Float.NaN));
        for (float x = -87f; x < 88f; x += 0.01f) {
            double exact = Math.exp(x);
            assertEquals(exact, CanonicalMath.exp(x), 1.2e-7 * exact, "exp " + x);
            double sigmoid = 1 / (1 + Math.exp(-x));
            assertEquals(sigmoid, CanonicalMath.sigmoid(x), 3e-7 * sigmoid, "sigmoid " + x);
        }
    }
}

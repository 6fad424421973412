package org.comneck.tensor;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** Rounds 32-bit floats to 16 bits: nearest, ties to even. */
public final class Rounding {
    private static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfShort I16 = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    /** A piece stays in the nearest cache. */
    private static final int PIECE = 2048;

    private Rounding() {}

    /**
     * Rounds floats, or copies them where the type is F32.
     *
     * @param from little-endian F32
     * @param type F32, F16 or BF16
     * @param to of as many elements
     * @throws IllegalArgumentException for other types, and where the sizes do not agree
     */
    public static void round(MemorySegment from, ElementType type, MemorySegment to) {
        long elements = from.byteSize() / 4;
        if (type == ElementType.F32) {
            MemorySegment.copy(from, 0, to, 0, 4 * elements);
            return;
        }
        if (type != ElementType.F16 && type != ElementType.BF16) {
            throw new IllegalArgumentException("floats are not rounded to " + type);
        }
        if (to.byteSize() < 2 * elements) {
            throw new IllegalArgumentException(elements + " elements do not fit into " + to.byteSize() + " bytes");
        }
        // Loops over arrays become vector instructions, those over segments do not.
        float[] values = new float[(int) Math.min(PIECE, elements)];
        short[] rounded = new short[values.length];
        for (long at = 0; at < elements; at += values.length) {
            int count = (int) Math.min(values.length, elements - at);
            MemorySegment.copy(from, F32, 4 * at, values, 0, count);
            if (type == ElementType.F16) {
                halves(values, rounded, count);
            } else {
                bfloats(values, rounded, count);
            }
            MemorySegment.copy(rounded, 0, to, I16, 2 * at, count);
        }
    }

    private static void halves(float[] values, short[] rounded, int count) {
        for (int i = 0; i < count; i++) {
            rounded[i] = Float.floatToFloat16(values[i]);
        }
    }

    private static void bfloats(float[] values, short[] rounded, int count) {
        for (int i = 0; i < count; i++) {
            rounded[i] = Bfloat16.toBits(values[i]);
        }
    }
}

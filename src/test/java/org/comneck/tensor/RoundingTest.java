package org.comneck.tensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RoundingTest {
    private static final ValueLayout.OfShort I16 = ValueLayout.JAVA_SHORT_UNALIGNED;

    /** Any bits, NaN and subnormals among them, and memory that is not aligned. */
    @ParameterizedTest
    @ValueSource(ints = {0, 1, 7, 2047, 2048, 2049, 50_000})
    void isThatOfOneAtATime(int elements) {
        SplittableRandom random = new SplittableRandom(elements);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment from = arena.allocate(4L * elements + 1).asSlice(1);
            for (int i = 0; i < elements; i++) {
                float value = Float.intBitsToFloat(random.nextInt());
                from.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i, i % 2 == 0 ? value : value % 70_000);
            }
            MemorySegment to = arena.allocate(2L * elements + 1).asSlice(1);
            Rounding.round(from, ElementType.F16, to);
            for (int i = 0; i < elements; i++) {
                float value = from.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
                assertEquals(
                        Float.float16ToFloat(Float.floatToFloat16(value)), Float.float16ToFloat(to.get(I16, 2L * i)));
            }
            Rounding.round(from, ElementType.BF16, to);
            for (int i = 0; i < elements; i++) {
                float value = from.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
                assertEquals(Bfloat16.toBits(value), to.get(I16, 2L * i));
            }
            MemorySegment same = arena.allocate(4L * elements + 1).asSlice(1);
            Rounding.round(from, ElementType.F32, same);
            assertEquals(-1, same.asSlice(0, 4L * elements).mismatch(from.asSlice(0, 4L * elements)));
        }
    }

    @Test
    void refusesWhatDoesNotFit() {
        MemorySegment from = MemorySegment.ofArray(new float[3]);
        assertThrows(
                IllegalArgumentException.class,
                () -> Rounding.round(from, ElementType.F16, MemorySegment.ofArray(new short[2])));
        assertThrows(
                IllegalArgumentException.class,
                () -> Rounding.round(from, ElementType.U8, MemorySegment.ofArray(new byte[3])));
    }
}

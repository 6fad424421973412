package org.comneck.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.foreign.MemorySegment;
import org.junit.jupiter.api.Test;

class TensorTest {
    @Test
    void readsHalfPrecisionExactly() {
        MemorySegment data = MemorySegment.ofArray(new byte[] {0, 0x3c, 1, 0, (byte) 0xff, (byte) 0xfb});
        Tensor tensor = new Tensor(ElementType.F16, Shape.of(3), data);
        assertArrayEquals(new float[] {1f, 5.9604645e-8f, -65504f}, tensor.toFloats());
    }

    @Test
    void refusesMemoryOfAnotherSize() {
        IllegalArgumentException error = assertThrows(
                IllegalArgumentException.class,
                () -> new Tensor(ElementType.F32, Shape.of(2, 3), MemorySegment.ofArray(new float[5])));
        assertEquals("F32 [2,3] takes 24 bytes, but the memory has 20", error.getMessage());
    }
}

package org.comneck.backend.library;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;

/** How Java values look to the library. */
final class Natives {
    private Natives() {}

    /** {@code COMNECK_F32} and so on. */
    static int code(ElementType type) {
        return switch (type) {
            case F32 -> 0;
            case BF16 -> 1;
            case F16 -> 2;
            case I32 -> 3;
            case I16 -> 4;
            case U8 -> 5;
            default -> throw new IllegalArgumentException("no native buffers of " + type);
        };
    }

    /** The segment itself where native code can read it, else a copy. */
    static MemorySegment inNativeMemory(Arena arena, MemorySegment segment) {
        if (segment.isNative()) {
            return segment;
        }
        return arena.allocate(Math.max(1, segment.byteSize()), 64)
                .asSlice(0, segment.byteSize())
                .copyFrom(segment);
    }

    /** The tensor's values as native f32. */
    static MemorySegment floats(Arena arena, Tensor tensor) {
        return floats(arena, tensor.toFloats());
    }

    /** The values as native f32. */
    static MemorySegment floats(Arena arena, float[] values) {
        return arena.allocateFrom(ValueLayout.JAVA_FLOAT, values);
    }
}

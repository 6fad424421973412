package org.comneck.tensor;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * A row-major array in memory that somebody else owns.
 *
 * @param type element type, little-endian
 * @param shape sizes, outermost first
 * @param data exactly {@code shape.elements() * type.bytes()} bytes, of any alignment
 */
public record Tensor(ElementType type, Shape shape, MemorySegment data) {
    private static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfDouble F64 =
            ValueLayout.JAVA_DOUBLE_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfShort I16 = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt I32 = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong I64 = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    public Tensor {
        long bytes = Math.multiplyExact(shape.elements(), type.bytes());
        if (data.byteSize() != bytes) {
            throw new IllegalArgumentException(
                    type + " " + shape + " takes " + bytes + " bytes, but the memory has " + data.byteSize());
        }
    }

    /** A tensor over a Java array, which it shares. */
    public static Tensor of(float[] values, long... sizes) {
        return new Tensor(ElementType.F32, Shape.of(sizes), MemorySegment.ofArray(values));
    }

    /** A tensor over a Java array, which it shares. */
    public static Tensor of(int[] values, long... sizes) {
        return new Tensor(ElementType.I32, Shape.of(sizes), MemorySegment.ofArray(values));
    }

    /** All elements as f32 in a new array: exact for F16, BF16, F32 and small integers, rounded once for the others. */
    public float[] toFloats() {
        float[] out = new float[Math.toIntExact(shape.elements())];
        switch (type) {
            case F32 -> MemorySegment.copy(data, F32, 0, out, 0, out.length);
            case F16 -> {
                for (int i = 0; i < out.length; i++) {
                    out[i] = Float.float16ToFloat(data.getAtIndex(I16, i));
                }
            }
            default -> {
                for (int i = 0; i < out.length; i++) {
                    out[i] = (float) at(i);
                }
            }
        }
        return out;
    }

    /** All elements as i32 in a new array. */
    public int[] toInts() {
        int[] out = new int[Math.toIntExact(shape.elements())];
        for (int i = 0; i < out.length; i++) {
            out[i] = Math.toIntExact(longAt(i));
        }
        return out;
    }

    /** Element i in row-major order, as a double. */
    public double at(long i) {
        return switch (type) {
            case F64 -> data.getAtIndex(F64, i);
            case F32 -> data.getAtIndex(F32, i);
            case F16 -> Float.float16ToFloat(data.getAtIndex(I16, i));
            case BF16 -> Float.intBitsToFloat(data.getAtIndex(I16, i) << 16);
            default -> longAt(i);
        };
    }

    private long longAt(long i) {
        return switch (type) {
            case I64 -> data.getAtIndex(I64, i);
            case I32 -> data.getAtIndex(I32, i);
            case I16 -> data.getAtIndex(I16, i);
            case I8, BOOL -> data.get(ValueLayout.JAVA_BYTE, i);
            case U8 -> data.get(ValueLayout.JAVA_BYTE, i) & 0xFF;
            default -> throw new IllegalArgumentException(type + " is not an integer type");
        };
    }

    /** {@code F32 [320,16,16]}. */
    @Override
    public String toString() {
        return type + " " + shape;
    }
}

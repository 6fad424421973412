package org.comneck.model;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * A tensor that can be read a piece at a time, so that a checkpoint of several gigabytes passes through a few megabytes of memory: mapped
 * bytes, a strided view of them, a conversion, or a formula. Thread-safe.
 */
public interface TensorSource {
    /** Type of the elements that {@link #read} delivers. */
    ElementType type();

    /** Sizes, outermost first; elements come in row-major order. */
    Shape shape();

    /**
     * Writes elements {@code first, first + 1, ...} into the destination, little-endian, until it is full.
     *
     * @param first index of the first element, row-major
     * @param destination a whole number of elements, at most {@code shape().elements() - first} of them
     */
    void read(long first, MemorySegment destination);

    /** All elements in a new tensor on the heap. */
    default Tensor toTensor() {
        long bytes = Math.multiplyExact(shape().elements(), type().bytes());
        MemorySegment data = MemorySegment.ofArray(new byte[Math.toIntExact(bytes)]);
        read(0, data);
        return new Tensor(type(), shape(), data);
    }

    /** A tensor that lies in memory. */
    static TensorSource of(Tensor tensor) {
        return new TensorSource() {
            @Override
            public ElementType type() {
                return tensor.type();
            }

            @Override
            public Shape shape() {
                return tensor.shape();
            }

            @Override
            public void read(long first, MemorySegment destination) {
                MemorySegment.copy(
                        tensor.data(), first * tensor.type().bytes(), destination, 0, destination.byteSize());
            }

            @Override
            public Tensor toTensor() {
                return tensor;
            }

            @Override
            public String toString() {
                return tensor.toString();
            }
        };
    }

    /** The same elements as F32: exact for F16 and BF16, rounded once for F64; refused for integers. */
    default TensorSource toF32() {
        if (type() == ElementType.F32) {
            return this;
        }
        if (!type().isFloat()) {
            throw new IllegalArgumentException(type() + " " + shape() + " holds no floating-point numbers");
        }
        TensorSource source = this;
        return new TensorSource() {
            @Override
            public ElementType type() {
                return ElementType.F32;
            }

            @Override
            public Shape shape() {
                return source.shape();
            }

            @Override
            public void read(long first, MemorySegment destination) {
                int width = source.type().bytes();
                long count = destination.byteSize() / Float.BYTES;
                long piece = Math.min(count, 1 << 16);
                MemorySegment buffer = MemorySegment.ofArray(new byte[(int) (piece * width)]);
                ValueLayout.OfFloat f32 = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
                for (long done = 0; done < count; done += piece) {
                    piece = Math.min(piece, count - done);
                    MemorySegment part = buffer.asSlice(0, piece * width);
                    source.read(first + done, part);
                    Tensor view = new Tensor(source.type(), Shape.of(piece), part);
                    for (long i = 0; i < piece; i++) {
                        destination.setAtIndex(f32, done + i, (float) view.at(i));
                    }
                }
            }
        };
    }
}

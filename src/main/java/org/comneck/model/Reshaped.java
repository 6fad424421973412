package org.comneck.model;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/** Tensors made of other tensors, still read a piece at a time. */
final class Reshaped {
    private Reshaped() {}

    /** Parts of one element type and equal inner sizes, one after the other along the first dimension. */
    static TensorSource concatenate(List<TensorSource> parts) {
        TensorSource head = parts.getFirst();
        long[] sizes = head.shape().toArray();
        sizes[0] = parts.stream().mapToLong(part -> part.shape().size(0)).sum();
        Shape shape = Shape.of(sizes);
        int width = head.type().bytes();
        return new TensorSource() {
            @Override
            public ElementType type() {
                return head.type();
            }

            @Override
            public Shape shape() {
                return shape;
            }

            @Override
            public void read(long first, MemorySegment destination) {
                long at = first;
                long done = 0;
                for (TensorSource part : parts) {
                    long elements = part.shape().elements();
                    if (at < elements && done < destination.byteSize()) {
                        long count = Math.min(elements - at, (destination.byteSize() - done) / width);
                        part.read(at, destination.asSlice(done, count * width));
                        done += count * width;
                        at += count;
                    }
                    at -= elements;
                }
            }
        };
    }

    /** The transpose of a matrix small enough for the heap, made when it is read first. */
    static TensorSource transpose(TensorSource matrix) {
        Shape shape = Shape.of(matrix.shape().size(1), matrix.shape().size(0));
        return new TensorSource() {
            private Tensor source;

            @Override
            public ElementType type() {
                return matrix.type();
            }

            @Override
            public Shape shape() {
                return shape;
            }

            @Override
            public synchronized void read(long first, MemorySegment destination) {
                if (source == null) {
                    source = matrix.toTensor();
                }
                int width = type().bytes();
                long rows = shape.size(0);
                long columns = shape.size(1);
                long count = destination.byteSize() / width;
                for (long i = 0; i < count; i++) {
                    long row = (first + i) / columns;
                    long column = (first + i) % columns;
                    MemorySegment.copy(source.data(), (column * rows + row) * width, destination, i * width, width);
                }
            }
        };
    }
}

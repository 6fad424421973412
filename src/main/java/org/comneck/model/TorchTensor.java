package org.comneck.model;

import java.lang.foreign.MemorySegment;
import org.comneck.DamagedDataException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;

/** A strided view of a {@link TorchStorage}: {@code element[i0,i1,..] = storage[offset + i0 * stride0 + i1 * stride1 + ..]}. */
final class TorchTensor implements TensorSource {
    private final TorchStorage storage;
    private final long offset;
    private final Shape shape;
    private final long[] strides;
    private final boolean contiguous;

    /**
     * @param where names the file and what is being read, for errors
     * @throws DamagedDataException when an element lies outside the storage, or the view repeats elements of it
     */
    TorchTensor(String where, long at, TorchStorage storage, long offset, long[] sizes, long[] strides) {
        this.storage = storage;
        this.offset = offset;
        this.strides = strides;
        if (sizes.length != strides.length || offset < 0) {
            throw new DamagedDataException(where + ": tensor with an impossible offset, shape or strides", at);
        }
        boolean rowMajor = true;
        try {
            this.shape = Shape.of(sizes);
            long last = offset;
            long expected = 1;
            for (int d = sizes.length - 1; d >= 0; d--) {
                if (strides[d] < 0) {
                    throw new DamagedDataException(where + ": tensor with a negative stride", at);
                }
                if (sizes[d] > 1) {
                    rowMajor &= strides[d] == expected;
                    last = Math.addExact(last, Math.multiplyExact(sizes[d] - 1, strides[d]));
                }
                expected = Math.multiplyExact(expected, Math.max(1, sizes[d]));
            }
            if (shape.elements() > 0 && last >= storage.elements) {
                throw new DamagedDataException(
                        where + ": tensor " + shape + " reaches element " + last + " of storage '"
                                + SafetensorsFile.printable(storage.key) + "', which has " + storage.elements,
                        at);
            }
        } catch (IllegalArgumentException | ArithmeticException e) {
            throw new DamagedDataException(where + ": tensor with an impossible shape or strides", at, e);
        }
        if (shape.elements() > storage.elements) {
            throw new DamagedDataException(
                    where + ": tensor " + shape + " repeats the elements of a storage of " + storage.elements, at);
        }
        this.contiguous = rowMajor;
    }

    @Override
    public ElementType type() {
        return storage.type;
    }

    @Override
    public Shape shape() {
        return shape;
    }

    @Override
    public void read(long first, MemorySegment destination) {
        int width = storage.type.bytes();
        long count = destination.byteSize() / width;
        if (count == 0) {
            return;
        }
        MemorySegment data = storage.data();
        if (contiguous) {
            MemorySegment.copy(data, (offset + first) * width, destination, 0, count * width);
            return;
        }
        int rank = shape.rank();
        long[] index = new long[rank];
        long rest = first;
        long source = offset;
        for (int d = rank - 1; d >= 0; d--) {
            index[d] = rest % shape.size(d);
            rest /= shape.size(d);
            source += index[d] * strides[d];
        }
        for (long i = 0; i < count; i++) {
            MemorySegment.copy(data, source * width, destination, i * width, width);
            for (int d = rank - 1; d >= 0; d--) {
                source += strides[d];
                if (++index[d] < shape.size(d)) {
                    break;
                }
                source -= index[d] * strides[d];
                index[d] = 0;
            }
        }
    }

    @Override
    public String toString() {
        return type() + " " + shape;
    }
}

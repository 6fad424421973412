package org.comneck.model;

import java.lang.foreign.MemorySegment;
import org.comneck.DamagedDataException;
import org.comneck.tensor.ElementType;

/**
 * A run of elements in a PyTorch checkpoint that one or more tensors are views of. Its place is known when the container has been read;
 * its bytes are touched only when a tensor is.
 */
final class TorchStorage {
    final ElementType type;
    final String key;
    final long elements;
    private MemorySegment data;
    private Runnable check;

    TorchStorage(ElementType type, String key, long elements) {
        this.type = type;
        this.key = key;
        this.elements = elements;
    }

    /**
     * @param bytes at least elements * type.bytes() bytes of the mapped file
     * @param check run once before the bytes are read first; throws when they are damaged
     */
    void place(MemorySegment bytes, Runnable check) {
        this.data = bytes;
        this.check = check;
    }

    boolean isPlaced() {
        return data != null;
    }

    /** Size in bytes, or -1 when it exceeds a long. */
    long bytes() {
        long bytes = Math.multiplyHigh(elements, (long) type.bytes()) != 0 ? -1 : elements * type.bytes();
        return bytes < 0 ? -1 : bytes;
    }

    /** @throws DamagedDataException when the bytes fail their checksum */
    synchronized MemorySegment data() {
        if (check != null) {
            check.run();
            check = null;
        }
        return data;
    }
}

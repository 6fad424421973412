package org.comneck.backend.library;

import java.lang.foreign.MemorySegment;
import org.comneck.backend.Convolution;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;

/** Weights packed by the library. */
final class LibraryLayer implements Layer {
    private final LibraryBackend backend;
    private final NativeHandle handle;
    private final Convolution geometry;
    private final Precision precision;

    LibraryLayer(LibraryBackend backend, NativeHandle handle, Convolution geometry, Precision precision) {
        this.backend = backend;
        this.handle = handle;
        this.geometry = geometry;
        this.precision = precision;
    }

    LibraryBackend backend() {
        return backend;
    }

    MemorySegment address() {
        return handle.address();
    }

    @Override
    public Convolution geometry() {
        return geometry;
    }

    @Override
    public Precision precision() {
        return precision;
    }

    @Override
    public long bytes() {
        return backend.bytes(handle);
    }

    @Override
    public void close() {
        handle.close();
    }
}

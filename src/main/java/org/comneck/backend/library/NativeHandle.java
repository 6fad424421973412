package org.comneck.backend.library;

import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/** One native object: one owner, one {@link #close}, no use afterwards. */
final class NativeHandle implements AutoCloseable {
    private final String what;
    private final MethodHandle destroy;
    private volatile MemorySegment address;

    NativeHandle(String what, MemorySegment address, MethodHandle destroy) {
        this.what = what;
        this.address = address;
        this.destroy = destroy;
    }

    /**
     * The native address.
     *
     * @throws IllegalStateException after {@link #close}
     */
    MemorySegment address() {
        MemorySegment open = address;
        if (open == null) {
            throw new IllegalStateException("the " + what + " is closed");
        }
        return open;
    }

    @Override
    public synchronized void close() {
        MemorySegment open = address;
        address = null;
        if (open != null) {
            try {
                destroy.invokeExact(open);
            } catch (Throwable t) {
                throw ComneckLibrary.linkage(t);
            }
        }
    }
}

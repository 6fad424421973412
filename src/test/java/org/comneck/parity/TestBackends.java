package org.comneck.parity;

import org.comneck.backend.Backend;
import org.comneck.backend.cpu.CpuBackend;
import org.comneck.backend.reference.ReferenceBackend;

/** Backends for tests of networks. */
public final class TestBackends {
    private TestBackends() {}

    /** The native backend with both threads of a small machine; the reference where there is no native library. */
    public static Backend fastest() {
        return CpuBackend.isAvailable() ? CpuBackend.open(2) : new ReferenceBackend();
    }
}

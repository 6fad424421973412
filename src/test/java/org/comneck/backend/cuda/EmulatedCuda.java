package org.comneck.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertNull;

import org.comneck.backend.library.ComneckLibrary;

/** The cuda backend on the processor: its kernels and its runtime, compiled for the emulation. */
public final class EmulatedCuda {
    static final ComneckLibrary.Loaded LOADED = ComneckLibrary.load(EmulatedCuda.class, "libcomneck_cuda_emulated.so");

    private EmulatedCuda() {}

    /** Opens it; without the library the test fails, for it is built everywhere. */
    public static CudaBackend open() {
        assertNull(LOADED.cause(), () -> "cause: " + LOADED.cause());
        return CudaBackend.open(LOADED.library());
    }
}

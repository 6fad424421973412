package org.comneck.backend.cpu;

import org.comneck.InternalException;
import org.comneck.backend.library.ComneckLibrary;
import org.comneck.backend.library.LibraryBackend;

/**
 * The native backend: our C++ kernels for AVX-512, AVX2 and any other processor, chosen when it is opened. Threads are native and sleep
 * while nothing runs.
 */
public final class CpuBackend extends LibraryBackend {
    private static final ComneckLibrary.Loaded LOADED = ComneckLibrary.load(CpuBackend.class, "libcomneck.so");

    private CpuBackend(int threads, int isa) {
        super("cpu", LOADED.library(), threads, isa);
    }

    /** Whether the native library can be used here. */
    public static boolean isAvailable() {
        return LOADED.cause() == null;
    }

    /** Why not, or null. */
    public static Throwable unavailabilityCause() {
        return LOADED.cause();
    }

    /**
     * Opens the backend with the best instruction set of this machine.
     *
     * @param threads how many work on a run, the caller's own included: 1 to 256
     * @throws InternalException when the native library is unavailable
     */
    public static CpuBackend open(int threads) {
        return open(threads, "auto");
    }

    /**
     * Opens the backend with an instruction set of choice.
     *
     * @param isa {@code auto}, {@code avx512}, {@code avx2} or {@code portable}
     * @throws UnsupportedOperationException when the machine lacks it
     */
    public static CpuBackend open(int threads, String isa) {
        if (!isAvailable()) {
            throw new InternalException(
                    "the cpu backend is unavailable: " + unavailabilityCause(), unavailabilityCause());
        }
        int code = switch (isa) {
            case "auto" -> 0;
            case "portable" -> 1;
            case "avx2" -> 2;
            case "avx512" -> 3;
            default ->
                throw new IllegalArgumentException("instruction set " + isa + ": auto, avx512, avx2 or portable");
        };
        return new CpuBackend(threads, code);
    }
}

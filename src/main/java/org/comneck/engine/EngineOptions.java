package org.comneck.engine;

import java.util.List;
import org.comneck.UsageException;
import org.comneck.backend.Precision;
import org.comneck.backend.cuda.CudaLibraries;

/**
 * How an engine computes. None of it shows in the bits of f32 results.
 *
 * @param backend {@code auto}, {@code reference}, {@code cpu} or {@code cuda}
 * @param threads that work on a run, 1 to 256; 0 is one a processor
 * @param precision of analysis, synthesis, neck and encoder; whatever a decoded symbol depends on is always f32. F16, of neck and encoder,
 *     is the cuda backend's alone
 * @param cudaLibraries whose kernels the cuda backend has in bf16 and f16; with {@code auto} it says nothing where no GPU is
 */
public record EngineOptions(String backend, int threads, Precision precision, CudaLibraries cudaLibraries) {
    /** Names of backends. */
    public static final List<String> BACKENDS = List.of("auto", "reference", "cpu", "cuda");

    /** The native backend where it is available, all processors, f32. */
    public static final EngineOptions DEFAULT = new EngineOptions("auto", 0, Precision.F32);

    private static final int MAX_THREADS = 256;

    public EngineOptions {
        if (!BACKENDS.contains(backend)) {
            throw new UsageException("backend '" + backend + "' is unknown; known: " + String.join(", ", BACKENDS));
        }
        if (cudaLibraries == CudaLibraries.VENDOR && !backend.equals("auto") && !backend.equals("cuda")) {
            throw new UsageException("backend " + backend + " has no vendor's libraries: they are the cuda backend's");
        }
        if (threads < 0 || threads > MAX_THREADS) {
            throw new UsageException(
                    threads + " threads are not possible: 1 to " + MAX_THREADS + ", 0 for all processors");
        }
    }

    /** With our own kernels on a GPU, too. */
    public EngineOptions(String backend, int threads, Precision precision) {
        this(backend, threads, precision, CudaLibraries.OWN);
    }

    public EngineOptions withBackend(String name) {
        return new EngineOptions(name, threads, precision, cudaLibraries);
    }

    public EngineOptions withThreads(int count) {
        return new EngineOptions(backend, count, precision, cudaLibraries);
    }

    public EngineOptions withPrecision(Precision arithmetic) {
        return new EngineOptions(backend, threads, arithmetic, cudaLibraries);
    }

    public EngineOptions withCudaLibraries(CudaLibraries libraries) {
        return new EngineOptions(backend, threads, precision, libraries);
    }
}

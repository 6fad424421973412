package org.comneck.cli;

import org.comneck.backend.cuda.CudaLibraries;
import org.comneck.engine.EngineOptions;
import picocli.CommandLine.Option;

/** Option of every verb that takes {@code --backend cuda}. */
final class CudaFlags {
    @Option(
            names = "--cuda-libraries",
            paramLabel = "NAME",
            description =
                    "On a GPU, in bf16 and f16: own kernels, or vendor, cuBLASLt and cuDNN where they are installed;"
                            + " default ${DEFAULT-VALUE}.")
    private CudaLibraries libraries = EngineOptions.DEFAULT.cudaLibraries();

    CudaLibraries libraries() {
        return libraries;
    }
}

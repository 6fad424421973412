package org.comneck.cli;

import java.nio.file.Path;
import org.comneck.backend.Precision;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Options of every verb that opens a model. */
final class EngineFlags {
    @Option(
            names = "--model",
            paramLabel = "FILE",
            description = "Model file; without it the one that comes with the program.")
    private Path model;

    @Option(
            names = "--backend",
            paramLabel = "NAME",
            description = "auto, cuda, cpu or reference; default ${DEFAULT-VALUE}. Same bits in f32.")
    private String backend = EngineOptions.DEFAULT.backend();

    @Option(
            names = "--threads",
            paramLabel = "N",
            description = "Threads; default ${DEFAULT-VALUE}, all processors. Same bits in f32.")
    private int threads = EngineOptions.DEFAULT.threads();

    @Option(
            names = "--precision",
            paramLabel = "NAME",
            description =
                    "Arithmetic of transforms, neck and encoder: f32, bf16, or, on a GPU, f16; default ${DEFAULT-VALUE}.")
    private Precision precision = EngineOptions.DEFAULT.precision();

    @Mixin
    private CudaFlags cudaFlags;

    NativeEngine open() {
        return model == null ? NativeEngine.openDefault(options()) : NativeEngine.open(model, options());
    }

    EngineOptions options() {
        return new EngineOptions(backend, threads, precision, cudaFlags.libraries());
    }

    /** The model file, or null. */
    Path model() {
        return model;
    }
}

package org.comneck.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import org.comneck.UsageException;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.cpu.CpuBackend;
import org.comneck.backend.cuda.CudaBackend;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.eval.FirstTokens;
import org.comneck.eval.Peer;
import org.comneck.eval.StageBenchmark;
import org.comneck.model.ModelFile;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code comneck bench}: the stages of one picture beside a peer, a JSON line each. benchmarks/README.md defines every column. */
@Command(
        name = "bench",
        subcommands = KernelsCommand.class,
        mixinStandardHelpOptions = true,
        description =
                "Times the stages from a picture to tokens, beside a peer in the same minutes. One JSON line a stage."
                        + " 'comneck bench kernels' times single kernels.",
        footer = {
            "",
            "Example: comneck import --seeded full -o full.safetensors",
            "         comneck bench --model full.safetensors --peer 'python3 benchmarks/peer/peer.py'"
        })
final class BenchCommand implements Callable<Integer> {
    /**
     * Milliseconds of the published pipeline on two quiet Zen 4 cores, 256x256, PyTorch 2.13, 2 threads, from the design page. Of the blocks
     * there were 22.
     */
    private static double figure(String stage, int blocks) {
        return switch (stage) {
            case "entropy" -> 214;
            case "neck" -> 62;
            case "blocks" -> 1300.0 / 22 * blocks;
            case "tokens" -> 214 + 62 + 1300.0 / 22 * blocks;
            case "encode" -> 570;
            case "synthesis" -> 241;
            default -> Double.NaN;
        };
    }

    @Option(
            names = "--model",
            paramLabel = "FILE",
            description = "Model file with codec, neck and encoder; needed unless kernels are timed.")
    private Path model;

    @Option(
            names = "--size",
            paramLabel = "PIXELS",
            defaultValue = "256",
            description = "Side of the test picture, default ${DEFAULT-VALUE}.")
    private int size;

    @Option(
            names = "--threads",
            paramLabel = "N",
            defaultValue = "2",
            description = "Threads of ours and of the peer, default ${DEFAULT-VALUE}.")
    private int threads;

    @Option(
            names = "--repeats",
            paramLabel = "N",
            defaultValue = "9",
            description = "Timed repetitions, default ${DEFAULT-VALUE}.")
    private int repeats;

    @Option(
            names = "--backend",
            paramLabel = "NAME",
            defaultValue = "cpu",
            description = "cpu, cuda, reference or auto; default ${DEFAULT-VALUE}.")
    private String backend;

    @Option(
            names = "--batch",
            paramLabel = "N",
            defaultValue = "1",
            description = "Pictures that are computed together, default ${DEFAULT-VALUE}.")
    private int batch;

    @Option(
            names = "--isa",
            paramLabel = "NAME",
            defaultValue = "auto",
            description =
                    "Instruction set of the cpu backend: auto, avx512, avx2 or portable; default ${DEFAULT-VALUE}.")
    private String isa;

    @Option(
            names = "--stages",
            paramLabel = "NAMES",
            split = ",",
            defaultValue = "encode,entropy,neck,blocks,tokens,clip,pixels,synthesis,memory",
            description = "Stages to measure, default ${DEFAULT-VALUE}.")
    private List<String> stages;

    @Option(
            names = "--precision",
            paramLabel = "NAMES",
            split = ",",
            description = "f32, bf16 or f16 (cuda only), several with commas; default: all that the backend has.")
    private List<Precision> precisions;

    @Option(
            names = "--first-tokens",
            paramLabel = "N",
            defaultValue = "0",
            description =
                    "Starts 'comneck tokens' so many times as a process of its own and times it until the first tokens are"
                            + " written; default ${DEFAULT-VALUE}.")
    private int firstTokens;

    @Option(
            names = "--peer",
            paramLabel = "COMMAND",
            description =
                    "Starts the peer, e.g. 'python3 benchmarks/peer/peer.py'; --model, --device, --threads, --batch, --size and --layer are added.")
    private String peer;

    @Mixin
    private CudaFlags cudaFlags;

    @Mixin
    private ResultLines results;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        if (model == null) {
            throw new UsageException(
                    "what is to be timed? --model FILE, or the verb kernels; see 'comneck bench --help'");
        }
        try (Backend opened = open();
                ModelFile file = ModelFile.open(model)) {
            List<Precision> measured = precisions == null ? StageBenchmark.precisions(opened) : precisions;
            try (Peer started = peer == null ? null : Peer.start(peerCommand(opened, file))) {
                StageBenchmark.Checked checked = new StageBenchmark(
                                opened,
                                file,
                                size,
                                batch,
                                repeats,
                                Set.copyOf(stages),
                                measured,
                                started,
                                result -> print(line(opened, file, result)),
                                memory -> print(line(opened, file, memory)))
                        .run();
                Map<String, Object> line = head(opened, file);
                line.put("stage", "check");
                line.put("payload_bytes", checked.payloadBytes());
                line.put("symbols", checked.symbols());
                checked.tokenError()
                        .forEach((precision, error) -> put(line, "token_error_" + name(precision), error, 8));
                print(line);
            }
            if (firstTokens > 0) {
                for (Precision precision : measured) {
                    print(line(
                            opened,
                            file,
                            precision,
                            FirstTokens.measure(model, flags(opened, precision), size, firstTokens)));
                }
            }
        }
        return 0;
    }

    private Backend open() {
        if (!isa.equals("auto")) {
            if (!backend.equals("cpu")) {
                throw new UsageException("--isa is of the backend cpu, not of " + backend);
            }
            return CpuBackend.open(threads, isa);
        }
        return NativeEngine.backend(EngineOptions.DEFAULT
                .withBackend(backend)
                .withThreads(threads)
                .withCudaLibraries(cudaFlags.libraries()));
    }

    /** What 'comneck tokens' is told about this backend. */
    private List<String> flags(Backend opened, Precision precision) {
        return List.of("--backend", opened.name(), "--threads", "" + threads, "--precision", name(precision));
    }

    private List<String> peerCommand(Backend opened, ModelFile file) {
        List<String> command = new ArrayList<>(List.of(peer.strip().split("\\s+")));
        boolean device = opened instanceof CudaBackend cuda && !cuda.isEmulated();
        command.addAll(List.of(
                "--model",
                model.toString(),
                "--threads",
                "" + threads,
                "--device",
                device ? "cuda" : "cpu",
                "--batch",
                "" + batch,
                "--size",
                "" + size,
                "--layer",
                "" + layer(file)));
        return command;
    }

    private static int layer(ModelFile file) {
        return file.manifest().tokens() == null ? -2 : file.manifest().tokens().layer();
    }

    private Map<String, Object> head(Backend opened, ModelFile file) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("preset", "stages");
        line.put("model", file.manifest().name());
        line.put("size", size);
        line.put("batch", batch);
        line.put("threads", threads);
        line.put("backend", opened.description());
        line.put("emulated", opened instanceof CudaBackend cuda && cuda.isEmulated());
        results.describeRun(line);
        return line;
    }

    private Map<String, Object> line(Backend opened, ModelFile file, StageBenchmark.Result result) {
        Map<String, Object> line = head(opened, file);
        line.put("stage", result.stage());
        line.put("precision", name(result.precision()));
        line.put("repeats", result.repeats());
        put(line, "wall_ms", result.wallMs(), 3);
        put(line, "least_ms", result.leastMs(), 3);
        put(line, "p99_ms", result.p99Ms(), 3);
        put(line, "cpu_ms", result.cpuMs(), 2);
        put(line, "per_s", 1e3 * batch / result.wallMs(), 2);
        if (result.peer() != null) {
            line.put("peer", result.peer());
            put(line, "peer_wall_ms", result.peerWallMs(), 2);
            put(line, "peer_least_ms", result.peerLeastMs(), 2);
            put(line, "peer_cpu_ms", result.peerCpuMs(), 2);
            put(line, "ratio", result.ratio(), 2);
            put(line, "ratio_cpu", result.ratioCpu(), 2);
            put(line, "ratio_least", result.peerLeastMs() / result.leastMs(), 2);
        }
        if (size == 256 && threads == 2 && batch == 1 && !(opened instanceof CudaBackend)) {
            int blocks = file.manifest().encoder().layers()
                    + 1
                    + layer(file)
                    - file.manifest().neck().entry();
            double figure = figure(result.stage(), blocks);
            put(line, "figure_ms", figure, 1);
            put(line, "ratio_figure", figure / result.wallMs(), 2);
            put(line, "ratio_figure_cpu", figure / (result.cpuMs() / threads), 2);
        }
        return line;
    }

    private Map<String, Object> line(Backend opened, ModelFile file, StageBenchmark.Memory memory) {
        Map<String, Object> line = head(opened, file);
        line.put("stage", "memory");
        line.put("of", memory.what());
        line.put("precision", name(memory.precision()));
        put(line, "weights_mib", memory.weightBytes() / (double) (1 << 20), 2);
        put(line, "run_mib", memory.runBytes() / (double) (1 << 20), 2);
        return line;
    }

    private Map<String, Object> line(Backend opened, ModelFile file, Precision precision, FirstTokens first) {
        Map<String, Object> line = head(opened, file);
        line.put("stage", "first-tokens");
        line.put("precision", name(precision));
        line.put("repeats", firstTokens);
        put(line, "wall_ms", first.wallMs(), 1);
        put(line, "least_ms", first.leastMs(), 1);
        put(line, "open_ms", first.openMs(), 1);
        put(line, "call_ms", first.callMs(), 1);
        return line;
    }

    private static void put(Map<String, Object> line, String column, double value, int digits) {
        if (Double.isFinite(value)) {
            double factor = Math.pow(10, digits);
            line.put(column, Math.round(value * factor) / factor);
        }
    }

    private static String name(Precision precision) {
        return precision.name().toLowerCase(Locale.ROOT);
    }

    private void print(Map<String, Object> line) {
        results.print(Main.streams(spec).out(), line);
    }
}

package org.comneck.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import org.comneck.UsageException;
import org.comneck.engine.EngineOptions;
import org.comneck.eval.ServerBenchmark;
import org.comneck.eval.ServerGoals;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code comneck bench-server}: what a server costs, a JSON line each. benchmarks/README.md defines every column. */
@Command(
        name = "bench-server",
        mixinStandardHelpOptions = true,
        description =
                "Measures 'comneck serve' beside calls in this process. One JSON line a measurement; at the end a table"
                        + " of figures and goals on standard error.",
        footer = {"", "Example: comneck bench-server --parts latency,throughput"})
final class BenchServerCommand implements Callable<Integer> {
    private static final List<String> PARTS = List.of("latency", "throughput", "idle", "soak");
    private final List<Map<String, Object>> lines = new ArrayList<>();

    @Option(
            names = "--parts",
            paramLabel = "NAMES",
            split = ",",
            defaultValue = "latency,throughput,idle,soak",
            description = "What to measure, default ${DEFAULT-VALUE}.")
    private List<String> parts;

    @Option(
            names = "--requests",
            paramLabel = "N",
            defaultValue = "2000",
            description = "Requests for latency, default ${DEFAULT-VALUE}.")
    private int requests;

    @Option(
            names = "--seconds",
            paramLabel = "S",
            defaultValue = "10",
            description = "Each turn of throughput, default ${DEFAULT-VALUE}.")
    private double seconds;

    @Option(
            names = "--soak",
            paramLabel = "S",
            defaultValue = "60",
            description = "Seconds of the soak, default ${DEFAULT-VALUE}.")
    private double soak;

    @Option(
            names = "--connections",
            paramLabel = "N",
            defaultValue = "2000",
            description = "Idle connections, default ${DEFAULT-VALUE}.")
    private int connections;

    @Option(
            names = "--photo",
            paramLabel = "FILE",
            defaultValue = "docs/photo.jpg",
            description = "Picture to ask for, default ${DEFAULT-VALUE}.")
    private Path photo;

    @Option(
            names = "--threads",
            paramLabel = "N",
            description = "Threads of each engine; default ${DEFAULT-VALUE}, all processors.")
    private int threads = EngineOptions.DEFAULT.threads();

    @Option(
            names = "--backend",
            paramLabel = "NAME",
            description = "auto, cuda, cpu or reference; default ${DEFAULT-VALUE}.")
    private String backend = EngineOptions.DEFAULT.backend();

    @Mixin
    private CudaFlags cudaFlags;

    @Mixin
    private ResultLines results;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        for (String part : parts) {
            if (!PARTS.contains(part)) {
                throw new UsageException("no part '" + part + "'; there are " + String.join(", ", PARTS));
            }
        }
        new ServerBenchmark(
                        EngineOptions.DEFAULT
                                .withBackend(backend)
                                .withThreads(threads)
                                .withCudaLibraries(cudaFlags.libraries()),
                        photo,
                        this::print)
                .run(Set.copyOf(parts), requests, seconds, soak, connections);
        ServerGoals.table(lines).forEach(Main.streams(spec).err()::println);
        return ExitStatus.OK;
    }

    private void print(Map<String, Object> result) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("preset", "server");
        line.putAll(result);
        line.put("threads", threads);
        line.put("backend", backend);
        results.describeRun(line);
        lines.add(line);
        results.print(Main.streams(spec).out(), line);
    }
}

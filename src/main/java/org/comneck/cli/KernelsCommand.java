package org.comneck.cli;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.comneck.UsageException;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.cuda.CudaBackend;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.eval.KernelBenchmark;
import org.comneck.eval.KernelBenchmark.Kernel;
import org.comneck.eval.Peer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code comneck bench kernels}: single operations at any shape. benchmarks/README.md defines every column. */
@Command(
        name = "kernels",
        mixinStandardHelpOptions = true,
        description = {
            "Times single kernels, a line each; what they compute is checked against f64 first.",
            "Kernels and their shapes: attention B,HEADS,TOKENS,DEPTH; linear ROWS,INPUTS,OUTPUTS; layer-norm ROWS,CHANNELS;",
            "embed-norm B,PATCHES,CHANNELS."
        },
        footer = {
            "",
            "Example: comneck bench kernels --filter attention --json",
            "         comneck bench kernels --filter attention --shape 16,16,577,64 --precision bf16 --backend cuda \\",
            "             --peer 'python3 benchmarks/peer/kernels.py'"
        })
final class KernelsCommand implements Callable<Integer> {
    private static final Pattern ARCHITECTURE = Pattern.compile("\\bsm_\\d+\\b");

    @Option(
            names = "--filter",
            paramLabel = "TEXT",
            defaultValue = "",
            description = "Only kernels whose name contains this; all without it.")
    private String filter;

    @Option(
            names = "--shape",
            paramLabel = "SIZES",
            description =
                    "One shape, its sizes separated by commas; may be given several times, for one kernel. Default:"
                            + " those of ViT-L/14 at 256 and 336 pixels, on a GPU for batches, too.")
    private List<String> shapes;

    @Option(
            names = "--precision",
            paramLabel = "NAMES",
            split = ",",
            defaultValue = "bf16,f32",
            description = "Some of bf16, f32 and, on a GPU, f16; default ${DEFAULT-VALUE}.")
    private List<Precision> precisions;

    @Option(
            names = "--repeats",
            paramLabel = "N",
            defaultValue = "64",
            description = "Timings of each shape, default ${DEFAULT-VALUE}.")
    private int repeats;

    @Option(
            names = "--backend",
            paramLabel = "NAME",
            description = "auto, cuda, cpu or reference; default ${DEFAULT-VALUE}: a GPU where there is one, else the"
                    + " processor. On the emulation of a GPU (benchmarks/README.md) times say nothing.")
    private String backend = EngineOptions.DEFAULT.backend();

    @Option(
            names = "--threads",
            paramLabel = "N",
            description =
                    "Threads of the processor's backends and of a peer there; default ${DEFAULT-VALUE}, all processors.")
    private int threads = EngineOptions.DEFAULT.threads();

    @Option(
            names = "--peer",
            paramLabel = "COMMAND",
            description =
                    "Starts a peer that takes turns with ours, e.g. 'python3 benchmarks/peer/kernels.py'; --device"
                            + " and --threads are added.")
    private String peer;

    @Option(names = "--json", description = "JSON lines instead of a table.")
    private boolean json;

    @Mixin
    private CudaFlags cudaFlags;

    @Mixin
    private ResultLines results;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        List<Kernel> kernels = Kernel.matching(filter);
        if (shapes != null && kernels.size() > 1) {
            throw new UsageException("--shape is of one kernel: choose it with --filter; these are "
                    + kernels.stream().map(Kernel::label).collect(Collectors.joining(", ")));
        }
        List<int[]> asked = shapes == null
                ? null
                : shapes.stream().map(KernelsCommand::sizes).toList();
        EngineOptions options = EngineOptions.DEFAULT
                .withBackend(backend)
                .withThreads(threads)
                .withCudaLibraries(cudaFlags.libraries());
        try (Backend opened = NativeEngine.backend(options);
                Peer started = peer == null ? null : Peer.start(peerCommand(opened, options))) {
            boolean device = opened instanceof CudaBackend;
            boolean emulated = opened instanceof CudaBackend cuda && cuda.isEmulated();
            if (emulated) {
                say("this is the emulation of a GPU on the processor: its times say nothing about any GPU");
            } else if (!device && backend.equals("auto")) {
                say("no GPU here (" + CudaBackend.availability(0).text() + "); the processor's kernels are timed: "
                        + opened.description());
            }
            KernelBenchmark benchmark = new KernelBenchmark(opened, repeats, started);
            if (!json) {
                print(
                        "%-11s %-18s %-5s %12s %12s %12s  %s",
                        "kernel", "shape", "", "p10 us", "median us", "p90 us", "ratio of a peer's median to ours");
            }
            for (Kernel kernel : kernels) {
                for (int[] shape : asked == null ? kernel.shapes(device && !emulated) : asked) {
                    for (Precision precision : precisions) {
                        report(opened, started, kernel, shape, precision, benchmark.run(kernel, shape, precision));
                    }
                }
            }
        }
        return ExitStatus.OK;
    }

    private static int[] sizes(String text) {
        try {
            return Arrays.stream(text.split(",", -1))
                    .map(String::strip)
                    .mapToInt(Integer::parseInt)
                    .toArray();
        } catch (NumberFormatException e) {
            throw new UsageException("--shape '" + text + "' is not a list of numbers such as 1,16,257,64", e);
        }
    }

    private List<String> peerCommand(Backend opened, EngineOptions options) {
        List<String> command = new ArrayList<>(List.of(peer.strip().split("\\s+")));
        boolean device = opened instanceof CudaBackend cuda && !cuda.isEmulated();
        int count =
                options.threads() > 0 ? options.threads() : Runtime.getRuntime().availableProcessors();
        command.addAll(List.of("--device", device ? "cuda" : "cpu", "--threads", "" + count));
        return command;
    }

    private void report(
            Backend opened,
            Peer started,
            Kernel kernel,
            int[] shape,
            Precision precision,
            KernelBenchmark.Result result) {
        String name = precision.name().toLowerCase(Locale.ROOT);
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("preset", "kernels");
        line.put("kernel", kernel.label());
        line.put("shape", shape);
        line.put("precision", name);
        line.put("repeats", result.repeats());
        line.put("median_us", round(result.medianUs(), 1e3));
        line.put("p10_us", round(result.p10Us(), 1e3));
        line.put("p90_us", round(result.p90Us(), 1e3));
        line.put("floor_fma", result.fma());
        line.put("floor_bytes", result.bytes());
        line.put("error", round(result.error(), 1e9));
        String text = opened.description();
        Matcher architecture = ARCHITECTURE.matcher(text);
        boolean emulated = opened instanceof CudaBackend cuda && cuda.isEmulated();
        line.put("backend", opened.name());
        line.put("device", text.substring(text.indexOf(':') + 1).strip());
        line.put(
                "architecture",
                emulated ? "emulation" : architecture.find() ? architecture.group() : System.getProperty("os.arch"));
        line.put("emulated", emulated);
        StringBuilder ratios = new StringBuilder();
        if (started != null) {
            line.put("peer", started.name());
            result.peers().forEach((variant, median) -> {
                line.put("peer_" + variant + "_us", round(median, 1e3));
                line.put("ratio_" + variant, round(median / result.medianUs(), 1e3));
                ratios.append(variant).append(' ').append(format("%.2f  ", median / result.medianUs()));
            });
        }
        results.describeRun(line);
        if (json) {
            results.print(Main.streams(spec).out(), line);
        } else {
            results.append(line);
            print(
                    "%-11s %-18s %-5s %12.2f %12.2f %12.2f  %s",
                    kernel.label(),
                    Arrays.stream(shape).mapToObj(Integer::toString).collect(Collectors.joining(",")),
                    name,
                    result.p10Us(),
                    result.medianUs(),
                    result.p90Us(),
                    ratios.toString().strip());
        }
    }

    private static double round(double value, double parts) {
        return Math.round(value * parts) / parts;
    }

    private static String format(String format, Object... values) {
        return String.format(Locale.ROOT, format, values);
    }

    private void print(String format, Object... values) {
        Main.streams(spec).out().println(format(format, values).stripTrailing());
    }

    private void say(String text) {
        Main.streams(spec).err().println("comneck: " + text);
    }
}

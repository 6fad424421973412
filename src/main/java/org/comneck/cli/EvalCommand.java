package org.comneck.cli;

import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import org.comneck.UsageException;
import org.comneck.backend.Precision;
import org.comneck.engine.EngineOptions;
import org.comneck.eval.Anchor;
import org.comneck.eval.Evaluation;
import org.comneck.eval.Labels;
import org.comneck.eval.MarkdownReport;
import org.comneck.eval.Outcome;
import org.comneck.eval.ReportFolder;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code comneck eval}: what a model loses and saves on the user's own photos. docs/evaluation.md explains the figures. */
@Command(
        name = "eval",
        mixinStandardHelpOptions = true,
        description = "Measures rate, accuracy and picture quality of models and ordinary codecs on photos.",
        footer = {
            "",
            "Example: comneck eval --holdout ../shared/data/photos/imagenet --report out",
            "         comneck eval --full ../shared/data/photos/kodak",
            "         comneck eval caltech101/test --gallery caltech101/train --model d1=a.safetensors --model d3=b.safetensors"
        })
final class EvalCommand implements Callable<Integer> {
    /** Every fifth photo by name, as training leaves them out. */
    private static final int HOLDOUT = 5;

    /** Photos of {@code --quick}. */
    private static final int QUICK_PHOTOS = 24;

    /** Qualities of {@code --quick}, as far as the model has them. */
    private static final List<Double> QUICK_QUALITIES = List.of(0.0, 1.0, 3.0);

    @Parameters(paramLabel = "PHOTO", arity = "1..*", description = "Photos, folders or patterns.")
    private List<String> photos;

    @Option(
            names = "--model",
            paramLabel = "[NAME=]FILE",
            description = "Model file, once for each; without it the one that comes with the program.")
    private List<String> models = List.of();

    @Option(names = "--quality", paramLabel = "Q", split = ",", description = "Qualities; default: all whole ones.")
    private List<Double> qualities = List.of();

    @Option(
            names = "--anchor",
            paramLabel = "NAME|TEMPLATE",
            description = {
                "Ordinary codec: auto (JPEG and those whose tools are installed; the default), none, jpeg, webp, avif, heic, jxl, vvc, or",
                "'name@q,q,...: encoder -q {q} {in} {out} | decoder {out} {png}'."
            })
    private List<String> anchors = List.of("auto");

    @Option(
            names = "--labels",
            paramLabel = "KIND",
            description = {
                "names: WordNet id before the file name's first underscore; folders: the folder's name, one of the model's labels; groups: the folder's",
                "name, for neighbours and episodes only; none; default ${DEFAULT-VALUE}."
            })
    private Labels labels = Labels.AUTO;

    @Option(
            names = "--gallery",
            paramLabel = "PHOTO",
            description = "Photos whose tokens neighbours and centroids are found in; default: the photos themselves.")
    private List<String> gallery = List.of();

    @Option(names = "--holdout", description = "Only every fifth photo by name, which training leaves out.")
    private boolean holdout;

    @Option(names = "--limit", paramLabel = "N", description = "At most so many photos, evenly chosen.")
    private int limit = Integer.MAX_VALUE;

    @Option(names = "--quick", description = "A first look: at most 24 photos, qualities 0, 1 and 3, JPEG alone.")
    private boolean quick;

    @Option(names = "--full", description = "Whole pictures: rate, PSNR and MS-SSIM alone.")
    private boolean full;

    @Option(
            names = "--report",
            paramLabel = "FOLDER",
            description = "Keep results here; a later run measures only what is missing.")
    private Path report;

    @Option(names = "--seed", paramLabel = "N", description = "Of episodes and resampling; default ${DEFAULT-VALUE}.")
    private long seed = 1;

    @Option(
            names = "--backend",
            paramLabel = "NAME",
            description = "auto, cuda, cpu or reference; default ${DEFAULT-VALUE}.")
    private String backend = EngineOptions.DEFAULT.backend();

    @Option(names = "--threads", paramLabel = "N", description = "Threads; default ${DEFAULT-VALUE}, all processors.")
    private int threads = EngineOptions.DEFAULT.threads();

    @Mixin
    private CudaFlags cudaFlags;

    @Option(
            names = "--precision",
            paramLabel = "NAME",
            description = "f32, bf16, or f16 on a GPU; default ${DEFAULT-VALUE}.")
    private Precision precision = EngineOptions.DEFAULT.precision();

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        Main.Streams streams = Main.streams(spec);
        if (limit < 1) {
            throw new UsageException("--limit must be at least 1");
        }
        List<Path> chosen = files(photos);
        if (holdout) {
            List<Path> all = chosen;
            chosen = IntStream.range(0, all.size())
                    .filter(i -> i % HOLDOUT == HOLDOUT - 1)
                    .mapToObj(all::get)
                    .toList();
        }
        chosen = evenly(chosen, Math.min(limit, quick ? QUICK_PHOTOS : Integer.MAX_VALUE));
        if (chosen.isEmpty()) {
            throw new UsageException("no photo is left to measure");
        }
        Evaluation.Options options = new Evaluation.Options(
                models(),
                chosen,
                gallery.isEmpty() ? List.of() : files(gallery),
                quick && qualities.isEmpty() ? QUICK_QUALITIES : qualities,
                anchors(streams.err()),
                labels,
                full,
                report,
                new EngineOptions(backend, threads, precision, cudaFlags.libraries()),
                seed);
        Outcome outcome;
        try (Progress progress = Progress.ofCount("eval", 1)) {
            outcome = new Evaluation(options, new Evaluation.Listener() {
                        @Override
                        public void progress(String what, long done, long total) {
                            progress.to(what, done, total);
                        }

                        @Override
                        public void note(String text) {
                            streams.err().println("comneck: " + text);
                        }
                    })
                    .run();
        }
        streams.out().print(MarkdownReport.of(outcome));
        streams.err()
                .println("comneck: " + outcome.measured() + " results measured, " + outcome.found()
                        + " were there already");
        if (report != null) {
            ReportFolder.write(
                    outcome,
                    report,
                    "comneck "
                            + String.join(
                                    " ", spec.commandLine().getParseResult().originalArgs()),
                    new Main.Version().getVersion()[0]);
            streams.err().println("comneck: " + report.resolve("index.html") + " is written");
        }
        return ExitStatus.OK;
    }

    private static List<Path> files(List<String> arguments) {
        return Inputs.expand(arguments).stream()
                .map(input -> {
                    if (input.path() == null) {
                        throw new UsageException("eval reads no photos from standard input");
                    }
                    return input.path();
                })
                .toList();
    }

    private static List<Path> evenly(List<Path> all, int most) {
        if (all.size() <= most) {
            return all;
        }
        return IntStream.range(0, most)
                .mapToObj(i -> all.get((int) ((long) i * all.size() / most)))
                .toList();
    }

    private List<Evaluation.NamedModel> models() {
        if (models.isEmpty()) {
            return List.of(new Evaluation.NamedModel("comneck-tiny", null));
        }
        List<Evaluation.NamedModel> out = new ArrayList<>();
        for (String model : models) {
            int at = model.indexOf('=');
            Path file = Path.of(model.substring(at + 1));
            String name = at > 0
                    ? model.substring(0, at)
                    : file.getFileName().toString().replaceFirst("\\.[^.]*$", "");
            if (out.stream().anyMatch(o -> o.name().equals(name))) {
                throw new UsageException("two models are called '" + name + "'; name them: --model NAME=FILE");
            }
            out.add(new Evaluation.NamedModel(name, file));
        }
        return out;
    }

    private List<Anchor> anchors(PrintStream err) {
        List<Anchor> out = new ArrayList<>();
        for (String anchor : quick && anchors.equals(List.of("auto")) ? List.of("jpeg") : anchors) {
            switch (anchor) {
                case "none" -> {}
                case "jpeg" -> out.add(Anchor.jpeg());
                case "auto" -> {
                    out.add(Anchor.jpeg());
                    for (String ready : Anchor.READY) {
                        Anchor.Command command = new Anchor.Command(ready);
                        if (command.missing() == null) {
                            out.add(command);
                        } else {
                            err.println(
                                    "comneck: no " + command.name() + ": " + command.missing() + " is not installed");
                        }
                    }
                }
                default -> out.add(named(anchor));
            }
        }
        return out;
    }

    private static Anchor named(String anchor) {
        String template = Anchor.READY.stream()
                .filter(ready -> ready.startsWith(anchor + "@"))
                .findFirst()
                .orElse(anchor);
        Anchor.Command command = new Anchor.Command(template);
        if (command.missing() != null) {
            throw new UsageException("anchor '" + command.name() + "': " + command.missing() + " is not installed");
        }
        return command;
    }
}

package org.comneck.cli;

import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.comneck.UsageException;
import org.comneck.train.Ablations;
import org.comneck.train.Recipe;
import org.comneck.train.RecipeKey;
import org.comneck.train.Trainer;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code comneck train}: recipes to models. docs/training.md describes recipes and run folders. */
@Command(
        name = "train",
        mixinStandardHelpOptions = true,
        description = "Trains a model as a recipe says; Ctrl-C keeps a checkpoint.",
        footer = {
            "",
            "Example: comneck train --recipe tiny --data ../shared/data --out runs/tiny",
            "         comneck train --recipe tiny --data ../shared/data --out runs/tiny --resume"
        })
final class TrainCommand implements Callable<Integer> {
    private static final long PRINT_EVERY_NANOS = 1_000_000_000L;

    @Option(names = "--recipe", paramLabel = "NAME|FILE", description = "Built-in recipe (--list shows them) or file.")
    private String recipe;

    @Option(names = "--data", paramLabel = "DIR", description = "Folder the recipe's paths start from.")
    private Path data;

    @Option(names = "--out", paramLabel = "FOLDER", description = "Run folder, made when absent.")
    private Path out;

    @Option(
            names = "--set",
            paramLabel = "KEY=VALUE",
            description =
                    "Another value for a key of the recipe, of all its stages that know the key; STAGE.KEY=VALUE for one.")
    private List<String> settings = List.of();

    @Option(
            names = "--plot",
            paramLabel = "FOLDER",
            description = "Do not train: draw the curves of a run folder anew.")
    private Path plot;

    @Option(names = "--list", description = "List the built-in recipes.")
    private boolean list;

    @Option(names = "--keys", description = "List the keys of recipes, with defaults.")
    private boolean keys;

    @Spec
    private CommandSpec spec;

    @Option(names = "--resume", description = "Continue from the run folder's checkpoints.")
    private boolean resume;

    @Option(names = "--measure", description = "Do not train: measure what the checkpoints hold.")
    private boolean measure;

    @Option(
            names = "--export",
            paramLabel = "FILE",
            description = "Do not train: write the model file of the checkpoints, finished or not.")
    private Path export;

    @Option(
            names = "--ablations",
            paramLabel = "GROUP,...",
            split = ",",
            description =
                    "Train the necks of these groups of ablations (all: every one) that are not finished, then print their table; they vary the recipe ablation, or --recipe.")
    private List<String> ablations = List.of();

    @Override
    public Integer call() {
        if (list || keys) {
            print(Main.streams(spec).out());
            return ExitStatus.OK;
        }
        if (plot != null) {
            Trainer.plot(plot).forEach(Main.streams(spec).out()::println);
            return ExitStatus.OK;
        }
        if (recipe == null && !ablations.isEmpty()) {
            recipe = "ablation";
        }
        require(recipe, "--recipe=NAME|FILE");
        require(data, "--data=DIR");
        require(out, "--out=FOLDER");
        if (!Files.isDirectory(data)) {
            throw new UsageException(data + " is no folder");
        }
        try (Lines lines = new Lines(System.err)) {
            if (!ablations.isEmpty()) {
                Ablations all = new Ablations(Recipe.load(recipe), settings, ablations, out);
                all.run(data, lines);
                Main.streams(spec).out().print(all.table());
                return ExitStatus.OK;
            }
            Recipe loaded = Recipe.load(recipe).with(settings);
            loaded.check();
            if (export != null) {
                Trainer.export(loaded, data, out, export);
            } else if (measure) {
                Trainer.measure(loaded, data, out, lines);
            } else {
                Trainer.run(loaded, data, out, resume, lines);
            }
            return ExitStatus.OK;
        } catch (NoClassDefFoundError | UnsatisfiedLinkError e) {
            throw new UsageException("LibTorch is not on the class path; start training with ./comneck train", e);
        }
    }

    private void require(Object value, String option) {
        if (value == null) {
            throw new ParameterException(spec.commandLine(), "Missing required option: '" + option + "'");
        }
    }

    /** Tables in Markdown, which docs/training.md quotes. */
    private void print(PrintStream stream) {
        if (list) {
            Recipe.builtIn().forEach((name, line) -> stream.println(String.format("%-16s %s", name, line)));
        }
        if (keys) {
            stream.println("| key | stages | value | default | meaning |");
            stream.println("| --- | --- | --- | --- | --- |");
            RecipeKey.all().forEach(key -> stream.println(key.row()));
        }
    }

    /** A bar that is rewritten while training goes on, or lines now and then where nobody sits before it; lines for everything else. */
    private static final class Lines implements Trainer.Listener, AutoCloseable {
        private final PrintStream stream;
        private Progress bar;
        private String task = "";
        private long printed;

        Lines(PrintStream stream) {
            this.stream = stream;
        }

        @Override
        public void step(
                String stage,
                long step,
                double fraction,
                Map<String, Double> terms,
                double photosPerSecond,
                double secondsLeft) {
            long now = System.nanoTime();
            if (now - printed < (Progress.visible() ? PRINT_EVERY_NANOS : 30 * PRINT_EVERY_NANOS)) {
                return;
            }
            printed = now;
            StringBuilder values = new StringBuilder();
            terms.forEach((name, value) -> values.append(String.format(Locale.ROOT, " %s %.4g", name, value)));
            if (Progress.visible()) {
                if (bar == null || !task.equals(stage)) {
                    close();
                    bar = Progress.ofPart(stage);
                    task = stage;
                }
                // The bar cuts what does not fit into the terminal's width: what matters most comes first.
                bar.to(time(secondsLeft) + " left," + values, (long) (100 * fraction), 100);
            } else {
                stream.println(String.format(
                        Locale.ROOT,
                        "%s %5.1f %%  step %d  %.1f photos/s  %s left %s",
                        stage,
                        100 * fraction,
                        step,
                        photosPerSecond,
                        time(secondsLeft),
                        values));
            }
        }

        private static String time(double seconds) {
            if (!Double.isFinite(seconds)) {
                return "?";
            }
            long whole = (long) seconds;
            return whole >= 3600
                    ? String.format("%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60)
                    : String.format("%d:%02d", whole / 60, whole % 60);
        }

        @Override
        public void evaluated(String stage, long step, Map<String, Double> figures) {
            StringBuilder line = new StringBuilder(stage + " measured at step " + step + ":");
            figures.forEach((name, value) -> line.append(String.format(Locale.ROOT, " %s %.4g", name, value)));
            note(line.toString());
        }

        @Override
        public void note(String text) {
            close();
            stream.println(text);
        }

        @Override
        public void close() {
            if (bar != null) {
                bar.close();
                bar = null;
            }
        }
    }
}

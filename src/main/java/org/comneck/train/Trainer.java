package org.comneck.train;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.global.torch;
import org.comneck.UsageException;

/**
 * Runs recipes. {@code Trainer.run(Recipe.load("tiny"), data, folder, resume, progress)} trains, measures, and writes the model file.
 *
 * <p>The run folder holds, for each stage, {@code <recipe>/checkpoint.safetensors} and {@code <recipe>/metrics.jsonl}, and at the end the
 * exported model. An interrupt (Ctrl-C) writes a checkpoint first.
 */
public final class Trainer {
    /** Told how training goes. Called from the training thread. */
    public interface Listener {
        /** Says nothing to nobody. */
        Listener NONE = new Listener() {};

        /**
         * A step is done.
         *
         * @param stage the recipe's name
         * @param step steps done in this stage
         * @param fraction of the stage's budget that is used, 0..1
         * @param terms smoothed loss terms, in a fixed order
         * @param photosPerSecond over the last steps
         * @param secondsLeft estimated, in this stage
         */
        default void step(
                String stage,
                long step,
                double fraction,
                Map<String, Double> terms,
                double photosPerSecond,
                double secondsLeft) {}

        /** A measurement on photos that are not trained on. */
        default void evaluated(String stage, long step, Map<String, Double> figures) {}

        /** Something that happens seldom, as a sentence. */
        default void note(String text) {}
    }

    private volatile boolean stop;

    private Trainer() {}

    /**
     * Trains all stages of a recipe, then exports the model when the recipe says so.
     *
     * @param data folder that the recipe's paths start from
     * @param runFolder created when absent
     * @param resume continue where checkpoints stand; stages whose budget is used up are skipped
     * @throws UsageException when the run folder holds a run and {@code resume} is false
     */
    public static void run(Recipe recipe, Path data, Path runFolder, boolean resume, Listener listener) {
        recipe.check();
        Trainer trainer = new Trainer();
        CountDownLatch done = new CountDownLatch(1);
        Thread hook = new Thread(() -> {
            trainer.stop = true;
            try {
                // However long a batch takes: what ends a process that waits here is kill -9.
                done.await();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        });
        Runtime.getRuntime().addShutdownHook(hook);
        try {
            for (Recipe stage : recipe.stages()) {
                if (trainer.stop) {
                    return;
                }
                trainer.stage(stage, data, runFolder, resume, listener);
            }
            if (!trainer.stop && recipe.has("export")) {
                Path target = runFolder.resolve(recipe.word("export"));
                export(recipe, data, runFolder, target);
                listener.note("wrote " + target);
            }
        } finally {
            done.countDown();
            try {
                Runtime.getRuntime().removeShutdownHook(hook);
            } catch (IllegalStateException e) {
                // The process is ending, and the hook with it.
            }
        }
    }

    /**
     * Measures what the stages' checkpoints hold on photos that are not trained on, thoroughly.
     *
     * @throws UsageException when a stage has no checkpoint
     */
    public static void measure(Recipe recipe, Path data, Path runFolder, Listener listener) {
        for (Recipe stage : recipe.stages()) {
            Path file = checkpoint(runFolder, stage.name());
            if (!Files.exists(file)) {
                throw new UsageException(file + " does not exist; there is nothing to measure");
            }
            Checkpoint checkpoint = Checkpoint.read(file);
            Ops.start(stage);
            try (var _ = new PointerScope();
                    Stage trained = create(stage, data, runFolder)) {
                checkpoint.restore(file, trained.parameters());
                listener.evaluated(stage.name(), checkpoint.step(), trained.evaluate(true));
            }
        }
    }

    /**
     * Writes the model file of a run whose codec, encoder and neck have checkpoints, finished or not.
     *
     * @param recipe one with {@code codec}, {@code encoder} and {@code neck}, like {@code tiny}
     */
    public static void export(Recipe recipe, Path data, Path runFolder, Path target) {
        ModelExport.write(recipe, data, runFolder, target);
    }

    static Path checkpoint(Path runFolder, String stage) {
        return runFolder.resolve(stage).resolve(RunFolder.CHECKPOINT);
    }

    private static Stage create(Recipe recipe, Path data, Path runFolder) {
        return switch (recipe.word("stage")) {
            case "codec" -> new CodecStage(recipe, data);
            case "encoder" -> new EncoderStage(recipe, data, runFolder);
            case "neck" -> new SurrogateStage(recipe, data, runFolder);
            default ->
                throw new UsageException("recipe " + recipe.name() + ": stage '" + recipe.word("stage")
                        + "' is unknown; known: codec, encoder, neck");
        };
    }

    private void stage(Recipe recipe, Path data, Path runFolder, boolean resume, Listener listener) {
        Path file = checkpoint(runFolder, recipe.name());
        boolean known = Files.exists(file);
        if (known && !resume) {
            throw new UsageException(
                    file + " exists: continue that run with --resume, or choose another folder with --out");
        }
        RunFolder folder = new RunFolder(file.getParent(), listener::note);
        Checkpoint before = known ? Checkpoint.read(file) : Checkpoint.NONE;
        if (Budget.of(recipe).used(before.step(), before.seconds()) >= 1) {
            listener.note(recipe.name() + " is finished already; a larger budget would go on with it");
            return;
        }
        Ops.start(recipe);
        try (Stage stage = create(recipe, data, runFolder)) {
            if (known) {
                before.restore(file, stage.parameters());
                listener.note(recipe.name() + " continues at step " + before.step() + changes(recipe, file));
            } else if (recipe.has("start")) {
                try (var _ = new PointerScope()) {
                    listener.note(recipe.name() + " "
                            + StartWeights.set(recipe.word("start"), data, runFolder, stage.parameters()));
                }
            }
            folder.begin(recipe, before.step());
            new Loop(recipe, stage, file, folder, listener, before).run();
        }
    }

    /** What the recipe says now and did not when the checkpoint was made. */
    private static String changes(Recipe recipe, Path file) {
        Recipe then = Checkpoint.recipe(file, recipe.name());
        return then.differences(recipe).stream()
                .map(key -> "; " + key + " was " + then.written(key) + ", is " + recipe.written(key))
                .collect(Collectors.joining());
    }

    /** The steps of one stage. */
    private final class Loop {
        private final Recipe recipe;
        private final Stage stage;
        private final Path file;
        private final RunFolder folder;
        private final Listener listener;
        private final Budget budget;
        private final Map<String, Double> smooth = new LinkedHashMap<>();
        private long step;
        private double seconds;
        private long saved;

        Loop(Recipe recipe, Stage stage, Path file, RunFolder folder, Listener listener, Checkpoint before) {
            this.recipe = recipe;
            this.stage = stage;
            this.file = file;
            this.folder = folder;
            this.listener = listener;
            this.budget = Budget.of(recipe);
            this.step = before.step();
            this.seconds = before.seconds();
            this.saved = before.step();
        }

        private double fraction() {
            return budget.used(step, seconds);
        }

        void run() {
            double rate = recipe.number("rate");
            int warmup = recipe.integer("warmup", 100);
            double clip = recipe.number("clip", 1);
            double decay = recipe.number("average", 0.999);
            int seed = recipe.integer("seed", 1);
            double checkpointEvery = recipe.number("checkpoint.seconds", 120);
            double evaluateEvery = recipe.number("evaluate.seconds", 600);
            int accumulate = recipe.integer("accumulate", 1);
            int logEvery = recipe.integer("log.steps", 20);
            int stopAt = recipe.integer("stop.step", Integer.MAX_VALUE);
            double lastCheckpoint = seconds;
            double lastEvaluation = seconds;
            double speed = 0;
            while (fraction() < 1 && !stop && step < stopAt) {
                long begin = System.nanoTime();
                Map<String, Double> terms = new LinkedHashMap<>();
                double progress = fraction();
                stage.parameters().zeroGradient();
                for (int k = 0; k < accumulate && !stop; k++) {
                    long index = step * accumulate + k;
                    torch.manual_seed(seed * 1_000_003L + index);
                    try (var _ = new PointerScope()) {
                        stage.step(index, progress)
                                .forEach((name, value) -> terms.merge(name, value / accumulate, Double::sum));
                    }
                }
                if (stop) {
                    // Some batches of this step are missing: it is made anew when the run goes on.
                    break;
                }
                double length;
                double now = rate * stage.rate(progress) * Math.min(1, (step + 1.0) / warmup);
                try (var _ = new PointerScope()) {
                    stage.parameters().meanGradient(accumulate);
                    length = stage.parameters().step(step + 1, now, clip, decay);
                }
                step++;
                double spent = (System.nanoTime() - begin) * 1e-9;
                seconds += spent;
                double photos = accumulate * stage.batch() / spent;
                speed = speed == 0 ? photos : 0.95 * speed + 0.05 * photos;
                folder.skipped(stage.photos().takeSkipped());
                terms.put("gradient", length);
                terms.forEach((name, value) ->
                        smooth.merge(name, value, (a, b) -> Double.isFinite(b) ? 0.97 * a + 0.03 * b : a));
                smooth.keySet().retainAll(terms.keySet());
                listener.step(recipe.name(), step, fraction(), smooth, speed, budget.secondsLeft(step, seconds));
                if (step % logEvery == 0) {
                    Map<String, Double> line = new LinkedHashMap<>(smooth);
                    line.put("rate", now);
                    folder.log("step", step, seconds, speed, line);
                }
                if (seconds - lastCheckpoint >= checkpointEvery) {
                    lastCheckpoint = seconds;
                    try {
                        save();
                    } catch (UsageException e) {
                        listener.note(e.getMessage() + "; training goes on, and tries again at the next checkpoint");
                    }
                }
                if (seconds - lastEvaluation >= evaluateEvery) {
                    lastEvaluation = seconds;
                    evaluate(speed);
                }
            }
            save();
            if (fraction() >= 1) {
                evaluate(speed);
            }
            folder.curves();
            if (folder.skipped() > 0) {
                listener.note(
                        folder.skipped() + " photos were left out, see " + file.resolveSibling("skipped-photos.txt"));
            }
        }

        /** Writes a checkpoint. One that cannot be written leaves the one before as it is. */
        private void save() {
            try (var _ = new PointerScope()) {
                Checkpoint.of(step, seconds, stage.parameters()).write(file, recipe);
                saved = step;
            } catch (UsageException e) {
                throw new UsageException(
                        e.getMessage() + "; the checkpoint of step " + saved
                                + " is kept: free some space, or make the folder writable, and go on with --resume",
                        e.getCause());
            }
        }

        private void evaluate(double speed) {
            try (var _ = new PointerScope()) {
                Map<String, Double> figures = stage.evaluate(false);
                listener.evaluated(recipe.name(), step, figures);
                folder.log("evaluation", step, seconds, speed, figures);
            }
            folder.curves();
        }
    }

    /**
     * Draws the curves of every stage of a run.
     *
     * @return the files
     * @throws UsageException when the folder holds no run
     */
    public static List<Path> plot(Path runFolder) {
        List<Path> files = new ArrayList<>();
        for (Path folder : stageFolders(runFolder)) {
            files.addAll(new RunFolder(folder, _ -> {}).curves());
        }
        if (files.isEmpty()) {
            throw new UsageException(runFolder + " holds no run with metrics; --out of comneck train names one");
        }
        return files;
    }

    private static List<Path> stageFolders(Path runFolder) {
        try (Stream<Path> inside = Files.walk(runFolder, 1)) {
            return inside.filter(folder -> Files.exists(folder.resolve(RunFolder.METRICS)))
                    .sorted()
                    .toList();
        } catch (IOException e) {
            throw new UsageException(runFolder + " cannot be listed: " + e.getMessage(), e);
        }
    }
}

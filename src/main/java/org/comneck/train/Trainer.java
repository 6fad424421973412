package org.comneck.train;

import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
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
    private static final String CHECKPOINT = "checkpoint.safetensors";
    private static final String METRICS = "metrics.jsonl";
    private static final String SKIPPED = "skipped-photos.txt";
    private static final int SKIPPED_NAMED = 10;

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
                done.await(60, TimeUnit.SECONDS);
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
            Ops.start(stage.integer("threads", 2));
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
        return runFolder.resolve(stage).resolve(CHECKPOINT);
    }

    private static Stage create(Recipe recipe, Path data, Path runFolder) {
        return switch (recipe.word("stage")) {
            case "codec" -> new CodecStage(recipe, data);
            case "encoder" -> new EncoderStage(recipe, data);
            case "neck" -> new SurrogateStage(recipe, data, runFolder);
            default ->
                throw new UsageException("recipe " + recipe.name() + ": stage '" + recipe.word("stage")
                        + "' is unknown; known: codec, encoder, neck");
        };
    }

    private void stage(Recipe recipe, Path data, Path runFolder, boolean resume, Listener listener) {
        Path file = checkpoint(runFolder, recipe.name());
        Path folder = file.getParent();
        boolean known = Files.exists(file);
        if (known && !resume) {
            throw new UsageException(
                    file + " exists: continue that run with --resume, or choose another folder with --out");
        }
        try {
            Files.createDirectories(folder);
        } catch (IOException e) {
            throw new UsageException(folder + " cannot be made: " + e.getMessage(), e);
        }
        Checkpoint before = known ? Checkpoint.read(file) : new Checkpoint(0, 0, Map.of());
        if (Budget.of(recipe).used(before.step(), before.seconds()) >= 1) {
            listener.note(recipe.name() + " is finished already; a larger budget would go on with it");
            return;
        }
        Ops.start(recipe.integer("threads", 2));
        Stage stage = create(recipe, data, runFolder);
        if (known) {
            before.restore(file, stage.parameters());
            listener.note(recipe.name() + " continues at step " + before.step());
        }
        try (stage;
                BufferedWriter metrics = Files.newBufferedWriter(
                        folder.resolve(METRICS), StandardOpenOption.CREATE, StandardOpenOption.APPEND)) {
            new Loop(recipe, stage, file, metrics, listener, before).run();
        } catch (IOException e) {
            throw new UsageException(folder.resolve(METRICS) + " cannot be written: " + e.getMessage(), e);
        }
    }

    /** The steps of one stage. */
    private final class Loop {
        private final Recipe recipe;
        private final Stage stage;
        private final Path file;
        private final BufferedWriter metrics;
        private final Listener listener;
        private final Budget budget;
        private final Map<String, Double> smooth = new LinkedHashMap<>();
        private long step;
        private double seconds;
        private int skipped;

        Loop(Recipe recipe, Stage stage, Path file, BufferedWriter metrics, Listener listener, Checkpoint before) {
            this.recipe = recipe;
            this.stage = stage;
            this.file = file;
            this.metrics = metrics;
            this.listener = listener;
            this.budget = Budget.of(recipe);
            this.step = before.step();
            this.seconds = before.seconds();
        }

        private double fraction() {
            return budget.used(step, seconds);
        }

        void run() throws IOException {
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
                try (var _ = new PointerScope()) {
                    double factor = stage.rate(progress) * Math.min(1, (step + 1.0) / warmup);
                    stage.parameters().meanGradient(accumulate);
                    length = stage.parameters().step(step + 1, rate * factor, clip, decay);
                }
                step++;
                double spent = (System.nanoTime() - begin) * 1e-9;
                seconds += spent;
                double now = accumulate * stage.batch() / spent;
                speed = speed == 0 ? now : 0.95 * speed + 0.05 * now;
                skipped();
                terms.put("gradient", length);
                terms.forEach((name, value) ->
                        smooth.merge(name, value, (a, b) -> Double.isFinite(b) ? 0.97 * a + 0.03 * b : a));
                smooth.keySet().retainAll(terms.keySet());
                listener.step(recipe.name(), step, fraction(), smooth, speed, budget.secondsLeft(step, seconds));
                if (step % logEvery == 0) {
                    log("step", smooth, speed);
                }
                if (seconds - lastCheckpoint >= checkpointEvery) {
                    lastCheckpoint = seconds;
                    save();
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
        }

        /** Says which photos cannot be used: the first ones by name, all of them in a file. */
        private void skipped() throws IOException {
            for (Photos.Skipped photo : stage.photos().takeSkipped()) {
                skipped++;
                if (skipped <= SKIPPED_NAMED) {
                    listener.note("left out: " + photo.reason());
                } else if (skipped == SKIPPED_NAMED + 1) {
                    listener.note("more photos are left out: see " + file.resolveSibling(SKIPPED));
                }
                Files.writeString(
                        file.resolveSibling(SKIPPED),
                        photo.reason() + System.lineSeparator(),
                        StandardOpenOption.CREATE,
                        StandardOpenOption.APPEND);
            }
        }

        private void save() {
            try (var _ = new PointerScope()) {
                new Checkpoint(step, seconds, stage.parameters().state()).write(file, recipe);
            }
        }

        private void evaluate(double speed) throws IOException {
            try (var _ = new PointerScope()) {
                Map<String, Double> figures = stage.evaluate(false);
                listener.evaluated(recipe.name(), step, figures);
                log("evaluation", figures, speed);
            }
        }

        private void log(String kind, Map<String, Double> values, double speed) throws IOException {
            StringBuilder line = new StringBuilder();
            line.append(String.format(
                    Locale.ROOT,
                    "{\"kind\":\"%s\",\"step\":%d,\"seconds\":%.1f,\"photos_per_second\":%.2f",
                    kind,
                    step,
                    seconds,
                    speed));
            values.forEach((name, value) -> line.append(",\"")
                    .append(name)
                    .append("\":")
                    .append(Double.isFinite(value) ? String.format(Locale.ROOT, "%.6g", value) : "null"));
            metrics.write(line.append("}\n").toString());
            metrics.flush();
        }
    }
}

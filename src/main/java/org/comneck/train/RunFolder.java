package org.comneck.train;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.bytedeco.javacpp.Loader;
import org.comneck.UsageException;
import org.comneck.engine.AtomicOutput;

/**
 * What a stage leaves behind, in a folder of its own: {@code checkpoint.safetensors}, {@code recipe.properties}, {@code starts.jsonl} (a line
 * each time training began or went on), {@code metrics.jsonl}, {@code skipped-photos.txt} and the curves.
 *
 * <p>Training outlives a disk that is full: lines are then lost, and said once, but nothing that was written before is.
 */
final class RunFolder {
    static final String CHECKPOINT = "checkpoint.safetensors";
    static final String METRICS = "metrics.jsonl";

    private static final String RECIPE = "recipe.properties";
    private static final String STARTS = "starts.jsonl";
    private static final String SKIPPED = "skipped-photos.txt";
    private static final int SKIPPED_NAMED = 10;
    private static final JsonMapper JSON = new JsonMapper();

    private final Path folder;
    private final Consumer<String> note;
    private int skipped;
    private boolean complained;

    /** @param note told what people should know */
    RunFolder(Path folder, Consumer<String> note) {
        this.folder = folder;
        this.note = note;
        try {
            Files.createDirectories(folder);
        } catch (IOException e) {
            throw new UsageException(folder + " cannot be made: " + e.getMessage(), e);
        }
    }

    Path checkpoint() {
        return folder.resolve(CHECKPOINT);
    }

    /** Training begins or goes on after so many steps: what the metrics say of later ones is of a run that was broken off. */
    void begin(Recipe recipe, long step) {
        try {
            try (Stream<Path> files = Files.list(folder)) {
                for (Path file : files.filter(
                                file -> file.getFileName().toString().startsWith("." + CHECKPOINT))
                        .toList()) {
                    Files.delete(file);
                }
            }
            Path metrics = folder.resolve(METRICS);
            if (Files.exists(metrics)) {
                List<String> lines = Files.readAllLines(metrics);
                List<String> kept =
                        lines.stream().filter(line -> until(line, step)).toList();
                if (kept.size() < lines.size()) {
                    String text = kept.isEmpty() ? "" : String.join("\n", kept) + "\n";
                    AtomicOutput.write(metrics, out -> out.write(text.getBytes(StandardCharsets.UTF_8)));
                }
            }
            AtomicOutput.write(
                    folder.resolve(RECIPE), out -> out.write(recipe.text().getBytes(StandardCharsets.UTF_8)));
        } catch (IOException e) {
            throw new UsageException(folder + ": cannot be written: " + e.getMessage(), e);
        }
        ObjectNode start = JSON.createObjectNode();
        start.put("time", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
        start.put("step", step);
        start.put("command", System.getProperty("sun.java.command", ""));
        start.put("seed", recipe.integer("seed", 1));
        String version = RunFolder.class.getPackage().getImplementationVersion();
        start.put("comneck", version == null ? "unpacked build" : version);
        start.put("libtorch_preset", preset());
        start.put("java", Runtime.version().toString());
        start.put("system", System.getProperty("os.name") + " " + System.getProperty("os.arch"));
        start.put("cores", Runtime.getRuntime().availableProcessors());
        start.put("threads", recipe.integer("threads", 2));
        start.put("device", Ops.device());
        append(STARTS, start.toString());
    }

    private static String preset() {
        try {
            return Loader.getVersion("org.bytedeco", "pytorch");
        } catch (IOException e) {
            return "unknown";
        }
    }

    private static boolean until(String line, long step) {
        try {
            return JSON.readTree(line).path("step").asLong(Long.MAX_VALUE) <= step;
        } catch (JsonProcessingException e) {
            // The last line of a process that was killed.
            return false;
        }
    }

    /** A line of metrics. */
    void log(String kind, long step, double seconds, double speed, Map<String, Double> values) {
        ObjectNode line = JSON.createObjectNode();
        line.put("kind", kind);
        line.put("step", step);
        line.put("seconds", round(seconds));
        line.put("photos_per_second", round(speed));
        values.forEach((name, value) -> {
            if (Double.isFinite(value)) {
                line.put(name, round(value));
            } else {
                line.putNull(name);
            }
        });
        append(METRICS, line.toString());
    }

    /** Six digits are enough for curves. */
    private static double round(double value) {
        return Double.isFinite(value) && value != 0
                ? new java.math.BigDecimal(value)
                        .round(new java.math.MathContext(6))
                        .doubleValue()
                : value;
    }

    /** All lines of metrics that can be read. */
    List<JsonNode> metrics() {
        List<JsonNode> lines = new ArrayList<>();
        Path metrics = folder.resolve(METRICS);
        if (!Files.exists(metrics)) {
            return lines;
        }
        try {
            for (String line : Files.readAllLines(metrics)) {
                try {
                    lines.add(JSON.readTree(line));
                } catch (JsonProcessingException e) {
                    // The last line of a process that was killed, or that is writing.
                }
            }
            return lines;
        } catch (IOException e) {
            throw new UsageException(metrics + " cannot be read: " + e.getMessage(), e);
        }
    }

    /** Draws the curves anew. */
    List<Path> curves() {
        try {
            return Curves.draw(folder.getFileName().toString(), metrics(), folder);
        } catch (UsageException e) {
            complain(e.getMessage());
            return List.of();
        }
    }

    /** Photos that cannot be used: the first ones are said, all of them listed. */
    void skipped(List<Photos.Skipped> photos) {
        for (Photos.Skipped photo : photos) {
            skipped++;
            if (skipped <= SKIPPED_NAMED) {
                note.accept("left out: " + photo.reason());
            } else if (skipped == SKIPPED_NAMED + 1) {
                note.accept("more photos are left out: see " + folder.resolve(SKIPPED));
            }
            append(SKIPPED, photo.reason());
        }
    }

    /** How many photos were left out. */
    int skipped() {
        return skipped;
    }

    private void append(String file, String line) {
        try {
            Files.writeString(folder.resolve(file), line + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            complained = false;
        } catch (IOException e) {
            complain(folder.resolve(file) + " cannot be written: " + e.getMessage());
        }
    }

    private void complain(String what) {
        if (!complained) {
            complained = true;
            note.accept(what + "; training goes on");
        }
    }
}

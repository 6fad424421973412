package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.LongStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Whatever ends a process, the run goes on from its last checkpoint as if nothing had happened. */
class ResumeTest {
    private static final int STEPS = 14;
    private static final String MORE = """
            accumulate = 2
            data.threads = 2
            augment.brightness = 0.2
            """;

    @TempDir
    Path folder;

    private SmallRun small;

    @BeforeEach
    void data() throws IOException {
        small = new SmallRun(Files.createDirectories(folder.resolve("data")));
    }

    /** The recipe as a file. */
    private Path file(Recipe recipe, String more) throws IOException {
        return Files.writeString(folder.resolve(recipe.name() + ".properties"), recipe.text() + "\n" + more);
    }

    @Test
    void killedAndInterruptedRunsEndWithTheSameBits() throws Exception {
        Recipe recipe = SmallRun.codec(STEPS, "0.01 0.04", MORE);
        Path once = folder.resolve("once");
        Trainer.run(recipe, small.data(), once, false, Trainer.Listener.NONE);
        Checkpoint whole = Checkpoint.read(Trainer.checkpoint(once, "small-codec"));

        Path run = folder.resolve("run");
        Path everyStep = file(recipe, "checkpoint.seconds = 0");
        Process killed = TrainingProcess.start(everyStep, small.data(), run, 4, 0);
        try (BufferedReader output = killed.inputReader()) {
            List<String> lines = TrainingProcess.until(output, "step 4");
            assertEquals("step 4", lines.getLast(), lines.toString());
            // SIGKILL
            killed.destroyForcibly();
            assertEquals(128 + 9, killed.waitFor());
        }
        Path checkpoint = Trainer.checkpoint(run, "small-codec");
        long first = Checkpoint.read(checkpoint).step();
        assertTrue(first >= 3 && first < STEPS, "killed at step " + first);
        Files.createFile(checkpoint.resolveSibling("." + checkpoint.getFileName() + ".0.tmp"));

        // No checkpoint falls due: the one that is there afterwards was written because of the signal.
        Process interrupted =
                TrainingProcess.start(file(recipe, "checkpoint.seconds = 1e9"), small.data(), run, first + 2, 0);
        try (BufferedReader output = interrupted.inputReader()) {
            List<String> lines = TrainingProcess.until(output, "step " + (first + 2));
            assertTrue(
                    lines.contains(
                            "note small-codec continues at step " + first + "; checkpoint.seconds was 0, is 1e9"),
                    lines.toString());
            assertEquals(
                    0,
                    new ProcessBuilder("kill", "-INT", Long.toString(interrupted.pid()))
                            .start()
                            .waitFor());
            assertEquals(128 + 2, interrupted.waitFor());
        }
        long second = Checkpoint.read(checkpoint).step();
        assertTrue(second >= first + 2 && second < STEPS, "interrupted at step " + second);
        assertFalse(Files.exists(checkpoint.resolveSibling("." + checkpoint.getFileName() + ".0.tmp")));

        Trainer.run(recipe, small.data(), run, true, Trainer.Listener.NONE);
        Checkpoint resumed = Checkpoint.read(checkpoint);
        assertEquals(STEPS, resumed.step());
        assertEquals(whole.state().keySet(), resumed.state().keySet());
        whole.state()
                .forEach((name, values) ->
                        assertArrayEquals(values, resumed.state().get(name), name));

        // Every step is in the metrics once, in order.
        List<Long> steps = new ArrayList<>();
        new RunFolder(checkpoint.getParent(), _ -> {})
                .metrics().stream()
                        .filter(line -> line.get("kind").asText().equals("step"))
                        .forEach(line -> steps.add(line.get("step").asLong()));
        assertEquals(LongStream.rangeClosed(1, STEPS).boxed().toList(), steps);
        assertEquals(
                3, Files.readAllLines(checkpoint.resolveSibling("starts.jsonl")).size());
    }

    @Test
    void aFullDiskKeepsTheCheckpointBeforeAndSaysWhatToDo() throws Exception {
        Recipe recipe = SmallRun.codec(5, "0.01 0.04", "stop.step = 3");
        Path run = folder.resolve("run");
        Trainer.run(recipe, small.data(), run, false, Trainer.Listener.NONE);
        Path checkpoint = Trainer.checkpoint(run, "small-codec");
        byte[] before = Files.readAllBytes(checkpoint);
        assertTrue(before.length > 100 << 10);

        Recipe onwards = SmallRun.codec(5, "0.01 0.04", "checkpoint.seconds = 0");
        Process full = TrainingProcess.start(file(onwards, ""), small.data(), run, 0, 100);
        List<String> lines;
        try (BufferedReader output = full.inputReader()) {
            lines = TrainingProcess.until(output, "error");
            full.waitFor();
        }
        assertTrue(lines.contains("step 5"), "training went on: " + lines);
        assertTrue(
                lines.stream()
                        .anyMatch(
                                line -> line.startsWith("note") && line.endsWith("tries again at the next checkpoint")),
                lines.toString());
        assertTrue(lines.getLast().startsWith("error"), lines.toString());
        assertTrue(lines.getLast().contains("the checkpoint of step 3 is kept: free some space"), lines.getLast());
        assertArrayEquals(before, Files.readAllBytes(checkpoint));
        try (var files = Files.list(checkpoint.getParent())) {
            assertTrue(files.noneMatch(file -> file.toString().endsWith(".tmp")));
        }
        Trainer.run(onwards, small.data(), run, true, Trainer.Listener.NONE);
        assertEquals(5, Checkpoint.read(checkpoint).step());
    }
}

package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.comneck.UsageException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs of a few seconds: every loss term falls, and a run that was interrupted ends with the same bits. */
class TrainerTest {
    @TempDir
    Path folder;

    private List<JsonNode> train(Recipe recipe, SmallRun small) throws IOException {
        Trainer.run(recipe, small.data(), folder, false, Trainer.Listener.NONE);
        return steps(recipe);
    }

    private List<JsonNode> steps(Recipe recipe) throws IOException {
        List<JsonNode> steps = new ArrayList<>();
        for (String line : Files.readAllLines(folder.resolve(recipe.name()).resolve("metrics.jsonl"))) {
            JsonNode node = new ObjectMapper().readTree(line);
            if (node.get("kind").asText().equals("step")) {
                steps.add(node);
            }
        }
        return steps;
    }

    /** Terms in the log are smoothed over some thirty steps: what they show is less than what happened. */
    private static void falls(List<JsonNode> steps, double factor, String... terms) {
        for (String term : terms) {
            double before = steps.getFirst().get(term).asDouble();
            double after = steps.getLast().get(term).asDouble();
            assertTrue(
                    after < factor * before,
                    term + " went from " + before + " to " + after + "; " + steps.getFirst() + " " + steps.getLast());
        }
    }

    @Test
    void codecLearnsToReconstruct() throws IOException {
        SmallRun small = new SmallRun(Files.createDirectories(folder.resolve("data")));
        List<JsonNode> steps = train(SmallRun.codec(60, "0.01 0.04", ""), small);
        falls(steps, 0.8, "loss", "distortion");
        falls(steps, 0.995, "auxiliary");
    }

    @Test
    void codecLearnsToSave() throws IOException {
        SmallRun small = new SmallRun(Files.createDirectories(folder.resolve("data")));
        List<JsonNode> steps = train(SmallRun.codec(40, "1e-7 1e-6", ""), small);
        falls(steps, 0.95, "loss", "bpp");
        falls(steps, 0.995, "auxiliary");
    }

    @Test
    void encoderAndNeckLearnAndBecomeAModel() throws IOException {
        SmallRun small = new SmallRun(Files.createDirectories(folder.resolve("data")));
        train(SmallRun.codec(3, "0.01 0.04", ""), small);
        List<JsonNode> together = train(SmallRun.encoder(100, "blocks.alone = 0\nrate.together = 0.7"), small);
        falls(together, 0.95, "loss", "hints");
        falls(together, 0.995, "class", "entropy", "head", "text");
        Files.delete(Trainer.checkpoint(folder, "small-encoder"));
        Files.delete(folder.resolve("small-encoder").resolve("metrics.jsonl"));
        List<JsonNode> steps =
                train(SmallRun.encoder(60, "blocks.alone = 0.5\nblocks.chained = 0.8\noptimizer = muon"), small);
        assertTrue(steps.getLast().has("hints"));
        List<JsonNode> alone = steps.stream().filter(step -> step.has("mlp")).toList();
        falls(alone, 0.95, "loss", "embedding", "attention", "mlp");
        falls(alone, 0.99, "head", "text");
        falls(train(SmallRun.neck(40), small), 0.95, "loss", "entry", "tokens", "last", "class.relative");

        TrainedForward.agrees(small, folder);
        TrainedRate.agrees(small, folder);
    }

    /** The first step's loss is that of the same photos, but coded; the teacher's part of it says that they are the same. */
    @Test
    void anEncoderSeesPhotosAsACodecLeavesThem() throws IOException {
        SmallRun small = new SmallRun(Files.createDirectories(folder.resolve("data")));
        train(SmallRun.codec(3, "0.01 0.04", ""), small);
        String plain = "blocks.alone = 0\ndegraded.codec = small-codec\ndegraded = ";
        JsonNode clean = train(SmallRun.encoder(1, plain + "0"), small).getFirst();
        Files.delete(Trainer.checkpoint(folder, "small-encoder"));
        Files.delete(folder.resolve("small-encoder").resolve("metrics.jsonl"));
        JsonNode coded = train(SmallRun.encoder(1, plain + "1"), small).getFirst();
        assertNotEquals(clean.get("hints").asDouble(), coded.get("hints").asDouble());
        assertEquals(clean.get("text").asDouble(), coded.get("text").asDouble());
        Files.delete(Trainer.checkpoint(folder, "small-encoder"));
        Recipe unknown = SmallRun.encoder(1, "degraded = 1\ndegraded.codec = nothing");
        UsageException error = assertThrows(
                UsageException.class, () -> Trainer.run(unknown, small.data(), folder, false, Trainer.Listener.NONE));
        assertTrue(error.getMessage().contains("nothing"), error.getMessage());
        Recipe share = SmallRun.encoder(1, "degraded = 1.5\ndegraded.codec = small-codec");
        assertThrows(
                UsageException.class, () -> Trainer.run(share, small.data(), folder, false, Trainer.Listener.NONE));
    }

    @Test
    void aCodecWithFixedLatentsTrainsWhatComesAfterThem() throws IOException {
        SmallRun small = new SmallRun(Files.createDirectories(folder.resolve("data")));
        Recipe recipe = SmallRun.codec(3, "0.01 0.04", "codec.fixed = true");
        train(recipe, small);
        Path file = Trainer.checkpoint(folder, "small-codec");
        Parameters before = CodecStage.parameters(recipe);
        Parameters after = CodecStage.parameters(recipe);
        Checkpoint.read(file).restore(file, after);
        for (String name : before.slots().keySet()) {
            boolean latents = name.startsWith("g_a.") || name.equals("gain.y.log");
            if (latents) {
                assertArrayEquals(before.averageOf(name), after.averageOf(name), name);
            } else if (name.startsWith("g_s.") && name.endsWith(".weight")) {
                assertFalse(java.util.Arrays.equals(before.averageOf(name), after.averageOf(name)), name);
            }
        }
    }

    @Test
    void anInterruptedRunEndsWithTheSameBits() throws IOException {
        SmallRun small = new SmallRun(Files.createDirectories(folder.resolve("data")));
        train(SmallRun.codec(6, "0.01 0.04", ""), small);
        Path file = Trainer.checkpoint(folder, "small-codec");
        Checkpoint whole = Checkpoint.read(file);
        Files.delete(file);
        train(SmallRun.codec(6, "0.01 0.04", "stop.step = 3"), small);
        assertEquals(3, Checkpoint.read(file).step());
        Recipe again = SmallRun.codec(6, "0.01 0.04", "");
        assertThrows(
                UsageException.class, () -> Trainer.run(again, small.data(), folder, false, Trainer.Listener.NONE));
        Trainer.run(again, small.data(), folder, true, Trainer.Listener.NONE);
        Checkpoint resumed = Checkpoint.read(file);
        assertEquals(6, resumed.step());
        whole.state()
                .forEach((name, values) ->
                        assertArrayEquals(values, resumed.state().get(name), name));

        Trainer.run(again, small.data(), folder, true, Trainer.Listener.NONE);
        assertEquals(6, Checkpoint.read(file).step(), "the budget is used up");
        Recipe longer = SmallRun.codec(8, "0.01 0.04", "");
        Trainer.run(longer, small.data(), folder, true, Trainer.Listener.NONE);
        assertEquals(8, Checkpoint.read(file).step(), "a larger budget goes on");
    }
}

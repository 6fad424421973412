package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.comneck.UsageException;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.ModelWriter;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Training goes on from a model file or a checkpoint of another run. */
class StartWeightsTest {
    @TempDir
    Path folder;

    private Parameters codec() {
        return CodecStage.parameters(SmallRun.codec(1, "0.01 0.04", "seed = 9"));
    }

    private static Recipe start(Path file) {
        return SmallRun.codec(1, "0.01 0.04", "start = " + file);
    }

    @Test
    void aStageStartsFromTheAveragesOfACheckpoint() throws IOException {
        SmallRun small = new SmallRun(Files.createDirectories(folder.resolve("data")));
        Path first = folder.resolve("first");
        Trainer.run(SmallRun.codec(4, "0.01 0.04", ""), small.data(), first, false, Trainer.Listener.NONE);
        Path file = Trainer.checkpoint(first, "small-codec");
        List<String> notes = new ArrayList<>();
        // One step at no learning rate: what comes out is what went in.
        Path second = folder.resolve("second");
        Recipe still = SmallRun.codec(1, "0.01 0.04", "rate = 0\nseed = 9\nstart = " + file);
        Trainer.run(still, small.data(), second, false, new Trainer.Listener() {
            @Override
            public void note(String text) {
                notes.add(text);
            }
        });
        Checkpoint after = Checkpoint.read(Trainer.checkpoint(second, "small-codec"));
        assertArrayEquals(
                Checkpoint.read(file).state().get("average"), after.state().get("value"));
        assertEquals("small-codec starts from the weights of " + file, notes.getFirst());
    }

    @Test
    void aModelFileGivesItsTensorsByName() {
        Ops.start(1);
        ModelWriter writer = ModelWriter.plain();
        Parameters parameters = codec();
        parameters.slots().forEach((name, slot) -> {
            if (!name.startsWith("entropy_bottleneck.")) {
                float[] values = new float[slot.count()];
                Arrays.fill(values, 2f);
                writer.add(name.replaceFirst("[.]log$", ""), Tensor.of(values, slot.shape()));
            }
        });
        Path file = folder.resolve("model.safetensors");
        writer.write(file);
        float[] prior = parameters.averageOf("entropy_bottleneck._bias0");
        StartWeights weights = StartWeights.of("model", tensors(file));
        assertTrue(weights.set(parameters).endsWith("; the prior of z starts anew"));
        assertEquals(2f, parameters.averageOf("g_a.0.weight")[3]);
        assertEquals((float) Math.log(2), parameters.averageOf("gain.y.log")[1]);
        assertArrayEquals(prior, parameters.averageOf("entropy_bottleneck._bias0"));
    }

    @Test
    void whatDoesNotFitIsNamed() {
        Ops.start(1);
        Path file = folder.resolve("checkpoint.safetensors");
        Parameters other =
                new Parameters(1).uniform("g_a.0.weight", 1, 8, 3, 5, 4).build();
        Checkpoint.of(1, 1, other).write(file, start(file));
        UsageException error =
                assertThrows(UsageException.class, () -> StartWeights.set(file.toString(), folder, folder, codec()));
        assertEquals(
                "start: tensor 'g_a.0.weight' is [8, 3, 5, 4] in " + file + ", the recipe's network has [8, 3, 5, 5]",
                error.getMessage());
        Parameters more = new Parameters(1).uniform("unheard.of", 1, 2).build();
        assertTrue(assertThrows(UsageException.class, () -> StartWeights.set(file.toString(), folder, folder, more))
                .getMessage()
                .contains("has no tensor 'unheard.of'"));
        assertThrows(UsageException.class, () -> StartWeights.set("no-such-file", folder, folder, more));
        // A run does not go on with another network either.
        assertTrue(
                assertThrows(UsageException.class, () -> Checkpoint.read(file).restore(file, more))
                        .getMessage()
                        .contains("tensor 'unheard.of' is not in it"));
    }

    /** Tensors are known by name: a network that declares them in another order goes on all the same. */
    @Test
    void aCheckpointOfAnotherOrderIsRestoredByName() {
        Ops.start(1);
        Parameters one =
                new Parameters(1).uniform("a", 1, 2, 3).uniform("b", 1, 4).build();
        Path file = folder.resolve("checkpoint.safetensors");
        Checkpoint.of(3, 1, one).write(file, start(file));
        Parameters other =
                new Parameters(2).uniform("b", 1, 4).uniform("a", 1, 2, 3).build();
        assertFalse(Arrays.equals(one.averageOf("a"), other.averageOf("a")));
        Checkpoint.read(file).restore(file, other);
        assertArrayEquals(one.averageOf("a"), other.averageOf("a"));
        assertArrayEquals(one.averageOf("b"), other.averageOf("b"));
    }

    /** Files of the first version do not say which tensors they hold; those of running trainings have to stay readable. */
    @Test
    void aCheckpointOfTheFirstVersionIsRead() {
        Ops.start(1);
        Parameters one = new Parameters(1).uniform("a", 1, 2, 3).build();
        Path file = folder.resolve("checkpoint.safetensors");
        ModelWriter writer = ModelWriter.plain()
                .metadata("comneck.step", "7")
                .metadata("comneck.seconds", "1.5")
                .metadata("comneck.recipe", "stage = codec");
        one.state().forEach((name, values) -> writer.add(name, Tensor.of(values, values.length)));
        writer.write(file);
        Parameters other = new Parameters(2).uniform("a", 1, 2, 3).build();
        Checkpoint checkpoint = Checkpoint.read(file);
        assertEquals(7, checkpoint.step());
        checkpoint.restore(file, other);
        assertArrayEquals(one.averageOf("a"), other.averageOf("a"));
        assertTrue(assertThrows(UsageException.class, () -> StartWeights.set(file.toString(), folder, folder, other))
                .getMessage()
                .contains("first version"));
    }

    @Test
    void theEmbeddedModelStartsItsOwnEncoder() {
        assumeTrue(ModelFile.hasEmbedded(), "skipped: this build has no embedded model");
        Ops.start(1);
        Parameters encoder = EncoderStage.parameters(Recipe.load("tiny-encoder"));
        assertTrue(StartWeights.set("embedded", folder, folder, encoder).startsWith("starts from the weights of"));
        try (ModelFile model = ModelFile.openEmbedded()) {
            assertArrayEquals(model.tensor("visual.proj").toFloats(), encoder.averageOf("visual.proj"));
        }
    }

    /** Its prior too, which the file holds as integer tables. */
    @Test
    void theEmbeddedModelStartsItsOwnCodec() {
        assumeTrue(ModelFile.hasEmbedded(), "skipped: this build has no embedded model");
        Ops.start(1);
        try (ModelFile model = ModelFile.openEmbedded()) {
            Manifest.Codec codec = model.manifest().codec();
            int[] widths = new int[4];
            for (int i = 0; i < 4; i++) {
                String name = List.of(
                                "ParamAggregation.0.0",
                                "ParamAggregation.0.2",
                                "cc_transforms.0.0",
                                "cc_transforms.0.2")
                        .get(i);
                widths[i] = (int) model.tensor(name + ".weight").shape().size(0);
            }
            CodecNetwork.Size size = new CodecNetwork.Size(
                    codec.n(),
                    codec.m(),
                    codec.slices(),
                    widths[0],
                    widths[1],
                    widths[2],
                    widths[3],
                    model.manifest().qualities().stream()
                            .map(Manifest.Quality::lambda)
                            .toList());
            Parameters parameters =
                    CodecNetwork.declare(size, new Parameters(1)).build();
            String said = StartWeights.set("embedded", folder, folder, parameters);
            assertFalse(said.contains("anew"), said);
            assertArrayEquals(model.tensor("g_a.0.bias").toFloats(), parameters.averageOf("g_a.0.bias"));
            float[] medians = model.tensor("entropy.factorized.medians").toFloats();
            assertEquals(medians[0], parameters.averageOf("entropy_bottleneck.quantiles")[1]);
        }
    }

    @Test
    void aGpuThatIsMissingIsSaid() {
        Ops.start(1);
        assumeTrue(!org.bytedeco.pytorch.global.torch.cuda_is_available(), "there is a GPU");
        UsageException error =
                assertThrows(UsageException.class, () -> Ops.start(Recipe.parse("x", "stage = codec\ndevice = cuda")));
        assertTrue(error.getMessage().contains("finds no GPU"), error.getMessage());
        Ops.start(Recipe.parse("x", "stage = codec\ndevice = auto"));
        assertEquals("cpu", Ops.device());
    }

    private static java.util.Map<String, Tensor> tensors(Path file) {
        java.util.Map<String, Tensor> tensors = new java.util.LinkedHashMap<>();
        try (org.comneck.model.SafetensorsFile source = org.comneck.model.SafetensorsFile.open(file)) {
            source.tensors()
                    .forEach((name, tensor) -> tensors.put(
                            name, Tensor.of(tensor.toFloats(), tensor.shape().toArray())));
        }
        return tensors;
    }
}

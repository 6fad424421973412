package org.comneck.vision;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.comneck.DamagedDataException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.comneck.model.TensorSource;
import org.comneck.parity.Fixture;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.comneck.vision.VisionEncoder.PostNorm;
import org.comneck.vision.VisionEncoder.Tokens;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Options of the encoder, on a tiny seeded CLIP (3 blocks, 32 wide, 16+1 tokens). */
class VisionEncoderTest {
    private static final int WIDTH = 32;
    private static final int TOKENS = 17;
    private static Backend backend;
    private static ModelFile model;
    private static VisionEncoder encoder;
    private static float[] embeddings;

    @BeforeAll
    static void open() {
        backend = new ReferenceBackend(1);
        model = SeededModel.named(SeededModel.TINY).inMemory();
        encoder = VisionEncoder.load(backend, model, Precision.F32);
        embeddings = new float[TOKENS * WIDTH];
        for (int i = 0; i < embeddings.length; i++) {
            embeddings[i] = (float) Math.sin(i * 0.7);
        }
    }

    @AfterAll
    static void close() {
        encoder.close();
        model.close();
        backend.close();
    }

    /** Records on the embeddings and returns what comes out. */
    private interface Recording {
        Activation record(RunBuilder run, Activation x);
    }

    private static float[] run(Recording recording) {
        RunBuilder builder = backend.newRun();
        Activation x = builder.input(ElementType.F32, 1, 1, TOKENS, WIDTH);
        Activation out = recording.record(builder, x);
        builder.output(out);
        try (Run run = builder.build()) {
            Fixture.fill(run, x, embeddings);
            run.execute();
            return Fixture.read(run, out);
        }
    }

    @Test
    void layersCountFromEitherEnd() {
        assertEquals(3, encoder.depth());
        assertEquals(3, encoder.blocksOf(-1));
        assertEquals(2, encoder.blocksOf(-2));
        assertEquals(0, encoder.blocksOf(-4));
        assertEquals(0, encoder.blocksOf(0));
        assertEquals(3, encoder.blocksOf(3));
        assertThrows(IllegalArgumentException.class, () -> encoder.blocksOf(4));
        assertThrows(IllegalArgumentException.class, () -> encoder.blocksOf(-5));
        RunBuilder builder = backend.newRun();
        Activation x = builder.input(ElementType.F32, 1, 1, TOKENS, WIDTH);
        assertSame(x, encoder.blocks(builder, x, 2, -2));
        assertThrows(IllegalArgumentException.class, () -> encoder.blocks(builder, x, 3, -2));
    }

    @Test
    void aStopAndAnEntryMakeOneWay() {
        float[] atOnce = run((run, x) -> encoder.blocks(run, x, 0, -1));
        float[] inTwo = run((run, x) -> encoder.blocks(run, encoder.blocks(run, x, 0, 1), 1, 3));
        assertArrayEquals(atOnce, inTwo);
    }

    @Test
    void tokensAreSelectedBeforeTheHead() {
        float[] all = run((run, x) -> encoder.head(run, x, Tokens.ALL, PostNorm.ONCE, true));
        float[] patches = run((run, x) -> encoder.head(run, x, Tokens.PATCHES, PostNorm.ONCE, true));
        float[] cls = run((run, x) -> encoder.head(run, x, Tokens.CLS, PostNorm.ONCE, true));
        assertEquals(TOKENS * 24, all.length);
        assertArrayEquals(Arrays.copyOf(all, 24), cls);
        assertArrayEquals(Arrays.copyOfRange(all, 24, all.length), patches);
        assertArrayEquals(embeddings, run((run, x) -> encoder.head(run, x, Tokens.ALL, PostNorm.NONE, false)));
    }

    @Test
    void theFinalNormMayComeTwice() {
        float[] twice = run((run, x) -> encoder.head(run, x, Tokens.ALL, PostNorm.TWICE, false));
        float[] again = run((run, x) -> {
            Activation once = encoder.head(run, x, Tokens.ALL, PostNorm.ONCE, false);
            return encoder.head(run, once, Tokens.ALL, PostNorm.ONCE, false);
        });
        assertArrayEquals(twice, again);
        float[] weight = model.tensor("visual.ln_post.weight").toFloats();
        float[] bias = model.tensor("visual.ln_post.bias").toFloats();
        float[] once = run((run, x) -> encoder.head(run, x, Tokens.CLS, PostNorm.ONCE, false));
        double mean = 0;
        double square = 0;
        for (int c = 0; c < WIDTH; c++) {
            mean += embeddings[c] / (double) WIDTH;
            square += (double) embeddings[c] * embeddings[c] / WIDTH;
        }
        double deviation = Math.sqrt(square - mean * mean + 1e-5);
        for (int c = 0; c < WIDTH; c++) {
            assertEquals((embeddings[c] - mean) / deviation * weight[c] + bias[c], once[c], 1e-5);
        }
    }

    @Test
    void projectionIsTheMatrixOnTheRight() {
        float[] proj = model.tensor("visual.proj").toFloats();
        float[] out = run((run, x) -> encoder.head(run, x, Tokens.CLS, PostNorm.NONE, true));
        for (int p = 0; p < 24; p++) {
            double sum = 0;
            for (int c = 0; c < WIDTH; c++) {
                sum += (double) embeddings[c] * proj[c * 24 + p];
            }
            assertEquals(sum, out[p], 1e-5);
        }
    }

    @Test
    void picturesOfOtherSizesInterpolatePositions() {
        assertFalse(encoder.interpolates(64, 64));
        assertTrue(encoder.interpolates(96, 64));
        RunBuilder builder = backend.newRun();
        Activation pixels = builder.input(ElementType.U8, 1, 96, 64, 3);
        assertEquals(1 + 6 * 4, encoder.embed(builder, pixels).positions());
    }

    @Test
    void whatIsMissingIsSaid() {
        Manifest m = model.manifest();
        try (ModelFile empty = ModelFile.inMemory(m, Map.of());
                VisionEncoder none = VisionEncoder.load(backend, empty, Precision.F32)) {
            RunBuilder builder = backend.newRun();
            Activation x = builder.input(ElementType.F32, 1, 1, TOKENS, WIDTH);
            DamagedDataException e = assertThrows(DamagedDataException.class, () -> none.blocks(builder, x, 0, 1));
            assertTrue(e.getMessage().contains("visual.transformer.resblocks.0"), e.getMessage());
            assertThrows(IllegalArgumentException.class, () -> none.head(builder, x, Tokens.CLS, PostNorm.NONE, false));
            assertThrows(IllegalArgumentException.class, () -> none.classLogits(builder, x));
        }
        Manifest without = new Manifest(
                "x", Manifest.PROFILE, null, null, null, null, List.of(), List.of(), new Manifest.Tokens(-1, "all"));
        try (ModelFile none = ModelFile.inMemory(without, Map.of())) {
            assertThrows(DamagedDataException.class, () -> VisionEncoder.load(backend, none, Precision.F32));
        }
    }

    @Test
    void projectorOfOneOrTwoLayers() {
        Map<String, TensorSource> tensors = new LinkedHashMap<>();
        float[] w1 = {1, 2, -1, 0.5f, 0.25f, -3}; // [3,2]
        float[] w2 = {1, -1, 2}; // [1,3]
        tensors.put("multi_modal_projector.linear_1.weight", TensorSource.of(Tensor.of(w1, 3, 2)));
        tensors.put("multi_modal_projector.linear_1.bias", TensorSource.of(Tensor.of(new float[] {0, 1, 0}, 3)));
        float[] expected = {1 + 2 * 0.5f, -1 + 0.25f + 1, 0.25f - 1.5f};
        assertArrayEquals(expected, project(tensors, 3), 1e-6f);
        tensors.put("multi_modal_projector.linear_2.weight", TensorSource.of(Tensor.of(w2, 1, 3)));
        tensors.put("multi_modal_projector.linear_2.bias", TensorSource.of(Tensor.of(new float[] {0.5f}, 1)));
        // GELU of 2, 0.25 and -1.25
        double sum = 1.9544997361 - 0.1496765748 + 2 * -0.1320622228 + 0.5;
        assertArrayEquals(new float[] {(float) sum}, project(tensors, 1), 1e-5f);
    }

    private static float[] project(Map<String, TensorSource> tensors, int width) {
        try (ModelFile file = ModelFile.inMemory(model.manifest(), tensors);
                MultimodalProjector projector = MultimodalProjector.load(backend, file, Precision.F32)) {
            RunBuilder builder = backend.newRun();
            Activation x = builder.input(ElementType.F32, 1, 1, 1, 2);
            Activation out = projector.record(builder, x);
            assertEquals(width, out.channels());
            builder.output(out);
            try (Run run = builder.build()) {
                Fixture.fill(run, x, new float[] {1, 0.5f});
                run.execute();
                return Fixture.read(run, out);
            }
        }
    }
}

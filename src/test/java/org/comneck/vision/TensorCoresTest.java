package org.comneck.vision;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.comneck.model.TensorSource;
import org.comneck.neck.Neck;
import org.comneck.parity.Fixture;
import org.comneck.parity.ParityTable;
import org.comneck.parity.TestBackends;
import org.comneck.tensor.ElementType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/** bf16 and fp16 on the cuda backend, whose linear layers and attention run on tensor cores; here on the emulation. */
class TensorCoresTest {
    private static double limit(Precision precision) {
        return precision == Precision.BF16 ? 2e-2 : 3e-3;
    }

    private static String name(Precision precision) {
        return "cuda emulated " + precision.name().toLowerCase(Locale.ROOT);
    }

    /** The published neck at full size, from y_hat, against values computed in float64 (../shared/reference/README.md). */
    @ParameterizedTest
    @CsvSource({"BF16, sm_80", "F16, sm_80", "BF16, sm_90a"})
    void neckAgainstFloat64(Precision precision, String isa) {
        SeededModel full = SeededModel.named(SeededModel.FULL);
        Map<String, TensorSource> tensors = new LinkedHashMap<>(full.tensors());
        tensors.keySet().removeIf(name -> name.startsWith("visual."));
        try (Fixture fixture = Fixture.open("square-256.safetensors");
                ModelFile model = ModelFile.inMemory(full.manifest(), tensors);
                Backend backend = EmulatedCuda.open(isa);
                Neck neck = Neck.load(backend, model, precision)) {
            RunBuilder builder = backend.newRun();
            Activation yHat = builder.input(ElementType.F32, 1, fixture.height("y"), fixture.width("y"), 320);
            Activation embeddings = neck.record(builder, yHat);
            builder.output(embeddings);
            try (Run run = builder.build()) {
                Fixture.fill(run, yHat, fixture.floats("y_hat"));
                run.execute();
                ParityTable table = new ParityTable(name(precision) + " " + isa);
                table.compare("neck", fixture.floats("neck"), Fixture.read(run, embeddings), limit(precision));
                table.finish();
            }
        }
    }

    /** Two blocks of the embedded encoder: close to the processor's f32, and the same bits for an image in every batch. */
    @ParameterizedTest
    @CsvSource({"BF16, sm_80", "F16, sm_80", "BF16, sm_90a", "F16, sm_90a"})
    void blocksDoNotDependOnTheBatch(Precision precision, String isa) {
        assumeTrue(ModelFile.hasEmbedded(), "this build embeds no model");
        int tokens = 37;
        int width = 192;
        float[] values = new float[3 * tokens * width];
        Random random = new Random(8);
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) random.nextGaussian();
        }
        try (ModelFile model = ModelFile.openEmbedded();
                Backend cuda = EmulatedCuda.open(isa);
                Backend processor = TestBackends.fastest()) {
            float[] expected = blocks(processor, model, Precision.F32, values, 3, tokens, width);
            float[] actual = blocks(cuda, model, precision, values, 3, tokens, width);
            ParityTable table = new ParityTable(name(precision) + " " + isa + " blocks");
            table.compare("two blocks", expected, actual, limit(precision));
            table.finish();
            int each = tokens * width;
            for (int i = 0; i < 3; i++) {
                float[] image = Arrays.copyOfRange(values, i * each, (i + 1) * each);
                assertArrayEquals(
                        Arrays.copyOfRange(actual, i * each, (i + 1) * each),
                        blocks(cuda, model, precision, image, 1, tokens, width),
                        "image " + i);
            }
        }
    }

    /** Every product and attention of bf16 and f16 is on tensor cores, of f32 none is: read from what the runs launch. */
    @Test
    void launches() {
        assumeTrue(ModelFile.hasEmbedded(), "this build embeds no model");
        try (ModelFile model = ModelFile.openEmbedded();
                Backend cuda = EmulatedCuda.open();
                Backend processor = TestBackends.fastest()) {
            assertEquals(Map.of(), launches(processor, model, Precision.BF16));
            int blocks = neckBlocks(model) + 2; // four products and an attention each
            int products = 1 + 4 * blocks + 1; // the neck's first layer, the projection
            int norms =
                    2 * blocks; // and ln_post, whose result is f32; ln_pre is one kernel with class token and positions
            for (Precision fast : List.of(Precision.BF16, Precision.F16)) {
                assertEquals(kinds(products, blocks, norms, 0, 0, 1), launches(cuda, model, fast), () -> "" + fast);
            }
            assertEquals(kinds(0, 0, 0, products, blocks, norms + 1), launches(cuda, model, Precision.F32), "f32");
        }
    }

    private static Map<String, Long> kinds(
            long gemm, long fused, long rowNorms, long convolutions, long attention, long norms) {
        return Map.ofEntries(
                Map.entry("tensor_gemm", gemm),
                Map.entry("fused_attention", fused),
                Map.entry("row_norm", rowNorms),
                Map.entry("canonical_convolution", convolutions),
                Map.entry("canonical_attention", attention),
                Map.entry("canonical_norm", norms),
                Map.entry("elementwise", 0L),
                Map.entry("rans", 0L),
                Map.entry("embed_norm", 1L),
                Map.entry("cublaslt", 0L),
                Map.entry("tensor_convolution", 0L),
                Map.entry("cudnn", 0L));
    }

    private static int neckBlocks(ModelFile model) {
        int blocks = 0;
        while (model.has("transformer.resblocks." + blocks + ".ln_1.weight")) {
            blocks++;
        }
        return blocks;
    }

    /** From y_hat through the neck, the encoder's last two blocks and its head. */
    private static Map<String, Long> launches(Backend backend, ModelFile model, Precision precision) {
        try (Neck neck = Neck.load(backend, model, precision);
                VisionEncoder encoder = VisionEncoder.load(backend, model, precision)) {
            RunBuilder builder = backend.newRun();
            int latents = Math.toIntExact(
                    model.tensor("trans_latent_dim.weight").shape().size(1));
            Activation yHat = builder.input(ElementType.F32, 2, 3, 4, latents);
            Activation tokens = encoder.blocks(builder, neck.record(builder, yHat), encoder.depth() - 2, -1);
            builder.output(encoder.head(builder, tokens, VisionEncoder.Tokens.ALL, VisionEncoder.PostNorm.ONCE, true));
            try (Run run = builder.build()) {
                run.execute();
                return run.launches();
            }
        }
    }

    /** The patch embedding is a product, too: close to the processor's f32, from a picture with a remainder on both sides. */
    @ParameterizedTest
    @EnumSource(names = {"BF16", "F16"})
    void patches(Precision precision) {
        assumeTrue(ModelFile.hasEmbedded(), "this build embeds no model");
        try (ModelFile model = ModelFile.openEmbedded();
                Backend cuda = EmulatedCuda.open();
                Backend processor = TestBackends.fastest()) {
            float[] expected = embedding(processor, model, Precision.F32);
            ParityTable table = new ParityTable(name(precision) + " patches");
            table.compare("embedding", expected, embedding(cuda, model, precision), limit(precision));
            table.finish();
        }
    }

    private static float[] embedding(Backend backend, ModelFile model, Precision precision) {
        int height = 55;
        int width = 71;
        byte[] picture = new byte[2 * height * width * 3];
        new Random(9).nextBytes(picture);
        try (VisionEncoder encoder = VisionEncoder.load(backend, model, precision)) {
            RunBuilder builder = backend.newRun();
            Activation pixels = builder.input(ElementType.U8, 2, height, width, 3);
            Activation tokens = encoder.embed(builder, pixels);
            builder.output(tokens);
            try (Run run = builder.build()) {
                run.memory(pixels).copyFrom(MemorySegment.ofArray(picture));
                run.execute();
                if (precision != Precision.F32) {
                    assertEquals(1, run.launches().get("tensor_gemm"));
                    assertEquals(0, run.launches().get("canonical_convolution"));
                    assertEquals(1, run.launches().get("elementwise")); // mean and deviation of the pixels
                    assertEquals(1, run.launches().get("embed_norm"));
                    assertEquals(0, run.launches().get("canonical_norm"));
                }
                return Fixture.read(run, tokens);
            }
        }
    }

    private static float[] blocks(
            Backend backend, ModelFile model, Precision precision, float[] values, int images, int tokens, int width) {
        try (VisionEncoder encoder = VisionEncoder.load(backend, model, precision)) {
            RunBuilder builder = backend.newRun();
            Activation input = builder.input(ElementType.F32, images, 1, tokens, width);
            Activation output = encoder.blocks(builder, input, 10, -1);
            builder.output(output);
            try (Run run = builder.build()) {
                Fixture.fill(run, input, values);
                run.execute();
                return Fixture.read(run, output);
            }
        }
    }
}

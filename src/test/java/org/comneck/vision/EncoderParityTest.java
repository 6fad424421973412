package org.comneck.vision;

import java.lang.foreign.MemorySegment;
import java.util.LinkedHashMap;
import java.util.Map;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.comneck.model.TensorSource;
import org.comneck.parity.Fixture;
import org.comneck.parity.ParityTable;
import org.comneck.parity.TestBackends;
import org.comneck.tensor.ElementType;
import org.junit.jupiter.api.Test;

/** CLIP ViT-L/14 at full size against values computed in float64 (../shared/reference/README.md). */
class EncoderParityTest {
    @Test
    void vitLarge() {
        try (Fixture fixture = Fixture.open("square-256.safetensors")) {
            SeededModel full = SeededModel.named(SeededModel.FULL);
            Map<String, TensorSource> tensors = new LinkedHashMap<>(full.tensors());
            tensors.keySet().removeIf(name -> !name.startsWith("visual."));
            try (Backend backend = TestBackends.fastest();
                    ModelFile model = ModelFile.inMemory(full.manifest(), tensors)) {
                ParityTable table = new ParityTable(backend.name() + " vit-l-14");
                check(fixture, backend, model, table, Precision.F32, "", 1e-4);
                check(fixture, backend, model, table, Precision.BF16, " bf16", 2e-2);
                table.finish();
            }
        }
    }

    private static void check(
            Fixture fixture,
            Backend backend,
            ModelFile model,
            ParityTable table,
            Precision precision,
            String suffix,
            double limit) {
        try (VisionEncoder encoder = VisionEncoder.load(backend, model, precision)) {
            RunBuilder builder = backend.newRun();
            Activation neck = builder.input(ElementType.F32, 1, 1, 257, 1024);
            Activation penultimate = encoder.blocks(builder, neck, 2, -2);
            builder.output(penultimate);
            Activation last = encoder.blocks(builder, penultimate, 23, -1);
            builder.output(last);
            Activation projected =
                    encoder.head(builder, last, VisionEncoder.Tokens.ALL, VisionEncoder.PostNorm.ONCE, true);
            builder.output(projected);
            try (Run run = builder.build()) {
                Fixture.fill(run, neck, fixture.floats("neck"));
                run.execute();
                table.compare(
                        "clip.penultimate" + suffix,
                        fixture.floats("clip.penultimate"),
                        Fixture.read(run, penultimate),
                        limit);
                table.compare("clip.last" + suffix, fixture.floats("clip.last"), Fixture.read(run, last), limit);
                table.compare(
                        "clip.projected" + suffix,
                        fixture.floats("clip.projected"),
                        Fixture.read(run, projected),
                        limit);
            }

            builder = backend.newRun();
            Activation pixels = builder.input(ElementType.U8, 1, 224, 224, 3);
            Activation tokens = encoder.embed(builder, pixels);
            tokens = encoder.blocks(builder, tokens, 0, -1);
            tokens = encoder.head(builder, tokens, VisionEncoder.Tokens.ALL, VisionEncoder.PostNorm.ONCE, true);
            builder.output(tokens);
            try (Run run = builder.build()) {
                run.memory(pixels).copyFrom(MemorySegment.ofArray(centre(fixture.floats("image"))));
                run.execute();
                table.compare(
                        "clip.pixels.projected" + suffix,
                        fixture.floats("clip.pixels.projected"),
                        Fixture.read(run, tokens),
                        limit);
            }
        }
    }

    /** The centre 224 x 224 of a 256 x 256 picture in [0,1]. */
    private static byte[] centre(float[] image) {
        byte[] out = new byte[224 * 224 * 3];
        for (int i = 0; i < out.length; i++) {
            int y = i / (224 * 3) + 16;
            int x = i / 3 % 224 + 16;
            out[i] = (byte) Math.round(image[(y * 256 + x) * 3 + i % 3] * 255);
        }
        return out;
    }
}

package org.comneck.codec;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.util.Arrays;
import java.util.Map;
import java.util.Random;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.model.ModelFile;
import org.comneck.parity.Fixture;
import org.comneck.parity.ParityTable;
import org.comneck.parity.TestBackends;
import org.comneck.tensor.ElementType;
import org.junit.jupiter.api.Test;

/** Analysis and synthesis of the embedded model in bf16 on the cuda backend, whose convolutions run on tensor cores; here on the emulation. */
class TensorConvolutionTest {
    private static final int IMAGES = 2;
    private static final int SIDE = 64;

    private record Result(float[] latents, float[] picture, Map<String, Long> launches) {}

    @Test
    void closeToF32AndIndependentOfTheBatch() {
        assumeTrue(ModelFile.hasEmbedded(), "this build embeds no model");
        float[] pictures = new float[IMAGES * SIDE * SIDE * 3];
        Random random = new Random(12);
        for (int i = 0; i < pictures.length; i++) {
            pictures[i] = random.nextFloat();
        }
        try (ModelFile model = ModelFile.openEmbedded();
                Backend cuda = EmulatedCuda.open();
                Backend processor = TestBackends.fastest()) {
            Result expected = run(processor, model, Precision.F32, pictures, IMAGES);
            Result rounded = run(processor, model, Precision.BF16, pictures, IMAGES);
            Result found = run(cuda, model, Precision.BF16, pictures, IMAGES);
            ParityTable table = new ParityTable("cuda emulated bf16 codec");
            table.compare("latents, from f32", expected.latents, found.latents, 5e-2);
            table.compare("latents, from the processor's bf16", rounded.latents, found.latents, 2e-2);
            table.compare("picture, from f32", expected.picture, found.picture, 5e-2);
            table.finish();

            float[] one = Arrays.copyOfRange(pictures, pictures.length / 2, pictures.length);
            Result alone = run(cuda, model, Precision.BF16, one, 1);
            assertArrayEquals(
                    alone.latents,
                    Arrays.copyOfRange(found.latents, alone.latents.length, found.latents.length),
                    "latents of the second picture");
            assertArrayEquals(
                    alone.picture,
                    Arrays.copyOfRange(found.picture, alone.picture.length, found.picture.length),
                    "the second picture");

            // From three colours and to three colours: a canonical one each.
            assertEquals(2, found.launches.get("canonical_convolution"));
            assertTrue(found.launches.get("tensor_convolution") > 0, "" + found.launches);
            assertEquals(
                    0,
                    run(cuda, model, Precision.F32, one, 1).launches.get("tensor_convolution"),
                    "f32 keeps the canonical kernel");
        }
    }

    private static Result run(Backend backend, ModelFile model, Precision precision, float[] pictures, int images) {
        try (ElicCodec codec = new ElicCodec(backend, model, precision)) {
            RunBuilder builder = backend.newRun();
            Activation image = builder.input(ElementType.F32, images, SIDE, SIDE, 3);
            Activation gains = builder.input(ElementType.F32, images, 1, 1, codec.latentChannels());
            Activation latents = codec.analysis(builder, image, gains);
            builder.output(latents);
            Activation picture = codec.synthesis(builder, latents);
            builder.output(picture);
            try (Run run = builder.build()) {
                Fixture.fill(run, image, pictures);
                float[] ones = new float[images * codec.latentChannels()];
                Arrays.fill(ones, 1f);
                Fixture.fill(run, gains, ones);
                run.execute();
                return new Result(Fixture.read(run, latents), Fixture.read(run, picture), run.launches());
            }
        }
    }
}

package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.comneck.backend.Activation;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.codec.Codec;
import org.comneck.model.ModelFile;
import org.comneck.parity.Fixture;
import org.comneck.tensor.ElementType;

/** The rate that the trainer estimates is that of the real payload. */
final class TrainedRate {
    private static final double LIMIT = 0.01;
    private static final int SIDE = 256;

    /** docs/format.md: lane states of a substream say 8 x 20 bits that no symbol needs; its length takes two bytes at most. */
    private static final int SUBSTREAM_BYTES = 22;

    /** The count of substreams and the length of the bit section. */
    private static final int PAYLOAD_BYTES = 3;

    private TrainedRate() {}

    /** Exports a small run, with a codec that starts as the components of noisy pictures, and codes those. */
    static void agrees(SmallRun small, Path runFolder) throws IOException {
        Path folder = runFolder.resolve("rate");
        for (String stage : new String[] {"small-codec", "small-encoder", "small-neck"}) {
            Path copy = Trainer.checkpoint(folder, stage);
            Files.createDirectories(copy.getParent());
            Files.copy(Trainer.checkpoint(runFolder, stage), copy);
        }
        Path file = folder.resolve("rate.safetensors");
        NoGradGuard guard = new NoGradGuard();
        try (var _ = new PointerScope()) {
            List<Tensor> pictures = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                pictures.add(picture(i));
            }
            Recipe recipe = SmallRun.codec(1, "0.01 0.04", "");
            CodecNetwork.Size size = CodecStage.size(recipe);
            Parameters w = CodecStage.parameters(recipe);
            ComponentStart.set(size, w, pictures);
            Checkpoint.of(1, 1, w).write(Trainer.checkpoint(folder, "small-codec"), recipe);
            Trainer.export(SmallRun.model(), small.data(), folder, file);
            compare(file, size, new CodecNetwork(size, w, Ops.F32), pictures);
        } finally {
            guard.close();
        }
    }

    private static void compare(Path file, CodecNetwork.Size size, CodecNetwork network, List<Tensor> pictures) {
        try (ModelFile model = ModelFile.open(file);
                ReferenceBackend backend = new ReferenceBackend();
                Codec engine = Codec.load(backend, model, Precision.F32)) {
            RunBuilder builder = backend.newRun();
            Activation latents = builder.input(ElementType.F32, 1, SIDE / 16, SIDE / 16, size.m());
            engine.encodePayloads(builder, engine.encode(builder, latents), 1);
            double estimated = 0;
            double actual = 0;
            try (Run run = builder.build()) {
                for (int i = 0; i < pictures.size(); i++) {
                    Tensor quality = Ops.of(new long[] {i % size.lambdas().size()}, 1);
                    Tensor y = network.latents(pictures.get(i), quality);
                    CodecNetwork.Result result = network.runLatents(y, quality, false, false);
                    Fixture.fill(run, latents, Ops.floats(y.permute(0, 2, 3, 1)));
                    run.execute();
                    assertNull(run.damage(0));
                    byte[] payload = run.encoded(0).payload();
                    int substreams = (payload[0] & 31) + 1;
                    estimated += Ops.value(result.bits()) / 8;
                    actual += payload.length - PAYLOAD_BYTES - SUBSTREAM_BYTES * substreams;
                }
            }
            assertTrue(estimated > 4000, "too few bytes to compare: " + estimated);
            assertTrue(
                    Math.abs(actual / estimated - 1) < LIMIT,
                    "estimated " + estimated + " bytes, the payloads take " + actual + " without their headers");
        }
    }

    /** Waves with grain, (1,3,SIDE,SIDE). */
    private static Tensor picture(int number) {
        java.util.SplittableRandom random = new java.util.SplittableRandom(number);
        float[] picture = new float[3 * SIDE * SIDE];
        for (int i = 0; i < picture.length; i++) {
            double wave = Math.sin(i % SIDE * (0.03 + 0.02 * number)) * Math.cos(i / SIDE * 0.05);
            picture[i] = (float) (0.5 + 0.2 * wave + 0.6 * random.nextDouble(-1, 1));
        }
        return Ops.of(picture, 1, 3, SIDE, SIDE);
    }
}

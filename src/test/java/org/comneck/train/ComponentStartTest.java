package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.comneck.UsageException;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Before its first step, a codec that starts from components is a transform codec. */
class ComponentStartTest {
    private static final CodecNetwork.Size SIZE =
            new CodecNetwork.Size(32, 64, List.of(4, 12, 48), 12, 10, 8, 6, List.of(0.002, 0.008, 0.032));

    @BeforeAll
    static void start() {
        Ops.start(1);
    }

    /** Smooth pictures with a little grain. */
    private static List<Tensor> pictures() {
        List<Tensor> pictures = new ArrayList<>();
        SplittableRandom random = new SplittableRandom(4);
        int side = 64;
        for (int k = 0; k < 24; k++) {
            float[] values = new float[3 * side * side];
            double[] wave = random.doubles(9, -1, 1).toArray();
            for (int c = 0; c < 3; c++) {
                for (int i = 0; i < side * side; i++) {
                    double phase = 0.3 * (wave[c] * (i % side) + wave[3 + c] * (i / side)) + 6 * wave[6];
                    double grain = 0.02 * random.nextDouble(-1, 1);
                    values[c * side * side + i] = (float) (0.45 + 0.1 * wave[6 + c] + 0.2 * Math.sin(phase) + grain);
                }
            }
            pictures.add(Ops.of(values, 1, 3, side, side));
        }
        return pictures;
    }

    private static double psnr(Tensor a, Tensor b) {
        return -10 * Math.log10(Ops.value(Ops.mse(a, b)));
    }

    @Test
    void transformsInvertEachOtherAndUnitStepsCostWhatTheyShould() {
        NoGradGuard guard = new NoGradGuard();
        try (var _ = new PointerScope()) {
            Parameters w = CodecNetwork.declare(SIZE, new Parameters(3)).build();
            List<Tensor> pictures = pictures();
            ComponentStart.set(SIZE, w, pictures);
            CodecNetwork network = new CodecNetwork(SIZE, w, Ops.F32);
            Tensor x = Ops.cat(0, pictures.toArray(new Tensor[0]));
            Tensor y = network.analysis(x);
            Tensor back = network.synthesis(y);
            assertTrue(psnr(back, x) > 30, "PSNR without quantisation: " + psnr(back, x));

            // an orthonormal transform times a factor: rounding adds 1 / 12 a coefficient, here of 64 for 3 x 256
            // values
            Tensor noise = Ops.plus(org.bytedeco.pytorch.global.torch.rand_like(y), -0.5);
            double error = Ops.value(Ops.mse(network.synthesis(y.add(noise)), back));
            double factor = ComponentStart.scale(CodecNetwork.middle(SIZE));
            assertEquals(1, error / (SIZE.m() / (3 * 256.0) / 12 / (factor * factor)), 0.1);

            float[] variances = Ops.floats(Ops.meanOver(y.square(), false, 0, 2, 3));
            for (int c = 1; c < variances.length; c++) {
                assertTrue(variances[c] < 1.1 * variances[c - 1] + 1e-3, "variances do not fall at " + c);
            }
            // z has values that survive rounding, in every channel
            float[] spread = Ops.floats(network.hyperAnalysis(y).std(new long[] {0, 2, 3}, true, false));
            for (float deviation : spread) {
                assertTrue(deviation > 0.1 && deviation < 10, "standard deviation of z: " + deviation);
            }
            // the model of the first slice knows them
            float[] bias = Ops.floats(w.get("ParamAggregation.0.4.bias"));
            assertEquals(Math.sqrt(variances[0]), bias[4], 0.05 * bias[4]);
        } finally {
            guard.close();
        }
    }

    @Test
    void theRecipeOfTheDefaultModelStartsAboveThirtyDecibels() throws IOException {
        Path data = Path.of(System.getProperty("comneck.shared", "../shared"), "data");
        Assumptions.assumeTrue(Files.isDirectory(data.resolve("photos/bsds500/val")), "skipped: no photos in " + data);
        Recipe recipe = Recipe.parse(
                "few-photos",
                Recipe.load("tiny-codec").text() + "\ndata.folders = photos/bsds500/val\ndata.threads = 1\n");
        NoGradGuard guard = new NoGradGuard();
        try (var _ = new PointerScope();
                CodecStage stage = new CodecStage(recipe, data)) {
            CodecNetwork network = new CodecNetwork(CodecStage.size(recipe), stage.parameters(), Ops.F32);
            Photos photos = Photos.of(Photos.list(data.resolve("photos/bsds500/test")));
            double mean = 0;
            for (int i = 0; i < 6; i++) {
                Tensor x = EncoderStage.centre(photos.get(i), 256);
                mean += psnr(network.synthesis(network.analysis(x)), x) / 6;
            }
            assertTrue(mean > 30, "PSNR without quantisation: " + mean);
        } finally {
            guard.close();
        }
    }

    @Test
    void trainingGoesOnFromThere(@TempDir Path folder) throws IOException {
        SmallRun small = new SmallRun(Files.createDirectories(folder.resolve("data")));
        Recipe recipe = SmallRun.codec(1, "0.01 0.04", "codec.start = components");
        List<Double> quality = new ArrayList<>();
        Trainer.run(recipe, small.data(), folder, false, new Trainer.Listener() {
            @Override
            public void step(
                    String stage,
                    long step,
                    double fraction,
                    java.util.Map<String, Double> terms,
                    double photosPerSecond,
                    double secondsLeft) {
                quality.add(terms.get("psnr"));
            }
        });
        assertTrue(quality.getFirst() > 20, "PSNR of the first step: " + quality);
        Recipe unknown = SmallRun.codec(1, "0.01 0.04", "codec.start = luck");
        Assertions.assertThrows(
                UsageException.class,
                () -> Trainer.run(unknown, small.data(), folder.resolve("other"), false, Trainer.Listener.NONE),
                "another start");
    }
}

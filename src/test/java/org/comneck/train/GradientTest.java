package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.opentest4j.AssertionFailedError;

/** Gradients of the networks' losses against finite differences, on tiny shapes. */
class GradientTest {
    private static final CodecNetwork.Size CODEC =
            new CodecNetwork.Size(4, 6, List.of(1, 2, 3), 8, 6, 6, 5, List.of(0.01, 0.04));
    private static final EncoderNetwork.Size ENCODER = new EncoderNetwork.Size(8, 2, 2, 16, 32, 6, 5);

    @BeforeAll
    static void start() {
        Ops.start(1);
    }

    private static void codec(int each, java.util.function.BiFunction<CodecNetwork, Tensor, Tensor> loss) {
        try (var _ = new PointerScope()) {
            Parameters w = CodecNetwork.declare(CODEC, new Parameters(2)).build(GradientCheck.F64);
            CodecNetwork network = new CodecNetwork(CODEC, w, GradientCheck.F64);
            Tensor pixels = GradientCheck.input(1, 0, 1, 2, 3, 64, 64);
            GradientCheck.check(w, each, () -> loss.apply(network, pixels));
        }
    }

    private static CodecNetwork.Result run(CodecNetwork network, Tensor pixels) {
        return network.run(pixels, Ops.of(new long[] {0, 1}, 2), true, true);
    }

    @Test
    void rateOfTheCodec() {
        codec(5, (network, pixels) -> run(network, pixels).bits().mean());
    }

    @Test
    void distortionOfTheCodec() {
        codec(5, (network, pixels) -> Ops.mse(run(network, pixels).xHat(), pixels));
    }

    /** A scale below the least of the tables is not pushed down further by symbols that it suits, and climbs where it does not suit them. */
    @Test
    void scalesBelowTheirBoundOnlyClimb() {
        assertEquals(0, scaleGradient(0));
        assertTrue(scaleGradient(1) < -0.1, "gradient where 1 was coded: " + scaleGradient(1));
    }

    /** Gradient of the bits of latents that are all the same, in the bias that is their scale, below the bound. */
    private static double scaleGradient(double value) {
        try (var _ = new PointerScope()) {
            Parameters w = CodecNetwork.declare(CODEC, new Parameters(2)).build(GradientCheck.F64);
            String bias = "ParamAggregation.0.4.bias";
            w.set("ParamAggregation.0.4.weight", torch.zeros_like(w.get("ParamAggregation.0.4.weight")));
            w.set(bias, Ops.of(new float[] {0, 0.05f}, 2).to(GradientCheck.F64));
            CodecNetwork network = new CodecNetwork(CODEC, w, GradientCheck.F64);
            Tensor latents = Ops.plus(torch.zeros(2, 6, 4, 4).to(GradientCheck.F64), value);
            w.zeroGradient();
            network.runLatents(latents, Ops.of(new long[] {0, 1}, 2), false, false)
                    .bits()
                    .mean()
                    .backward();
            return Ops.value(w.get(bias).grad().select(0, 1));
        }
    }

    @Test
    void auxiliaryLossOfThePrior() {
        codec(1, (network, _) -> network.auxiliaryLoss());
    }

    @Test
    void tokensOfTheNeckAndOfTheEncoderBehindIt() {
        try (var _ = new PointerScope()) {
            Parameters w = new Parameters(3);
            EncoderNetwork.declare(ENCODER, w);
            NeckNetwork.declare(6, 8, 5, 1, w);
            w.build(GradientCheck.F64);
            EncoderNetwork encoder = new EncoderNetwork(ENCODER, w, GradientCheck.F64);
            NeckNetwork neck = new NeckNetwork(w, 2, 1, GradientCheck.F64);
            Tensor latents = GradientCheck.input(2, -3, 3, 2, 6, 2, 2);
            Tensor wanted = GradientCheck.input(3, -1, 1, 2, 5, 8);
            Tensor target = torch.softmax(GradientCheck.input(4, -1, 1, 2, 5), 1);
            GradientCheck.check(w, () -> {
                Tensor[] states = encoder.states(neck.run(latents), 1);
                return Ops.mse(states[0], wanted)
                        .add(Ops.mse(states[1], wanted))
                        .add(Ops.crossEntropy(encoder.logits(states[1]), target));
            });
        }
    }

    @Test
    void picturesOfThePostProcessingNetwork() {
        try (var _ = new PointerScope()) {
            Parameters w = PostNetwork.declare(List.of(3, 4, 5), new Parameters(4));
            float[] last = {0.3f, -0.2f, 0.4f, 0.1f, 0.5f, -0.3f, -0.1f, 0.2f, 0.6f}; // zero would stop all gradients
            w.start("post.out.weight", last).build(GradientCheck.F64);
            PostNetwork network = new PostNetwork(w, 3, GradientCheck.F64);
            Tensor pictures = GradientCheck.input(1, 0, 1, 2, 3, 16, 12);
            Tensor wanted = GradientCheck.input(2, 0, 1, 2, 3, 16, 12);
            GradientCheck.check(w, () -> Ops.mse(network.run(pictures), wanted));
        }
    }

    @Test
    void hintsAndClassesOfTheEncoder() {
        try (var _ = new PointerScope()) {
            Parameters w = EncoderNetwork.declare(ENCODER, new Parameters(3)).build(GradientCheck.F64);
            EncoderNetwork encoder = new EncoderNetwork(ENCODER, w, GradientCheck.F64);
            Tensor pixels = GradientCheck.input(2, -2, 2, 2, 3, 32, 32);
            Tensor wanted = GradientCheck.input(3, -1, 1, 2, 5, 8);
            Tensor target = torch.softmax(GradientCheck.input(4, -1, 1, 2, 5), 1);
            GradientCheck.check(w, () -> {
                Tensor[] states = encoder.states(encoder.embed(pixels), 0);
                Tensor hints = Ops.mse(states[1], wanted).add(Ops.mse(states[2], wanted));
                return hints.add(Ops.crossEntropy(encoder.logits(states[2]), target));
            });
        }
    }

    @Test
    void aWrongGradientIsFound() {
        try (var _ = new PointerScope()) {
            Parameters w = new Parameters(1)
                    .uniform("right", 1, 3)
                    .uniform("wrong", 1, 3)
                    .build(GradientCheck.F64);
            AssertionFailedError error = assertThrows(
                    AssertionFailedError.class,
                    () -> GradientCheck.check(
                            w,
                            () -> w.get("right")
                                    .square()
                                    .sum()
                                    .add(w.get("wrong")
                                            .mul(w.get("wrong").detach())
                                            .sum())));
            assertTrue(error.getMessage().startsWith("gradient of 'wrong'"), error.getMessage());
        }
    }
}

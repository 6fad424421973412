package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.comneck.model.Manifest;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

/** Every term of the surrogate loss, through a neck and a frozen encoder. */
class SurrogateLossTest {
    private static final int WIDTH = 8;
    private static final int LAYERS = 3;
    private static final int ENTRY = 1;

    @SuppressWarnings("unused")
    private static final List<String> TERMS = SurrogateLoss.TERMS;

    @BeforeAll
    static void start() {
        Ops.start(1);
    }

    /** A neck, an encoder behind it and a batch of two, in F64. */
    private static final class Bench {
        final Parameters w =
                NeckNetwork.declare(6, WIDTH, 5, 1, new Parameters(3)).build(GradientCheck.F64);
        final NeckNetwork neck = new NeckNetwork(w, 2, 1, GradientCheck.F64);
        final Tensor latents = GradientCheck.input(2, -3, 3, 2, 6, 2, 2);
        final SurrogateLoss loss;
        final SurrogateLoss.Seen wanted;
        final Tensor labels = Ops.of(new long[] {-1, 3}, 2);

        Bench(String activation, int postNorms) {
            Parameters encoder = EncoderNetwork.declare(
                            new EncoderNetwork.Size(WIDTH, LAYERS, 2, 16, 32, 6, 5), new Parameters(4))
                    .build();
            Map<String, org.comneck.tensor.Tensor> tensors = ModelParts.stored(encoder);
            Manifest.Encoder spec = new Manifest.Encoder(
                    "clip",
                    WIDTH,
                    LAYERS,
                    2,
                    16,
                    32,
                    activation,
                    1e-5,
                    List.of(0.5, 0.4, 0.3),
                    List.of(0.2, 0.3, 0.2),
                    6);
            Tensor texts = Ops.unit(GradientCheck.input(6, -1, 1, 5, 6));
            FrozenEncoder frozen = new FrozenEncoder("test", spec, tensors, GradientCheck.F64);
            loss = new SurrogateLoss(frozen, texts, ENTRY, LAYERS - 1, postNorms);
            NoGradGuard guard = new NoGradGuard();
            try {
                wanted = loss.uncompressed(
                        GradientCheck.input(5, 0, 1, 2, 3, 32, 32), 2, Set.copyOf(SurrogateLoss.TERMS));
            } finally {
                guard.close();
            }
        }

        Tensor sum(SurrogateLoss.Seen seen, Set<String> terms) {
            Tensor sum = null;
            for (Tensor term : loss.terms(seen, wanted, labels, terms).values()) {
                sum = sum == null ? term.sum() : sum.add(term.sum());
            }
            return sum;
        }
    }

    @ParameterizedTest
    @FieldSource("TERMS")
    void gradientOfATerm(String term) {
        try (var _ = new PointerScope()) {
            Bench bench = new Bench("quick_gelu", 2);
            Set<String> terms = Set.of(term);
            GradientCheck.check(
                    bench.w, () -> bench.sum(bench.loss.compressed(bench.neck.run(bench.latents), terms), terms));
        }
    }

    @Test
    void recomputedBlocksHaveTheSameGradient() {
        try (var _ = new PointerScope()) {
            Bench bench = new Bench("gelu", 1);
            Set<String> terms = Set.copyOf(SurrogateLoss.TERMS);
            Map<String, double[]> plain =
                    gradients(bench, tokens -> bench.sum(bench.loss.compressed(tokens, terms), terms));
            Map<String, double[]> recomputed =
                    gradients(bench, tokens -> bench.loss.recomputed(tokens, terms, seen -> bench.sum(seen, terms)));
            plain.forEach((name, values) -> assertArrayEquals(values, recomputed.get(name), 1e-6, name));
        }
    }

    private static Map<String, double[]> gradients(Bench bench, Function<Tensor, Tensor> loss) {
        bench.w.zeroGradient();
        Tensor value = loss.apply(bench.neck.run(bench.latents));
        value.backward();
        Map<String, double[]> out = new LinkedHashMap<>();
        out.put("loss", new double[] {Ops.value(value)});
        bench.w.slots().keySet().forEach(name -> {
            float[] gradient = Ops.floats(bench.w.get(name).grad());
            double[] copy = new double[gradient.length];
            for (int i = 0; i < copy.length; i++) {
                copy[i] = gradient[i];
            }
            out.put(name, copy);
        });
        return out;
    }

    @Test
    void termsAreWhatTheyAreCalled() {
        try (var _ = new PointerScope()) {
            Tensor wanted = Ops.of(new float[] {1, 2, 3, 4}, 2, 2);
            Tensor actual = Ops.of(new float[] {1, 4, 3, 4}, 2, 2);
            assertArrayEquals(new float[] {2, 0}, Ops.floats(SurrogateLoss.squared(actual, wanted)));
            // Class tokens (1,2) and (3,4): variance 1 among photos, mean square 7.5.
            assertArrayEquals(
                    new float[] {2 / 1.375f, 0}, Ops.floats(SurrogateLoss.relativeClass(actual, wanted)), 1e-6f);
            Tensor texts = Ops.of(new float[] {1, 0, 0, 1}, 2, 2);
            Tensor logits = SurrogateLoss.cosineLogits(Ops.of(new float[] {3, 4}, 1, 2), texts);
            assertArrayEquals(new float[] {60, 80}, Ops.floats(logits), 1e-4f);
            Tensor two = Ops.of(new float[] {0, (float) Math.log(3), 5, 5}, 2, 2);
            float[] entropy = Ops.floats(SurrogateLoss.entropy(two, Ops.of(new long[] {0, -1}, 2)));
            assertArrayEquals(new float[] {(float) Math.log(4), 0}, entropy, 1e-6f);
            float[] soft = Ops.floats(SurrogateLoss.softEntropy(two, two));
            assertEquals(Math.log(2), soft[1], 1e-6);
        }
    }
}

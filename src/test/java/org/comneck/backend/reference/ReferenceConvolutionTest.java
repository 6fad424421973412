package org.comneck.backend.reference;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.comneck.backend.Activation;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;

/** The reference backend against the definition written once more, one element at a time. */
class ReferenceConvolutionTest {
    private final Random random = new Random(7);

    private float[] floats(int count) {
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    /** out[y,x,o] as the javadoc of RunBuilder.convolution says. */
    private static float element(
            Convolution g, float[] w, float[] bias, float[] in, int image, int h, int width, int y, int x, int o) {
        float acc = bias[o];
        for (int ky = 0; ky < g.kernelHeight(); ky++) {
            for (int kx = 0; kx < g.kernelWidth(); kx++) {
                if (g.kind() == Convolution.Kind.CHECKERBOARD && (ky + kx) % 2 == 0) {
                    continue;
                }
                int iy;
                int ix;
                if (g.kind() == Convolution.Kind.TRANSPOSED) {
                    iy = Math.floorDiv(y + g.padding() - ky, g.stride());
                    ix = Math.floorDiv(x + g.padding() - kx, g.stride());
                    if (iy * g.stride() + ky - g.padding() != y || ix * g.stride() + kx - g.padding() != x) {
                        continue;
                    }
                } else {
                    iy = y * g.stride() + ky - g.padding();
                    ix = x * g.stride() + kx - g.padding();
                }
                if (iy < 0 || ix < 0 || iy >= h || ix >= width) {
                    continue;
                }
                for (int c = 0; c < g.inputChannels(); c++) {
                    int row = g.kind() == Convolution.Kind.TRANSPOSED
                            ? c * g.outputChannels() + o
                            : o * g.inputChannels() + c;
                    float weight = w[(row * g.kernelHeight() + ky) * g.kernelWidth() + kx];
                    acc = Math.fma(in[((image * h + iy) * width + ix) * g.inputChannels() + c], weight, acc);
                }
            }
        }
        return acc;
    }

    private void check(Convolution g, int images, int h, int w, Grid grid, int split) {
        float[] weight = floats(g.inputChannels() * g.outputChannels() * g.kernelHeight() * g.kernelWidth());
        float[] bias = floats(g.outputChannels());
        float[] in = floats(images * h * w * g.inputChannels());
        boolean t = g.kind() == Convolution.Kind.TRANSPOSED;
        try (ReferenceBackend backend = new ReferenceBackend(2);
                Layer layer = backend.layer(
                        g,
                        Tensor.of(
                                weight,
                                t ? g.inputChannels() : g.outputChannels(),
                                t ? g.outputChannels() : g.inputChannels(),
                                g.kernelHeight(),
                                g.kernelWidth()),
                        Tensor.of(bias, bias.length),
                        Precision.F32)) {
            RunBuilder builder = backend.newRun();
            Activation source = builder.input(ElementType.F32, images, h, w, g.inputChannels());
            int oh = t ? h * g.stride() : (h + 2 * g.padding() - g.kernelHeight()) / g.stride() + 1;
            int ow = t ? w * g.stride() : (w + 2 * g.padding() - g.kernelWidth()) / g.stride() + 1;
            Activation destination = builder.buffer(ElementType.F32, grid, images, oh, ow, g.outputChannels());
            Activation residual = builder.buffer(ElementType.F32, grid, images, oh, ow, g.outputChannels());
            List<Activation> sources = split == 0
                    ? List.of(source)
                    : List.of(source.slice(0, split), source.slice(split, g.inputChannels() - split));
            builder.convolution(layer, sources, new int[0], null, Function.NONE, residual);
            builder.convolution(layer, sources, new int[0], residual, Function.RELU, destination);
            builder.output(destination);
            try (Run run = builder.build()) {
                MemorySegment.copy(in, 0, run.memory(source), ValueLayout.JAVA_FLOAT, 0, in.length);
                run.execute();
                float[] out = run.memory(destination).toArray(ValueLayout.JAVA_FLOAT);
                int at = 0;
                for (int n = 0; n < images; n++) {
                    for (int y = 0; y < oh; y++) {
                        for (int x = 0; x < ow; x++) {
                            if (grid != Grid.FULL && (grid == Grid.ANCHORS) != ((y + x) % 2 == 0)) {
                                continue;
                            }
                            for (int o = 0; o < g.outputChannels(); o++) {
                                float e = element(g, weight, bias, in, n, h, w, y, x, o);
                                float expected = Math.max(0f, e + e);
                                assertEquals(
                                        Float.floatToIntBits(expected),
                                        Float.floatToIntBits(out[at]),
                                        g + " " + grid + " at " + Arrays.toString(new int[] {n, y, x, o}));
                                at++;
                            }
                        }
                    }
                }
                assertEquals(out.length, at);
            }
        }
    }

    @Test
    void everyKindOfLayerIsTheChainOfTheDefinition() {
        check(Convolution.square(3, 5, 5, 2), 2, 9, 6, Grid.FULL, 0);
        check(Convolution.square(7, 33, 3, 1), 1, 8, 5, Grid.FULL, 3);
        check(Convolution.linear(10, 17), 2, 5, 7, Grid.FULL, 4);
        check(Convolution.linear(10, 17), 2, 5, 7, Grid.ANCHORS, 4);
        check(Convolution.linear(10, 17), 2, 5, 7, Grid.NON_ANCHORS, 1);
        check(Convolution.checkerboard(6, 12, 5), 2, 5, 7, Grid.NON_ANCHORS, 0);
        check(Convolution.doubling(6, 18, 5), 2, 3, 4, Grid.FULL, 0);
        check(Convolution.patches(3, 8, 4), 1, 8, 12, Grid.FULL, 0);
    }

    @Test
    void absentSourcesAreSkipped() {
        float[] weight = floats(4 * 6);
        float[] in = floats(6 * 3);
        List<float[]> results = new ArrayList<>();
        for (boolean absent : new boolean[] {true, false}) {
            try (ReferenceBackend backend = new ReferenceBackend(1);
                    Layer layer = backend.layer(
                            Convolution.linear(absent ? 6 : 3, 4),
                            absent ? Tensor.of(weight, 4, 6) : Tensor.of(lastThree(weight), 4, 3),
                            null,
                            Precision.F32)) {
                RunBuilder builder = backend.newRun();
                Activation source = builder.input(ElementType.F32, 1, 2, 3, 3);
                Activation destination = builder.buffer(ElementType.F32, Grid.FULL, 1, 2, 3, 4);
                builder.convolution(
                        layer,
                        absent ? Arrays.asList(null, source) : List.of(source),
                        absent ? new int[] {3} : new int[0],
                        null,
                        Function.NONE,
                        destination);
                builder.output(destination);
                try (Run run = builder.build()) {
                    MemorySegment.copy(in, 0, run.memory(source), ValueLayout.JAVA_FLOAT, 0, in.length);
                    run.execute();
                    results.add(run.memory(destination).toArray(ValueLayout.JAVA_FLOAT));
                }
            }
        }
        assertEquals(Arrays.toString(results.get(1)), Arrays.toString(results.get(0)));
    }

    private static float[] lastThree(float[] rowsOfSix) {
        float[] out = new float[rowsOfSix.length / 2];
        for (int i = 0; i < out.length; i++) {
            out[i] = rowsOfSix[i / 3 * 6 + 3 + i % 3];
        }
        return out;
    }
}

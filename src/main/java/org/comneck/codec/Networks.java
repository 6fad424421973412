package org.comneck.codec;

import java.util.Arrays;
import java.util.List;
import org.comneck.backend.Activation;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.StepChecks;
import org.comneck.model.ModelLayers;
import org.comneck.tensor.ElementType;

/**
 * Records the pieces that learned codecs are made of. Results are new buffers; sources stay until their owner releases them.
 *
 * <p>In bf16 a value that only a bf16 layer reads is stored as bf16, which changes nothing (the layer would round it) and halves the
 * traffic; sums that run through residual blocks stay f32.
 */
final class Networks {
    private final RunBuilder run;
    private final ModelLayers layers;
    private final Precision precision;
    private final ElementType inner;

    Networks(RunBuilder run, ModelLayers layers, Precision precision) {
        this.run = run;
        this.layers = layers;
        this.precision = precision;
        this.inner = precision == Precision.BF16 ? ElementType.BF16 : ElementType.F32;
    }

    /** Releases one activation and returns the other. */
    Activation replace(Activation old, Activation replacement) {
        run.release(old);
        return replacement;
    }

    /** A new buffer of the same positions. */
    Activation like(Activation x, ElementType type, int channels) {
        return run.buffer(type, x.grid(), x.images(), x.height(), x.width(), channels);
    }

    Activation convolution(String name, Activation source, int kernel, int stride) {
        return convolution(name, source, kernel, stride, Function.NONE);
    }

    Activation convolution(String name, Activation source, int kernel, int stride, Function function) {
        return convolution(name, List.of(source), kernel, stride, function, source.grid());
    }

    /** A square convolution of sources that are concatenated along channels. */
    Activation convolution(
            String name, List<Activation> sources, int kernel, int stride, Function function, Grid grid) {
        return convolution(name, sources, new int[0], kernel, stride, function, grid);
    }

    /** A 1x1 convolution; {@code absent} as in {@link RunBuilder#convolution}. */
    Activation pointwise(String name, List<Activation> sources, int[] absent, Function function, Grid grid) {
        return convolution(name, sources, absent, 1, 1, function, grid);
    }

    private Activation convolution(
            String name, List<Activation> sources, int[] absent, int kernel, int stride, Function function, Grid grid) {
        int in = Arrays.stream(absent).sum();
        Activation first = null;
        for (Activation source : sources) {
            if (source != null) {
                in += source.channels();
                first = source;
            }
        }
        int inputChannels = in;
        Layer layer =
                layers.layer(name, false, out -> Convolution.square(inputChannels, out, kernel, stride), precision);
        Convolution g = layer.geometry();
        Activation out = run.buffer(
                ElementType.F32,
                grid,
                first.images(),
                StepChecks.outputSize(g, first.height(), kernel),
                StepChecks.outputSize(g, first.width(), kernel),
                g.outputChannels());
        run.convolution(layer, sources, absent, null, function, out);
        return out;
    }

    /** A transposed convolution that doubles the grid. */
    Activation doubling(String name, Activation source, int kernel, Function function) {
        Layer layer = layers.layer(name, true, out -> Convolution.doubling(source.channels(), out, kernel), precision);
        Activation out = run.buffer(
                ElementType.F32,
                Grid.FULL,
                source.images(),
                2 * source.height(),
                2 * source.width(),
                layer.geometry().outputChannels());
        run.convolution(layer, source, null, function, out);
        return out;
    }

    /** {@code function(1x1(relu(3x3(relu(1x1(x))))) + x)} by three names. */
    private Activation residual(String a, String b, String c, Activation x, Function function) {
        Layer first = layers.layer(a, false, out -> Convolution.linear(x.channels(), out), precision);
        int middle = first.geometry().outputChannels();
        Layer second = layers.layer(b, false, out -> Convolution.square(middle, out, 3, 1), precision);
        int width = second.geometry().outputChannels();
        Layer third = layers.layer(c, false, out -> Convolution.linear(width, out), precision);
        Activation narrow = like(x, inner, middle);
        run.convolution(first, x, null, Function.RELU, narrow);
        Activation spread = like(x, inner, width);
        run.convolution(second, narrow, null, Function.RELU, spread);
        run.release(narrow);
        Activation out = like(x, ElementType.F32, third.geometry().outputChannels());
        run.convolution(third, spread, x, function, out);
        run.release(spread);
        return out;
    }

    /** Residual bottlenecks {@code prefix.i} one after the other; x is released. */
    Activation bottlenecks(String prefix, Activation x, int... numbers) {
        for (int i : numbers) {
            String name = prefix + "." + i;
            x = replace(x, residual(name + ".conv1", name + ".conv2", name + ".conv3", x, Function.NONE));
        }
        return x;
    }

    /** Cheng's simplified attention: {@code conv_a(x) * sigmoid(conv_b(x)) + x}; x stays. */
    Activation attention(String name, Activation x) {
        Activation a = branch(name + ".conv_a", x);
        Activation b = branch(name + ".conv_b", x);
        b = replace(b, convolution(name + ".conv_b.3", b, 1, 1));
        Activation out = like(x, ElementType.F32, x.channels());
        run.gate(a, b, x, out);
        run.release(a);
        run.release(b);
        return out;
    }

    private Activation branch(String name, Activation x) {
        Activation v = x;
        for (int i = 0; i < 3; i++) {
            String unit = name + "." + i;
            Activation next = residual(unit + ".conv.0", unit + ".conv.2", unit + ".conv.4", v, Function.RELU);
            if (v != x) {
                run.release(v);
            }
            v = next;
        }
        return v;
    }
}

package org.comneck.backend;

import java.util.Arrays;
import java.util.List;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * The shape rules of {@link Backend#layer} and of every step of a {@link RunBuilder}, the same for all backends. Each method throws an
 * {@link IllegalArgumentException} that names both shapes.
 */
public final class StepChecks {
    private StepChecks() {}

    /** Weight and bias fit the geometry. */
    public static void layer(Convolution g, Tensor weight, Tensor bias) {
        boolean inputFirst = g.kind() == Convolution.Kind.TRANSPOSED;
        long first = inputFirst ? g.inputChannels() : g.outputChannels();
        long second = inputFirst ? g.outputChannels() : g.inputChannels();
        Shape expected = Shape.of(first, second, g.kernelHeight(), g.kernelWidth());
        boolean linear = g.kernelHeight() == 1 && g.kernelWidth() == 1;
        if (!weight.type().isFloat()
                || !(weight.shape().equals(expected) || linear && weight.shape().equals(Shape.of(first, second)))) {
            throw new IllegalArgumentException("weight is " + weight + ", the layer needs " + expected);
        }
        if (bias != null && (!bias.type().isFloat() || !bias.shape().equals(Shape.of(g.outputChannels())))) {
            throw new IllegalArgumentException("bias is " + bias + ", the layer needs [" + g.outputChannels() + "]");
        }
    }

    /** Shapes of a convolution; see {@link RunBuilder#convolution}. */
    public static void convolution(
            Layer layer, List<Activation> sources, int[] absent, Activation residual, Activation destination) {
        Convolution g = layer.geometry();
        int channels = Arrays.stream(absent).sum();
        int nulls = 0;
        boolean pointwise = g.kernelHeight() == 1 && g.kernelWidth() == 1 && g.stride() == 1;
        for (Activation source : sources) {
            if (source == null) {
                nulls++;
                continue;
            }
            values(source, "source");
            channels += source.channels();
            if (source.images() != destination.images()) {
                throw mismatch("images of source and destination", source, destination);
            }
            if (source.grid() != Grid.FULL && !(pointwise && source.grid() == destination.grid())) {
                throw mismatch("grids of source and destination", source, destination);
            }
            if (outputSize(g, source.height(), g.kernelHeight()) != destination.height()
                    || outputSize(g, source.width(), g.kernelWidth()) != destination.width()) {
                throw mismatch(g + ": sizes of source and destination", source, destination);
            }
        }
        if (nulls != absent.length || nulls == sources.size()) {
            throw new IllegalArgumentException(nulls + " null sources of " + sources.size() + ", but " + absent.length
                    + " numbers of absent channels");
        }
        if (channels != g.inputChannels()) {
            throw new IllegalArgumentException(
                    "sources have " + channels + " channels, the layer takes " + g.inputChannels());
        }
        values(destination, "destination");
        if (destination.channels() != g.outputChannels()) {
            throw new IllegalArgumentException(
                    "the layer gives " + g.outputChannels() + " channels, the destination is " + destination);
        }
        if (residual != null) {
            values(residual, "residual");
            same("residual and destination", residual, destination);
        }
    }

    /** Rows or columns of the output. */
    public static int outputSize(Convolution g, int size, int kernel) {
        return g.kind() == Convolution.Kind.TRANSPOSED
                ? size * g.stride()
                : (size + 2 * g.padding() - kernel) / g.stride() + 1;
    }

    /** F32, BF16 or F16. */
    public static void values(Activation a, String what) {
        if (a.type() != ElementType.F32 && a.type() != ElementType.BF16 && a.type() != ElementType.F16) {
            throw new IllegalArgumentException(what + " must be F32, BF16 or F16: " + a);
        }
    }

    /** An activation of this element type. */
    public static void type(Activation a, ElementType type, String what) {
        if (a.type() != type) {
            throw new IllegalArgumentException(what + " must be " + type + ": " + a);
        }
    }

    /** The same images, grid, sizes and channels; element types may differ. */
    public static void same(String what, Activation a, Activation b) {
        if (a.images() != b.images()
                || a.grid() != b.grid()
                || a.height() != b.height()
                || a.width() != b.width()
                || a.channels() != b.channels()) {
            throw mismatch(what, a, b);
        }
    }

    /** A vector of this many floats. */
    public static void vector(Tensor tensor, int size, String what) {
        if (!tensor.type().isFloat() || !tensor.shape().equals(Shape.of(size))) {
            throw new IllegalArgumentException(what + " is " + tensor + ", needed is [" + size + "]");
        }
    }

    /** Shapes of {@link RunBuilder#scale}. */
    public static void scale(Activation source, Activation gains, Activation destination) {
        values(source, "source");
        values(destination, "destination");
        same("source and destination", source, destination);
        type(gains, ElementType.F32, "gains");
        if (gains.images() != source.images()
                || gains.height() * gains.width() != 1
                || gains.channels() != source.channels()) {
            throw mismatch("gains and source", gains, source);
        }
    }

    /** Shapes of {@link RunBuilder#attention}. */
    public static void attention(Activation qkv, int heads, Activation destination) {
        values(qkv, "qkv");
        values(destination, "destination");
        if (qkv.grid() != Grid.FULL
                || destination.grid() != Grid.FULL
                || qkv.images() != destination.images()
                || qkv.positions() != destination.positions()
                || qkv.channels() != 3 * destination.channels()) {
            throw mismatch("qkv and destination", qkv, destination);
        }
        if (heads < 1 || destination.channels() % heads != 0) {
            throw new IllegalArgumentException(heads + " heads for " + destination.channels() + " channels");
        }
    }

    /** Shapes of {@link RunBuilder#embed}. */
    public static void embed(Activation source, Tensor classToken, Tensor positions, Activation destination) {
        values(source, "source");
        values(destination, "destination");
        int tokens = source.positions() + (classToken == null ? 0 : 1);
        if (source.grid() != Grid.FULL
                || destination.grid() != Grid.FULL
                || source.images() != destination.images()
                || source.channels() != destination.channels()
                || destination.height() != 1
                || destination.width() != tokens) {
            throw mismatch("source and destination", source, destination);
        }
        if (classToken != null) {
            vector(classToken, source.channels(), "class token");
        }
        if (!positions.type().isFloat() || !positions.shape().equals(Shape.of(tokens, source.channels()))) {
            throw new IllegalArgumentException(
                    "positions are " + positions + ", needed are [" + tokens + "," + source.channels() + "]");
        }
    }

    /** Shapes of {@link RunBuilder#selectTokens}. */
    public static void selectTokens(Activation source, int first, Activation destination) {
        values(source, "source");
        values(destination, "destination");
        if (source.grid() != Grid.FULL
                || destination.grid() != Grid.FULL
                || source.images() != destination.images()
                || source.channels() != destination.channels()
                || first < 0
                || first + destination.positions() > source.positions()) {
            throw mismatch("tokens from " + first + ": source and destination", source, destination);
        }
    }

    /** Shapes of {@link RunBuilder#normalize}; {@link RunBuilder#toPixels} is its mirror. */
    public static void pixels(Activation pixels, Activation values) {
        type(pixels, ElementType.U8, "pixels");
        values(values, "values");
        same("pixels and values", pixels, values);
    }

    /** Shapes of {@link RunBuilder#resample}. */
    public static void resample(Activation pixels, Taps.Axis axis, Taps taps, Activation destination) {
        type(pixels, ElementType.U8, "pixels");
        type(destination, ElementType.U8, "destination");
        boolean rows = axis == Taps.Axis.HEIGHT;
        if (pixels.grid() != Grid.FULL
                || destination.grid() != Grid.FULL
                || pixels.images() != destination.images()
                || pixels.channels() != destination.channels()
                || pixels.buffer() == destination.buffer()
                || taps.size() != (rows ? pixels.height() : pixels.width())
                || taps.outputs() != (rows ? destination.height() : destination.width())
                || (rows ? pixels.width() != destination.width() : pixels.height() != destination.height())) {
            throw mismatch(
                    taps.size() + " to " + taps.outputs() + " along " + axis + ": pixels and destination",
                    pixels,
                    destination);
        }
    }

    /** Shapes of {@link RunBuilder#quantizeFactorized} and {@link RunBuilder#decodeFactorized}. */
    public static void factorized(Activation zHat, Tensor medians, Activation symbols) {
        type(zHat, ElementType.F32, "zHat");
        type(symbols, ElementType.I16, "symbols");
        same("symbols and zHat", symbols, zHat);
        vector(medians, zHat.channels(), "medians");
    }

    /** Shapes of {@link RunBuilder#quantizeGaussian} and {@link RunBuilder#decodeGaussian}. */
    public static void gaussian(Activation parameters, Tensor thresholds, Activation symbols, Activation yHat) {
        type(parameters, ElementType.F32, "parameters");
        type(symbols, ElementType.I16, "symbols");
        type(yHat, ElementType.F32, "yHat");
        if (symbols.images() != parameters.images()
                || symbols.grid() != parameters.grid()
                || symbols.height() != parameters.height()
                || symbols.width() != parameters.width()
                || 2 * symbols.channels() != parameters.channels()) {
            throw mismatch("parameters and symbols", parameters, symbols);
        }
        if (yHat.grid() != Grid.FULL
                || yHat.images() != parameters.images()
                || yHat.height() != parameters.height()
                || yHat.width() != parameters.width()
                || yHat.channels() != symbols.channels()) {
            throw mismatch("parameters and yHat", parameters, yHat);
        }
        if (!thresholds.type().isFloat()
                || thresholds.shape().rank() != 1
                || thresholds.shape().size(0) > 255) {
            throw new IllegalArgumentException("thresholds are " + thresholds);
        }
    }

    /** Shapes of {@link RunBuilder#encodePayloads}. */
    public static void encode(List<RunBuilder.SymbolPass> passes, int substreams) {
        if (substreams < 0 || substreams > RansEncoder.MAX_SUBSTREAMS) {
            throw new IllegalArgumentException(
                    substreams + " substreams, not 1 to " + RansEncoder.MAX_SUBSTREAMS + ", or 0");
        }
        if (passes.isEmpty()) {
            throw new IllegalArgumentException("no symbols to encode");
        }
        Activation first = passes.getFirst().symbols();
        for (RunBuilder.SymbolPass pass : passes) {
            Activation symbols = pass.symbols();
            type(symbols, ElementType.I16, "symbols");
            whole(symbols);
            if (symbols.images() != first.images()) {
                throw mismatch("images of passes", first, symbols);
            }
            if (pass.indices() == null) {
                tables(pass.tables(), symbols.channels());
            } else {
                type(pass.indices(), ElementType.U8, "indices");
                whole(pass.indices());
                same("indices and symbols", pass.indices(), symbols);
            }
        }
    }

    private static void whole(Activation a) {
        if (a.channelOffset() != 0 || a.channelStride() != a.channels()) {
            throw new IllegalArgumentException("a slice of a buffer: " + a);
        }
    }

    /** At least this many tables, so that every index has one. */
    public static void tables(Backend.Tables tables, int needed) {
        if (tables.source().tables() < needed) {
            throw new IllegalArgumentException(tables.source().tables() + " coding tables, needed are " + needed);
        }
    }

    private static IllegalArgumentException mismatch(String what, Activation a, Activation b) {
        return new IllegalArgumentException(what + " do not fit: " + a + " and " + b);
    }
}

package org.comneck.backend.reference;

import java.util.List;
import org.comneck.backend.Activation;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Precision;
import org.comneck.tensor.Bfloat16;
import org.comneck.tensor.ElementType;

/**
 * The canonical chain, a block of output positions at a time: each output element starts from the bias and takes one fused multiply-add
 * for every present tap and input channel, in ascending order of (ky, kx, channel). The innermost loop runs over output channels, which
 * are independent of each other, so that the compiler may use vector instructions without changing an order.
 */
final class ReferenceConvolution implements Runnable {
    /** Positions that share a pass over the weights. */
    private static final int BLOCK = 32;

    private final ReferenceBackend backend;
    private final ReferenceLayer layer;
    private final List<Activation> sources;
    private final float[][] sourceData;
    private final int[] absent;
    private final Activation residual;
    private final float[] residualData;
    private final Function function;
    private final Activation destination;
    private final float[] destinationData;
    private final int[] rows;
    private final int[] columns;

    ReferenceConvolution(
            ReferenceBackend backend,
            ReferenceLayer layer,
            List<Activation> sources,
            float[][] sourceData,
            int[] absent,
            Activation residual,
            float[] residualData,
            Function function,
            Activation destination,
            float[] destinationData) {
        this.backend = backend;
        this.layer = layer;
        this.sources = sources;
        this.sourceData = sourceData;
        this.absent = absent;
        this.residual = residual;
        this.residualData = residualData;
        this.function = function;
        this.destination = destination;
        this.destinationData = destinationData;
        this.rows = new int[destination.positions()];
        this.columns = new int[destination.positions()];
        coordinates(destination, rows, columns);
    }

    /** Row and column of each position that a grid holds. */
    static void coordinates(Activation view, int[] rows, int[] columns) {
        int position = 0;
        for (int y = 0; y < view.height(); y++) {
            for (int x = 0; x < view.width(); x++) {
                if (view.grid() == Grid.FULL || (view.grid() == Grid.ANCHORS) == ((y + x) % 2 == 0)) {
                    rows[position] = y;
                    columns[position++] = x;
                }
            }
        }
    }

    @Override
    public void run() {
        int positions = destination.positions();
        int blocks = (positions + BLOCK - 1) / BLOCK;
        backend.parallel(destination.images() * blocks, i -> {
            int first = i % blocks * BLOCK;
            block(i / blocks, first, Math.min(BLOCK, positions - first));
        });
    }

    private void block(int image, int first, int count) {
        Convolution g = layer.geometry();
        int out = g.outputChannels();
        float[][] sums = new float[count][];
        for (int p = 0; p < count; p++) {
            sums[p] = layer.bias().clone();
        }
        int[] from = new int[count]; // index of the source position under this tap
        int[] present = new int[count]; // positions for which the tap exists
        float[] gathered = new float[0];
        for (int ky = 0; ky < g.kernelHeight(); ky++) {
            for (int kx = 0; kx < g.kernelWidth(); kx++) {
                if (g.kind() == Convolution.Kind.CHECKERBOARD && (ky + kx) % 2 == 0) {
                    continue;
                }
                int weights = (ky * g.kernelWidth() + kx) * g.inputChannels();
                int missing = 0;
                for (int s = 0; s < sources.size(); s++) {
                    Activation source = sources.get(s);
                    if (source == null) {
                        weights += absent[missing++];
                        continue;
                    }
                    int found = 0;
                    for (int p = 0; p < count; p++) {
                        int position = tap(g, source, first + p, ky, kx);
                        if (position >= 0) {
                            from[found] = ReferenceBuffer.index(source, image, position);
                            present[found++] = p;
                        }
                    }
                    int channels = source.channels();
                    if (gathered.length < count * channels) {
                        gathered = new float[count * channels];
                    }
                    for (int f = 0; f < found; f++) {
                        System.arraycopy(sourceData[s], from[f], gathered, f * channels, channels);
                    }
                    if (layer.precision() == Precision.BF16) {
                        for (int k = 0; k < found * channels; k++) {
                            gathered[k] = Bfloat16.round(gathered[k]);
                        }
                    }
                    accumulate(layer.rows(), weights, channels, gathered, sums, present, found, out);
                    weights += channels;
                }
            }
        }
        boolean round = destination.type() == ElementType.BF16;
        for (int p = 0; p < count; p++) {
            float[] sum = sums[p];
            if (residual != null) {
                int r = ReferenceBuffer.index(residual, image, first + p);
                for (int o = 0; o < out; o++) {
                    sum[o] = sum[o] + residualData[r + o];
                }
            }
            apply(function, sum);
            if (round) {
                for (int o = 0; o < out; o++) {
                    sum[o] = Bfloat16.round(sum[o]);
                }
            }
            System.arraycopy(sum, 0, destinationData, ReferenceBuffer.index(destination, image, first + p), sum.length);
        }
    }

    /** The position of the source under tap (ky, kx) of a destination position, or -1. */
    private int tap(Convolution g, Activation source, int position, int ky, int kx) {
        if (source.grid() != Grid.FULL) {
            return position; // a pointwise layer within one grid
        }
        int y;
        int x;
        if (g.kind() == Convolution.Kind.TRANSPOSED) {
            int doubledY = rows[position] + g.padding() - ky;
            int doubledX = columns[position] + g.padding() - kx;
            if (doubledY < 0 || doubledX < 0 || doubledY % g.stride() != 0 || doubledX % g.stride() != 0) {
                return -1;
            }
            y = doubledY / g.stride();
            x = doubledX / g.stride();
        } else {
            y = rows[position] * g.stride() + ky - g.padding();
            x = columns[position] * g.stride() + kx - g.padding();
        }
        return y < 0 || x < 0 || y >= source.height() || x >= source.width() ? -1 : y * source.width() + x;
    }

    /** Channels in ascending order for each of the present positions; four channels and two positions at a time. */
    private static void accumulate(
            float[][] rows,
            int firstRow,
            int channels,
            float[] input,
            float[][] sums,
            int[] present,
            int found,
            int out) {
        int c = 0;
        for (; c + 4 <= channels; c += 4) {
            float[] w0 = rows[firstRow + c];
            float[] w1 = rows[firstRow + c + 1];
            float[] w2 = rows[firstRow + c + 2];
            float[] w3 = rows[firstRow + c + 3];
            int f = 0;
            for (; f + 2 <= found; f += 2) {
                int a = f * channels + c;
                int b = a + channels;
                fourRowsTwice(
                        sums[present[f]],
                        sums[present[f + 1]],
                        w0,
                        w1,
                        w2,
                        w3,
                        input[a],
                        input[a + 1],
                        input[a + 2],
                        input[a + 3],
                        input[b],
                        input[b + 1],
                        input[b + 2],
                        input[b + 3],
                        out);
            }
            if (f < found) {
                int a = f * channels + c;
                fourRows(sums[present[f]], w0, w1, w2, w3, input[a], input[a + 1], input[a + 2], input[a + 3], out);
            }
        }
        for (; c < channels; c++) {
            float[] w = rows[firstRow + c];
            for (int f = 0; f < found; f++) {
                oneRow(sums[present[f]], w, input[f * channels + c], out);
            }
        }
    }

    private static void fourRowsTwice(
            float[] sumX,
            float[] sumY,
            float[] w0,
            float[] w1,
            float[] w2,
            float[] w3,
            float x0,
            float x1,
            float x2,
            float x3,
            float y0,
            float y1,
            float y2,
            float y3,
            int count) {
        for (int o = 0; o < count; o++) {
            float a = w0[o];
            float b = w1[o];
            float c = w2[o];
            float d = w3[o];
            sumX[o] = Math.fma(x3, d, Math.fma(x2, c, Math.fma(x1, b, Math.fma(x0, a, sumX[o]))));
            sumY[o] = Math.fma(y3, d, Math.fma(y2, c, Math.fma(y1, b, Math.fma(y0, a, sumY[o]))));
        }
    }

    private static void fourRows(
            float[] sum,
            float[] w0,
            float[] w1,
            float[] w2,
            float[] w3,
            float x0,
            float x1,
            float x2,
            float x3,
            int count) {
        for (int o = 0; o < count; o++) {
            sum[o] = Math.fma(x3, w3[o], Math.fma(x2, w2[o], Math.fma(x1, w1[o], Math.fma(x0, w0[o], sum[o]))));
        }
    }

    static void oneRow(float[] sum, float[] w, float x, int count) {
        for (int o = 0; o < count; o++) {
            sum[o] = Math.fma(x, w[o], sum[o]);
        }
    }

    private static void apply(Function function, float[] values) {
        switch (function) {
            case NONE -> {}
            case RELU -> {
                for (int i = 0; i < values.length; i++) {
                    values[i] = CanonicalMath.relu(values[i]);
                }
            }
            case QUICK_GELU -> {
                for (int i = 0; i < values.length; i++) {
                    values[i] = CanonicalMath.quickGelu(values[i]);
                }
            }
            case GELU -> {
                for (int i = 0; i < values.length; i++) {
                    values[i] = CanonicalMath.gelu(values[i]);
                }
            }
        }
    }
}

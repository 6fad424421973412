package org.comneck.backend.reference;

import java.util.Arrays;
import org.comneck.backend.Convolution;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.StepChecks;
import org.comneck.tensor.Bfloat16;
import org.comneck.tensor.Tensor;

/** Weights as {@code rows[tap * inputChannels + channel][outputChannel]}, tap = ky * kernelWidth + kx. */
final class ReferenceLayer implements Layer {
    private final Convolution geometry;
    private final Precision precision;
    private float[][] rows;
    private final float[] bias;

    ReferenceLayer(Convolution geometry, Tensor weight, Tensor bias, Precision precision) {
        StepChecks.layer(geometry, weight, bias);
        this.geometry = geometry;
        this.precision = precision;
        this.rows = repack(geometry, weight.toFloats());
        this.bias = bias == null ? new float[geometry.outputChannels()] : bias.toFloats();
        if (precision == Precision.BF16) {
            for (float[] row : rows) {
                for (int i = 0; i < row.length; i++) {
                    row[i] = Bfloat16.round(row[i]);
                }
            }
        }
    }

    private static float[][] repack(Convolution g, float[] weight) {
        int taps = g.kernelHeight() * g.kernelWidth();
        int in = g.inputChannels();
        int out = g.outputChannels();
        boolean inputFirst = g.kind() == Convolution.Kind.TRANSPOSED;
        float[][] rows = new float[taps * in][out];
        for (int o = 0; o < out; o++) {
            for (int c = 0; c < in; c++) {
                // OIHW, or IOHW of a transposed convolution
                int from = (inputFirst ? c * out + o : o * in + c) * taps;
                for (int tap = 0; tap < taps; tap++) {
                    rows[tap * in + c][o] = weight[from + tap];
                }
            }
        }
        return rows;
    }

    @Override
    public Convolution geometry() {
        return geometry;
    }

    @Override
    public Precision precision() {
        return precision;
    }

    @Override
    public long bytes() {
        return 4L * (rows.length + 1) * bias.length;
    }

    float[][] rows() {
        if (rows == null) {
            throw new IllegalStateException("the layer is closed");
        }
        return rows;
    }

    float[] bias() {
        return bias;
    }

    @Override
    public void close() {
        rows = null;
    }

    @Override
    public String toString() {
        return geometry + " " + precision + " " + Arrays.toString(new int[] {bias.length});
    }
}

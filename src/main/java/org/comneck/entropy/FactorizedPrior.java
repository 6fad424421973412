package org.comneck.entropy;

import java.util.function.Function;
import org.comneck.DamagedDataException;
import org.comneck.tensor.Tensor;

/**
 * The prior of z: for each channel a learned cumulative distribution (Ballé et al. 2018, appendix 6.1), a small monotone network of layers
 * {@code softplus(matrix) x + bias}, each but the last followed by {@code x + tanh(factor) * tanh(x)}, and a sigmoid at its end.
 */
public final class FactorizedPrior {
    /** Layers of the published network, of widths 1, 3, 3, 3, 3, 1. */
    private static final int LAYERS = 5;

    private final int channels;
    private final int[] width = new int[LAYERS + 1];
    private final double[][] matrix = new double[LAYERS][]; // [channels][out][in], softplus applied
    private final double[][] bias = new double[LAYERS][]; // [channels][out]
    private final double[][] factor = new double[LAYERS][]; // [channels][out], tanh applied; none in the last layer
    private final float[] quantiles; // [channels][3]

    private FactorizedPrior(Function<String, Tensor> tensors) {
        quantiles = parameter(tensors, "quantiles", -1, 1, 3).toFloats();
        channels = quantiles.length / 3;
        width[0] = 1;
        for (int i = 0; i < LAYERS; i++) {
            Tensor weight = tensors.apply("_matrix" + i);
            if (weight.shape().rank() != 3 || weight.shape().size(1) > 64) {
                throw new DamagedDataException("_matrix" + i + " of the factorized prior has shape " + weight.shape()
                        + ", not [" + channels + ",out," + width[i] + "]");
            }
            width[i + 1] = i == LAYERS - 1 ? 1 : (int) weight.shape().size(1);
            matrix[i] = values(parameter(tensors, "_matrix" + i, channels, width[i + 1], width[i]));
            bias[i] = values(parameter(tensors, "_bias" + i, channels, width[i + 1], 1));
            for (int k = 0; k < matrix[i].length; k++) {
                matrix[i][k] = softplus(matrix[i][k]);
            }
            if (i < LAYERS - 1) {
                factor[i] = values(parameter(tensors, "_factor" + i, channels, width[i + 1], 1));
                for (int k = 0; k < factor[i].length; k++) {
                    factor[i][k] = StrictMath.tanh(factor[i][k]);
                }
            }
        }
    }

    /**
     * The prior of these parameters.
     *
     * @param tensors from names without prefix ({@code _matrix0}, {@code _bias0}, {@code _factor0}, ..., {@code quantiles}) to tensors
     * @throws DamagedDataException when a tensor has another shape than its name asks for, or a value that is not finite
     */
    public static FactorizedPrior of(Function<String, Tensor> tensors) {
        return new FactorizedPrior(tensors);
    }

    private static Tensor parameter(Function<String, Tensor> tensors, String name, long... sizes) {
        Tensor tensor = tensors.apply(name);
        boolean fits = tensor.shape().rank() == sizes.length;
        for (int d = 0; fits && d < sizes.length; d++) {
            fits = sizes[d] < 0 || tensor.shape().size(d) == sizes[d];
        }
        if (!fits) {
            throw new DamagedDataException(name + " of the factorized prior has shape " + tensor.shape() + ", not "
                    + java.util.Arrays.toString(sizes).replace("-1", "channels").replace(" ", ""));
        }
        for (long i = 0; i < tensor.shape().elements(); i++) {
            if (!Double.isFinite(tensor.at(i))) {
                throw new DamagedDataException(name + " of the factorized prior holds " + tensor.at(i));
            }
        }
        return tensor;
    }

    private static double[] values(Tensor tensor) {
        double[] values = new double[Math.toIntExact(tensor.shape().elements())];
        for (int i = 0; i < values.length; i++) {
            values[i] = tensor.at(i);
        }
        return values;
    }

    private static double softplus(double x) {
        return x > 0 ? x + StrictMath.log1p(StrictMath.exp(-x)) : StrictMath.log1p(StrictMath.exp(x));
    }

    /** Number of channels. */
    public int channels() {
        return channels;
    }

    /** Median of a channel: what is subtracted before rounding. */
    public float median(int channel) {
        return quantiles[3 * channel + 1];
    }

    /** Medians of all channels. */
    public float[] medians() {
        float[] medians = new float[channels];
        for (int c = 0; c < channels; c++) {
            medians[c] = median(c);
        }
        return medians;
    }

    /** Learned quantile of a channel: 0 the lower tail, 1 the median, 2 the upper tail. */
    float quantile(int channel, int which) {
        return quantiles[3 * channel + which];
    }

    /** Cumulative distribution at x before the sigmoid. */
    double logit(int channel, double x) {
        double[] in = {x};
        for (int i = 0; i < LAYERS; i++) {
            double[] out = new double[width[i + 1]];
            for (int o = 0; o < out.length; o++) {
                int row = channel * width[i + 1] + o;
                double sum = 0;
                for (int k = 0; k < in.length; k++) {
                    sum += matrix[i][row * in.length + k] * in[k];
                }
                sum += bias[i][row];
                out[o] = i < LAYERS - 1 ? sum + factor[i][row] * StrictMath.tanh(sum) : sum;
            }
            in = out;
        }
        return in[0];
    }

    /** Probability that a channel's symbol is {@code value}, that is, that z lies within half of {@code median + value}. */
    public double probability(int channel, int value) {
        double lower = logit(channel, value - 0.5 + median(channel));
        double upper = logit(channel, value + 0.5 + median(channel));
        // where both are positive the difference is taken of the other tail, which keeps its digits
        double sign = lower + upper > 0 ? -1 : 1;
        return Math.abs(sigmoid(sign * upper) - sigmoid(sign * lower));
    }

    static double sigmoid(double x) {
        return 1 / (1 + StrictMath.exp(-x));
    }
}

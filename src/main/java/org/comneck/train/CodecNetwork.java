package org.comneck.train;

import java.util.List;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/**
 * ELIC for training: the published network at any width, with gains for several qualities. Layout NCHW.
 *
 * <pre>
 *   x (B,3,H,W) -> g_a -> y (B,M,H/16,W/16) -> times gain -> h_a -> z (B,N,H/64,W/64)
 *   z -> h_s -> [slice: parameters of anchors, of the others] -> y_hat -> times inverse gain -> g_s -> x_hat
 * </pre>
 *
 * Rates are those of values with uniform noise; what the networks see further on is rounded, with a straight-through gradient.
 */
final class CodecNetwork {
    /** Smallest scale that the integer tables hold. */
    static final double SCALE_BOUND = 0.11;

    /** Of the logistic distribution that z's prior begins as. The usual 10 costs 6 bits a value, and takes thousands of steps to shrink. */
    private static final double PRIOR_SCALE = 0.5;

    /** The prior's parameters act through five layers each and move slowly. */
    private static final double PRIOR_RATE = 5;

    /** Of the layer that reads latents: they are larger than activations, in so many more channels, and its weights smaller. */
    private static final double LATENTS_RATE = 0.2;

    /**
     * Inputs of an output up to which an entropy network's tensor learns at the full rate. Adam moves every weight alike, so a sum moves by as much
     * as it has inputs (arXiv 2203.03466): those of 2,400 lost most of their ReLUs within hundreds of steps.
     */
    private static final double FULL_RATE_INPUTS = 256;

    private static final double LIKELIHOOD_BOUND = 1e-9;

    /**
     * What every symbol has in the integer tables of y, and so no symbol costs more than 12 bits or less than a certain one there. Without it, a
     * single 1 where the scale says 0 has a gradient of hundreds, and the gradient of everything else is lost beside it.
     */
    private static final double LEAST_FREQUENCY = 1.0 / 4096;

    private static final double TAIL_MASS = 1e-9;
    private static final int[] FILTERS = {1, 3, 3, 3, 3, 1};
    private static final double LOG2 = Math.log(2);

    /**
     * @param n channels of transforms and of z
     * @param m channels of y
     * @param slices sum to m
     * @param lambdas weight of 255^2 times the mean squared error, one a quality
     */
    record Size(
            int n,
            int m,
            List<Integer> slices,
            int aggregation1,
            int aggregation2,
            int context1,
            int context2,
            List<Double> lambdas) {}

    /**
     * @param bits (B) estimated bits of each picture, y and z
     * @param sideBits (B) those of z
     * @param yHat quantised latents without gain
     * @param xHat F32 (B,3,H,W), null when not asked for
     */
    record Result(Tensor bits, Tensor sideBits, Tensor yHat, Tensor xHat) {}

    private final Size size;
    private final Parameters w;
    private final ScalarType transforms;

    CodecNetwork(Size size, Parameters parameters, ScalarType transforms) {
        this.size = size;
        this.w = parameters;
        this.transforms = transforms;
    }

    /** Adds the network's tensors. */
    static Parameters declare(Size size, Parameters w) {
        int n = size.n;
        int m = size.m;
        w.conv("g_a.0", n, 3, 5);
        for (int i : new int[] {1, 2, 3, 5, 6, 7, 10, 11, 12}) {
            bottleneck(w, "g_a." + i, n);
        }
        w.conv("g_a.4", n, n, 5);
        attention(w, "g_a.8", n);
        w.conv("g_a.9", n, n, 5).conv("g_a.13", m, n, 5);
        attention(w, "g_a.14", m);
        attention(w, "g_s.0", m);
        w.deconv("g_s.1", m, n, 5);
        for (int i : new int[] {2, 3, 4, 7, 8, 9, 11, 12, 13}) {
            bottleneck(w, "g_s." + i, n);
        }
        w.deconv("g_s.5", n, n, 5);
        attention(w, "g_s.6", n);
        w.deconv("g_s.10", n, n, 5).uniform("g_s.14.weight", 2 / Math.sqrt(25.0 * n), n, 3, 5, 5);
        w.constant("g_s.14.bias", 0.45, 3);
        w.conv("h_a.0", n, m, 3).conv("h_a.2", n, n, 5).conv("h_a.4", n, n, 5);
        w.deconv("h_s.0", n, n, 5).deconv("h_s.2", n, n * 3 / 2, 5).conv("h_s.4", 2 * m, n * 3 / 2, 3);
        List<Integer> g = size.slices;
        for (int i = 0; i < g.size(); i++) {
            int channels = g.get(i);
            if (i > 0) {
                int in = g.get(0) + (i > 1 ? g.get(i - 1) : 0);
                w.conv("cc_transforms." + (i - 1) + ".0", size.context1, in, 5);
                w.conv("cc_transforms." + (i - 1) + ".2", size.context2, size.context1, 5);
                w.conv("cc_transforms." + (i - 1) + ".4", 2 * channels, size.context2, 5);
            }
            w.conv("context_prediction." + i, 2 * channels, channels, 5);
            int in = 2 * m + (i > 0 ? 2 * channels : 0) + 2 * channels;
            w.conv("ParamAggregation." + i + ".0", size.aggregation1, in, 1);
            w.conv("ParamAggregation." + i + ".2", size.aggregation2, size.aggregation1, 1);
            double bound = 1 / Math.sqrt(size.aggregation2);
            w.uniform("ParamAggregation." + i + ".4.weight", bound, 2 * channels, size.aggregation2, 1, 1);
            float[] bias = new float[2 * channels];
            java.util.Arrays.fill(bias, channels, 2 * channels, 1f);
            w.add("ParamAggregation." + i + ".4.bias", bias, 2 * channels);
        }
        prior(n, w);
        int q = size.lambdas.size();
        float[] gain = new float[q * m];
        float[] inverse = new float[q * m];
        double middle = middle(size);
        for (int i = 0; i < q; i++) {
            float log = (float) (0.5 * Math.log(size.lambdas.get(i) / middle));
            java.util.Arrays.fill(gain, i * m, (i + 1) * m, log);
            java.util.Arrays.fill(inverse, i * m, (i + 1) * m, -log);
        }
        // Logarithms, so that gains stay positive; the model file holds gain.y and gain.y_inverse.
        w.add("gain.y.log", gain, q, m).add("gain.y_inverse.log", inverse, q, m);
        w.rate("gain.y.log", 3).rate("gain.y_inverse.log", 3);
        return w;
    }

    /** The factorized prior of z: n cumulative distributions, and where their tails begin. */
    static void prior(int n, Parameters w) {
        double scale = Math.pow(PRIOR_SCALE, 0.2);
        for (int i = 0; i < 5; i++) {
            int out = FILTERS[i + 1];
            w.constant("entropy_bottleneck._matrix" + i, Math.log(Math.expm1(1 / scale / out)), n, out, FILTERS[i]);
            w.uniform("entropy_bottleneck._bias" + i, 0.5, n, out, 1);
            if (i < 4) {
                w.constant("entropy_bottleneck._factor" + i, 0, n, out, 1);
            }
        }
        float[] quantiles = new float[3 * n];
        for (int c = 0; c < n; c++) {
            quantiles[3 * c] = -4;
            quantiles[3 * c + 2] = 4;
        }
        w.add("entropy_bottleneck.quantiles", quantiles, n, 1, 3).rate("entropy_bottleneck.quantiles", 20);
    }

    /** Multiplies learning rates as the recipe's rate.strides, rate.branches and rate.entropy say, before the tensors are made. */
    static void rates(Recipe recipe, Parameters w) {
        double strides = recipe.number("rate.strides", 1);
        double branches = recipe.number("rate.branches", 1);
        double entropy = recipe.number("rate.entropy", 1);
        for (String name : w.slots().keySet()) {
            if (name.startsWith("g_")) {
                // g_a.4.weight has two dots, g_a.5.conv1.weight three.
                boolean stride = name.chars().filter(c -> c == '.').count() == 2;
                w.rate(name, stride ? strides : branches);
                if (name.equals("g_s.1.weight")) {
                    w.rate(name, LATENTS_RATE);
                }
            } else if (!name.startsWith("gain.") && !name.endsWith(".quantiles")) {
                double own = name.startsWith("entropy_bottleneck.")
                        ? PRIOR_RATE
                        : Math.min(
                                1,
                                FULL_RATE_INPUTS
                                        / inputs(name, w.slots().get(name).shape()));
                w.rate(name, own * entropy);
            }
        }
    }

    /** How many inputs an output of a convolution has. */
    private static double inputs(String name, long[] shape) {
        if (shape.length == 1) {
            return 1;
        }
        // h_s.0 and h_s.2 are transposed, with stride 2.
        boolean transposed = name.startsWith("h_s.") && shape[2] == 5;
        return shape[transposed ? 0 : 1] * shape[2] * shape[3] / (transposed ? 4.0 : 1);
    }

    /** The lambda whose gain starts at 1: the geometric mean. */
    static double middle(Size size) {
        return Math.exp(size.lambdas.stream().mapToDouble(Math::log).average().orElseThrow());
    }

    private static void bottleneck(Parameters w, String p, int channels) {
        w.conv(p + ".conv1", channels / 2, channels, 1);
        w.conv(p + ".conv2", channels / 2, channels / 2, 3);
        w.conv(p + ".conv3", channels, channels / 2, 1);
    }

    private static void attention(Parameters w, String p, int channels) {
        for (String branch : new String[] {".conv_a.", ".conv_b."}) {
            for (int i = 0; i < 3; i++) {
                w.conv(p + branch + i + ".conv.0", channels / 2, channels, 1);
                w.conv(p + branch + i + ".conv.2", channels / 2, channels / 2, 3);
                w.conv(p + branch + i + ".conv.4", channels, channels / 2, 1);
            }
        }
        w.conv(p + ".conv_b.3", channels, channels, 1);
    }

    private Tensor bottleneck(String p, Tensor x) {
        Tensor h = torch.relu(Ops.conv(w, p + ".conv1", x, 1));
        h = torch.relu(Ops.conv(w, p + ".conv2", h, 1));
        return Ops.conv(w, p + ".conv3", h, 1).add(x);
    }

    private Tensor unit(String p, Tensor x) {
        Tensor h = torch.relu(Ops.conv(w, p + ".conv.0", x, 1));
        h = torch.relu(Ops.conv(w, p + ".conv.2", h, 1));
        return torch.relu(Ops.conv(w, p + ".conv.4", h, 1).add(x));
    }

    private Tensor attention(String p, Tensor x) {
        Tensor a = x;
        Tensor b = x;
        for (int i = 0; i < 3; i++) {
            a = unit(p + ".conv_a." + i, a);
            b = unit(p + ".conv_b." + i, b);
        }
        return a.mul(torch.sigmoid(Ops.conv(w, p + ".conv_b.3", b, 1))).add(x);
    }

    private Tensor bottlenecks(String p, Tensor x, int... indices) {
        for (int i : indices) {
            x = bottleneck(p + i, x);
        }
        return x;
    }

    /** Pixels in [0,1], F32 (B,3,H,W), to latents without gain, F32. */
    Tensor analysis(Tensor pixels) {
        Tensor x = Ops.conv(w, "g_a.0", Ops.channelsLast(pixels), 2).to(transforms);
        x = Ops.conv(w, "g_a.4", bottlenecks("g_a.", x, 1, 2, 3), 2);
        x = attention("g_a.8", bottlenecks("g_a.", x, 5, 6, 7));
        x = bottlenecks("g_a.", Ops.conv(w, "g_a.9", x, 2), 10, 11, 12);
        return Ops.wide(attention("g_a.14", Ops.conv(w, "g_a.13", x, 2)));
    }

    /** Latents without gain to pixels, about [0,1]. */
    Tensor synthesis(Tensor yHat) {
        Tensor x = attention("g_s.0", Ops.channelsLast(yHat).to(transforms));
        x = bottlenecks("g_s.", Ops.deconv(w, "g_s.1", x), 2, 3, 4);
        x = attention("g_s.6", Ops.deconv(w, "g_s.5", x));
        x = bottlenecks("g_s.", x, 7, 8, 9);
        x = bottlenecks("g_s.", Ops.deconv(w, "g_s.10", x), 11, 12, 13);
        return Ops.deconv(w, "g_s.14", Ops.wide(x));
    }

    Tensor hyperAnalysis(Tensor y) {
        Tensor z = torch.relu(Ops.conv(w, "h_a.0", y, 1));
        z = torch.relu(Ops.conv(w, "h_a.2", z, 2));
        return Ops.conv(w, "h_a.4", z, 2);
    }

    Tensor hyperSynthesis(Tensor z) {
        Tensor x = torch.relu(Ops.deconv(w, "h_s.0", z));
        x = torch.relu(Ops.deconv(w, "h_s.2", x));
        return Ops.conv(w, "h_s.4", x, 1);
    }

    private Tensor parameters(int i, Tensor context, Tensor support) {
        Tensor h = torch.relu(Ops.conv(w, "ParamAggregation." + i + ".0", Ops.cat(1, context, support), 1));
        h = torch.relu(Ops.conv(w, "ParamAggregation." + i + ".2", h, 1));
        return Ops.conv(w, "ParamAggregation." + i + ".4", h, 1);
    }

    /** 1 where both coordinates are even or both are odd. */
    private static Tensor anchors(long height, long width) {
        float[] mask = new float[(int) (height * width)];
        for (int i = 0; i < mask.length; i++) {
            mask[i] = (i / width + i % width) % 2 == 0 ? 1 : 0;
        }
        return Ops.of(mask, 1, 1, height, width);
    }

    /** 1 at the taps of a 5x5 checkerboard context: neighbours of the other colour. */
    static float[] contextMask() {
        float[] mask = new float[25];
        for (int i = 0; i < 25; i++) {
            mask[i] = (i / 5 + i % 5) % 2;
        }
        return mask;
    }

    /** Logarithms of the gains of each picture's quality, (B,M,1,1). */
    private Tensor gain(String name, Tensor qualities) {
        Tensor rows = w.get(name).index_select(0, qualities);
        return rows.exp().unsqueeze(-1).unsqueeze(-1);
    }

    /**
     * Codes pictures.
     *
     * @param pixels F32 (B,3,H,W) in [0,1], sizes multiples of 64
     * @param qualities I64 (B), rows of the gains
     * @param noise whether rates are those of noisy values, as in training, or of the rounded ones
     * @param reconstruct whether to run g_s
     */
    Result run(Tensor pixels, Tensor qualities, boolean noise, boolean reconstruct) {
        return runLatents(latents(pixels, qualities), qualities, noise, reconstruct);
    }

    /** Latents with gain, (B,M,H/16,W/16). */
    Tensor latents(Tensor pixels, Tensor qualities) {
        return gained(analysis(pixels), qualities);
    }

    /** Latents without gain, as {@link #analysis} makes them, with gain. */
    Tensor gained(Tensor analysed, Tensor qualities) {
        return analysed.mul(gain("gain.y.log", qualities));
    }

    /** {@link #run} from latents with gain. */
    Result runLatents(Tensor y, Tensor qualities, boolean noise, boolean reconstruct) {
        // What the rate wants of y through h_a and through the contexts stays with them: rounded values say little
        // about
        // how y should change, and say it loudly. Without this cut, the gradient that reached g_a through z alone was a
        // hundred times the rest of it, and g_a learned no more.
        Tensor z = hyperAnalysis(Ops.constant(y));
        Tensor medians =
                Ops.constant(w.get("entropy_bottleneck.quantiles")).select(2, 1).reshape(1, size.n, 1, 1);
        Tensor zRounded = z.sub(medians).round().add(medians);
        Tensor zHat = Ops.straightThrough(z, zRounded);
        Tensor sideBits = factorizedBits(noise ? z.add(noiseLike(z)) : zRounded);
        Tensor bits = sideBits;
        Tensor hyper = hyperSynthesis(zHat);
        Tensor anchors = anchors(y.size(2), y.size(3));
        Tensor others = anchors.neg().add(Ops.scalar(1));
        Tensor mask = Ops.of(contextMask(), 1, 1, 5, 5);
        Tensor[] done = new Tensor[size.slices.size()];
        int from = 0;
        for (int i = 0; i < done.length; i++) {
            int channels = size.slices.get(i);
            Tensor slice = y.narrow(1, from, channels);
            from += channels;
            Tensor support = hyper;
            if (i > 0) {
                String p = "cc_transforms." + (i - 1);
                Tensor c = Ops.constant(i == 1 ? done[0] : Ops.cat(1, done[0], done[i - 1]));
                c = torch.relu(Ops.conv(w, p + ".0", c, 1));
                c = torch.relu(Ops.conv(w, p + ".2", c, 1));
                support = Ops.cat(1, Ops.conv(w, p + ".4", c, 1), hyper);
            }
            Tensor none = Ops.zeros(y.size(0), 2L * channels, y.size(2), y.size(3));
            Tensor a = parameters(i, none, support);
            Tensor meanA = a.narrow(1, 0, channels);
            Tensor hatA = Ops.constant(slice.sub(meanA).round().add(meanA)).mul(anchors);
            String p = "context_prediction." + i;
            Tensor context = Ops.conv(w.get(p + ".weight").mul(mask), w.get(p + ".bias"), hatA, 1, 2);
            Tensor b = parameters(i, context, support);
            Tensor both = a.mul(anchors).add(b.mul(others));
            Tensor mean = both.narrow(1, 0, channels);
            Tensor scale = both.narrow(1, channels, channels);
            // The residual's value is exact, its gradient reaches y and, through what is added back, the mean.
            Tensor rounded = slice.sub(mean).round();
            done[i] = Ops.straightThrough(slice, rounded.add(mean));
            Tensor residual = noise ? slice.add(noiseLike(slice)).sub(mean) : rounded;
            bits = bits.add(gaussianBits(residual, scale));
        }
        Tensor yHat = Ops.cat(1, done).mul(gain("gain.y_inverse.log", qualities));
        return new Result(bits, sideBits, yHat, reconstruct ? synthesis(yHat) : null);
    }

    private static Tensor noiseLike(Tensor x) {
        return Ops.plus(torch.rand_like(x), -0.5);
    }

    /**
     * Scales, at least SCALE_BOUND. One below that learns only from values beyond half a step, which want it larger; all others would push it
     * down for ever (to -6,000 in one run, by activations as large), as smaller scales than the bound's would cost less if there were any.
     */
    private static Tensor bounded(Tensor scale, Tensor v) {
        Tensor above = torch.clamp_min(scale, Ops.scalar(SCALE_BOUND));
        Tensor climbing = scale.lt(Ops.scalar(SCALE_BOUND)).logical_and(v.gt(Ops.scalar(0.5)));
        return above.add(scale.sub(Ops.constant(scale)).mul(climbing));
    }

    private static Tensor toBits(Tensor likelihood) {
        Tensor bounded = Ops.straightThrough(likelihood, torch.clamp_min(likelihood, Ops.scalar(LIKELIHOOD_BOUND)));
        return Ops.scaled(Ops.sumOver(bounded.log(), false, 1, 2, 3), -1 / LOG2);
    }

    private static Tensor gaussianBits(Tensor residual, Tensor scale) {
        Tensor v = residual.abs();
        Tensor factor = Ops.scaled(bounded(scale, v), Math.sqrt(2)).reciprocal();
        Tensor upper = torch.erfc(Ops.plus(v, -0.5).mul(factor));
        Tensor lower = torch.erfc(Ops.plus(v, 0.5).mul(factor));
        Tensor likelihood = Ops.scaled(upper.sub(lower), 0.5);
        return toBits(Ops.scaled(Ops.plus(likelihood, LEAST_FREQUENCY), 1 / (1 + 2 * LEAST_FREQUENCY)));
    }

    /** Probabilities (N,1,K) between neighbours of ascending values (N,1,K+1), at least 1e-9. */
    static Tensor binProbabilities(Parameters w, Tensor edges) {
        Tensor at = torch.sigmoid(cumulative(w, edges, false));
        long bins = edges.size(2) - 1;
        return at.narrow(2, 1, bins).sub(at.narrow(2, 0, bins)).clamp_min(Ops.scalar(LIKELIHOOD_BOUND));
    }

    private Tensor cumulative(Tensor values, boolean fixed) {
        return cumulative(w, values, fixed);
    }

    /** Logits of the cumulative distribution at values (N,1,K). */
    private static Tensor cumulative(Parameters w, Tensor values, boolean fixed) {
        Tensor x = values;
        for (int i = 0; i < 5; i++) {
            Tensor matrix = w.get("entropy_bottleneck._matrix" + i);
            Tensor bias = w.get("entropy_bottleneck._bias" + i);
            x = torch.matmul(torch.softplus(fixed ? Ops.constant(matrix) : matrix), x)
                    .add(fixed ? Ops.constant(bias) : bias);
            if (i < 4) {
                Tensor factor = w.get("entropy_bottleneck._factor" + i);
                x = x.add(torch.tanh(fixed ? Ops.constant(factor) : factor).mul(torch.tanh(x)));
            }
        }
        return x;
    }

    private Tensor factorizedBits(Tensor z) {
        Tensor values = z.permute(1, 0, 2, 3).reshape(size.n, 1, -1);
        Tensor lower = cumulative(Ops.plus(values, -0.5), false);
        Tensor upper = cumulative(Ops.plus(values, 0.5), false);
        Tensor sign = Ops.constant(torch.sign(lower.add(upper)).neg());
        Tensor likelihood = torch.sigmoid(upper.mul(sign))
                .sub(torch.sigmoid(lower.mul(sign)))
                .abs();
        return toBits(
                likelihood.reshape(size.n, z.size(0), z.size(2), z.size(3)).permute(1, 0, 2, 3));
    }

    /** Pulls the quantiles to where the prior's tails begin, and to its median. */
    Tensor auxiliaryLoss() {
        Tensor logits = cumulative(w.get("entropy_bottleneck.quantiles"), true);
        float target = (float) Math.log(2 / TAIL_MASS - 1);
        return logits.sub(Ops.of(new float[] {-target, 0, target}, 1, 1, 3))
                .abs()
                .mean();
    }

    Size size() {
        return size;
    }
}

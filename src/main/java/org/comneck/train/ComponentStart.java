package org.comneck.train;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/**
 * Start values that make an ELIC codec a linear transform codec before its first step.
 *
 * <p>Each convolution with stride 2 takes blocks of 2x2 pixels of its input to their principal components, found on photos, largest variance
 * first; what does not fit into its channels is left out. The transposed convolutions put the components back. Residual and attention branches
 * begin at zero, the gates of attention nearly shut. Channels that carry no component, in the first layers, keep random weights, and those that
 * read them small ones, so that the branches find something there to learn from.
 *
 * <p>The transform is orthonormal, times a factor: a quantisation step of 1 then minimises rate + lambda * 255^2 * error at high rates for the
 * lambda whose gain is 1. With a uniform quantiser of step d, the error of a coefficient is d^2 / 12, its rate -log2 d + constant, and there are
 * three coefficients to a pixel's mean squared error: lambda d / 18 = 1 / (d ln 2).
 */
final class ComponentStart {
    private static final String[][] LAYERS = {
        {"g_a.0", "g_s.14"}, {"g_a.4", "g_s.10"}, {"g_a.9", "g_s.5"}, {"g_a.13", "g_s.1"}
    };
    private static final double SPARE_ANALYSIS = 0.3;
    private static final double SPARE = 0.1;
    private static final double GATE = -4;

    /** From PyTorch's uniform start values, whose variance is a third of 1 / inputs, to 2 / inputs. */
    private static final double HE = Math.sqrt(6);

    /** Standard deviation of z, in steps of its quantiser. */
    private static final double HYPER_LATENTS = 1;

    private final CodecNetwork.Size size;
    private final Parameters w;

    private ComponentStart(CodecNetwork.Size size, Parameters w) {
        this.size = size;
        this.w = w;
    }

    /**
     * Sets the transforms' parameters.
     *
     * @param pictures F32 (B,3,H,W) in [0,1], sizes multiples of 16
     */
    static void set(CodecNetwork.Size size, Parameters w, List<Tensor> pictures) {
        NoGradGuard guard = new NoGradGuard();
        try {
            ComponentStart start = new ComponentStart(size, w);
            start.branches();
            start.spreads(start.components(pictures));
        } finally {
            guard.close();
        }
    }

    /** The factor of the orthonormal transform, for pixels in [0,1]. */
    static double scale(double lambda) {
        return 255 / Math.sqrt(18 / (lambda * Math.log(2)));
    }

    private void branches() {
        for (String name : w.slots().keySet()) {
            boolean last = name.contains(".conv3.") || name.contains(".conv.4.");
            if (!name.startsWith("g_")) {
                continue;
            }
            if (last) {
                w.set(name, Ops.scaled(w.get(name), 0));
            } else if (name.endsWith(".conv_b.3.weight")) {
                w.set(name, Ops.scaled(w.get(name), SPARE));
            } else if (name.endsWith(".conv_b.3.bias")) {
                w.set(name, Ops.plus(Ops.scaled(w.get(name), 0), GATE));
            }
        }
    }

    /**
     * The model of latents begins with their standard deviations, wherever they are. What reads latents sees them with a variance of 1, and what
     * comes before a ReLU keeps it (K. He and others, 2015): the entropy networks are deep for the few steps they get, and a z that rounds to
     * zero everywhere says nothing and never will.
     */
    private void spreads(Tensor variances) {
        Tensor deviations = Ops.plus(variances, 1e-4).sqrt();
        long from = 0;
        for (int i = 0; i < size.slices().size(); i++) {
            int channels = size.slices().get(i);
            Tensor own = deviations.narrow(0, from, channels);
            String name = "ParamAggregation." + i;
            Tensor bias = w.get(name + ".4.bias").clone();
            bias.narrow(0, 0, channels).zero_();
            bias.narrow(0, channels, channels).copy_(own);
            w.set(name + ".4.bias", bias);
            scale(name + ".4.weight", Ops.scaled(Ops.cat(0, own, own).reshape(-1, 1, 1, 1), SPARE));
            scale(name + ".0.weight", HE);
            scale(name + ".2.weight", HE);
            scale("context_prediction." + i + ".weight", own.reciprocal().reshape(1, -1, 1, 1));
            if (i > 0) {
                Tensor first = deviations.narrow(0, 0, size.slices().getFirst());
                Tensor read = i == 1
                        ? first
                        : Ops.cat(
                                0,
                                first,
                                deviations.narrow(
                                        0,
                                        from - size.slices().get(i - 1),
                                        size.slices().get(i - 1)));
                String context = "cc_transforms." + (i - 1);
                scale(context + ".0.weight", Ops.scaled(read.reciprocal().reshape(1, -1, 1, 1), HE));
                scale(context + ".2.weight", HE);
            }
            from += channels;
        }
        scale("h_a.0.weight", Ops.scaled(deviations.reciprocal().reshape(1, -1, 1, 1), HE));
        scale("h_a.2.weight", HE);
        scale("h_a.4.weight", HE * HYPER_LATENTS);
        scale("h_s.0.weight", HE / HYPER_LATENTS);
        scale("h_s.2.weight", HE);
    }

    private void scale(String name, double factor) {
        w.set(name, Ops.scaled(w.get(name), factor));
    }

    private void scale(String name, Tensor factors) {
        w.set(name, w.get(name).mul(factors));
    }

    /** Sets the layers that change the resolution; the variances of latents. */
    private Tensor components(List<Tensor> pictures) {
        Tensor mean = Ops.meanOver(Ops.cat(0, pictures.toArray(new Tensor[0])), true, 0, 2, 3);
        List<Tensor> states = new ArrayList<>(pictures);
        states.replaceAll(picture -> picture.sub(mean));
        long carried = 3;
        for (int i = 0; i < LAYERS.length; i++) {
            boolean first = i == 0;
            boolean latents = i == LAYERS.length - 1;
            long width = latents ? size.m() : size.n();
            long kept = Math.min(width, 4 * carried);
            Tensor basis = basis(states, kept).reshape(kept, carried, 2, 2);
            Tensor kernel = Ops.zeros(kept, carried, 5, 5);
            kernel.narrow(2, 2, 2).narrow(3, 2, 2).copy_(basis);
            states.replaceAll(state -> Ops.conv(kernel, null, state, 2, 2));

            double factor = latents ? scale(CodecNetwork.middle(size)) : 1;
            String analysis = LAYERS[i][0];
            Tensor weight = Ops.scaled(w.get(analysis + ".weight"), SPARE_ANALYSIS);
            weight.narrow(1, carried, weight.size(1) - carried).mul_(Ops.scalar(SPARE));
            weight.narrow(0, 0, kept).narrow(1, 0, carried).copy_(Ops.scaled(kernel, factor));
            w.set(analysis + ".weight", weight);
            Tensor bias = Ops.scaled(w.get(analysis + ".bias"), SPARE_ANALYSIS);
            bias.narrow(0, 0, kept).zero_();
            if (first) {
                bias.narrow(0, 0, kept)
                        .copy_(Ops.sumOver(kernel.mul(mean), false, 1, 2, 3).neg());
            }
            w.set(analysis + ".bias", bias);

            String synthesis = LAYERS[i][1];
            weight = Ops.scaled(w.get(synthesis + ".weight"), SPARE);
            weight.narrow(0, 0, kept).zero_();
            weight.narrow(0, kept, weight.size(0) - kept).mul_(Ops.scalar(SPARE));
            weight.narrow(0, 0, kept).narrow(1, 0, carried).copy_(Ops.scaled(kernel, 1 / factor));
            w.set(synthesis + ".weight", weight);
            bias = Ops.scaled(w.get(synthesis + ".bias"), SPARE);
            bias.narrow(0, 0, carried).copy_(first ? mean.reshape(carried) : Ops.zeros(carried));
            w.set(synthesis + ".bias", bias);
            carried = kept;
        }
        Tensor latents = Ops.cat(0, states.toArray(new Tensor[0]));
        return Ops.scaled(
                Ops.meanOver(latents.square(), false, 0, 2, 3), Math.pow(scale(CodecNetwork.middle(size)), 2));
    }

    /** The eigenvectors of the covariance of 2x2 blocks with the largest eigenvalues, rows of (kept, 4 C): channel, row, column. */
    private static Tensor basis(List<Tensor> states, long kept) {
        Tensor covariance = null;
        for (Tensor state : states) {
            long length = 4 * state.size(1);
            Tensor blocks = torch.pixel_unshuffle(state, 2)
                    .permute(0, 2, 3, 1)
                    .reshape(-1, length)
                    .to(ScalarType.Double);
            Tensor part = torch.matmul(blocks.t(), blocks);
            covariance = covariance == null ? part : covariance.add(part);
        }
        // Ascending eigenvalues, eigenvectors in columns.
        Tensor vectors = Ops.eigenvectors(covariance);
        long length = vectors.size(0);
        return vectors.narrow(1, length - kept, kept).flip(1).t().to(Ops.F32);
    }
}

package org.comneck.train;

import java.util.List;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.comneck.codec.PostProcessing;

/** {@link PostProcessing} for training: decoded pictures (B,3,H,W) in [0,1] to pictures for the encoder. Layout NCHW. */
final class PostNetwork {
    private static final String OUT = PostProcessing.PREFIX + "out";

    private final Parameters w;
    private final int levels;
    private final ScalarType type;

    /** @param levels number of widths it was declared with */
    PostNetwork(Parameters parameters, int levels, ScalarType type) {
        this.w = parameters;
        this.levels = levels;
        this.type = type;
    }

    /**
     * Adds the network's tensors. It begins as the identity: its last layer is zero.
     *
     * @param widths channels of each level, full resolution first
     */
    static Parameters declare(List<Integer> widths, Parameters w) {
        int levels = widths.size();
        for (int i = 0; i < levels; i++) {
            int width = widths.get(i);
            w.conv(PostProcessing.down(i) + ".0", width, i == 0 ? 3 : widths.get(i - 1), 3);
            w.conv(PostProcessing.down(i) + ".1", width, width, 3);
            if (i < levels - 1) {
                w.deconv(PostProcessing.up(i) + ".0", widths.get(i + 1), width, 2);
                w.conv(PostProcessing.up(i) + ".1", width, 2 * width, 3);
                w.conv(PostProcessing.up(i) + ".2", width, width, 3);
            }
        }
        return w.constant(OUT + ".weight", 0, 3, widths.getFirst(), 1, 1).constant(OUT + ".bias", 0, 3);
    }

    /** Whether a tensor of a model is the network's. */
    static boolean owns(String name) {
        return name.startsWith(PostProcessing.PREFIX);
    }

    private Tensor conv(String name, Tensor x, int stride) {
        return torch.relu(Ops.conv(w, name, x, stride));
    }

    private Tensor doubled(String name, Tensor x) {
        return torch.conv_transpose2d(
                x,
                w.get(name + ".weight").to(type),
                new TensorOptional(w.get(name + ".bias").to(type)),
                new long[] {2, 2},
                new long[] {0, 0},
                new long[] {0, 0},
                1,
                1,
                1);
    }

    /** Not clamped. */
    Tensor run(Tensor picture) {
        Tensor[] skips = new Tensor[levels];
        Tensor x = Ops.channelsLast(picture).to(type);
        for (int i = 0; i < levels; i++) {
            x = conv(PostProcessing.down(i) + ".1", conv(PostProcessing.down(i) + ".0", x, i == 0 ? 1 : 2), 1);
            skips[i] = x;
        }
        for (int i = levels - 2; i >= 0; i--) {
            x = Ops.cat(1, skips[i], doubled(PostProcessing.up(i) + ".0", x));
            x = conv(PostProcessing.up(i) + ".2", conv(PostProcessing.up(i) + ".1", x, 1), 1);
        }
        return Ops.wide(Ops.conv(w, OUT, x, 1)).add(picture);
    }
}

package org.comneck.train;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;

/** The transform-neck for training: yHat (B,M,h,w) -> linear, class token, positions, ln_pre, one block -> (B,1+h*w,D). */
final class NeckNetwork {
    private final Parameters w;
    private final int heads;
    private final ScalarType type;

    NeckNetwork(Parameters parameters, int heads, ScalarType type) {
        this.w = parameters;
        this.heads = heads;
        this.type = type;
    }

    static Parameters declare(int latents, int width, int tokens, Parameters w) {
        double bound = 1 / Math.sqrt(latents);
        w.uniform("trans_latent_dim.weight", bound, width, latents).uniform("trans_latent_dim.bias", bound, width);
        w.uniform("class_embedding", 0.5, width).uniform("positional_embedding", 0.5, tokens, width);
        w.norm("ln_pre", width);
        Transformer.declare(w, "transformer.resblocks.0", width);
        return w;
    }

    Tensor run(Tensor yHat) {
        Tensor x = Ops.linear(
                w,
                "trans_latent_dim.weight",
                "trans_latent_dim.bias",
                yHat.flatten(2, 3).transpose(1, 2));
        x = Ops.layerNorm(w, "ln_pre", Transformer.embed(w, "", x), Transformer.EPSILON);
        return Transformer.block(w, "transformer.resblocks.0", x, heads, true, type);
    }
}

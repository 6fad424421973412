package org.comneck.train;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;

/** The transform-neck for training: yHat (B,M,h,w) -> linear, class token, positions, ln_pre, blocks (one as published) -> (B,1+h*w,D). */
final class NeckNetwork {
    static final String BLOCK = "transformer.resblocks.";

    private final Parameters w;
    private final int heads;
    private final int blocks;
    private final ScalarType type;

    NeckNetwork(Parameters parameters, int heads, int blocks, ScalarType type) {
        this.w = parameters;
        this.heads = heads;
        this.blocks = blocks;
        this.type = type;
    }

    static Parameters declare(int latents, int width, int tokens, int blocks, Parameters w) {
        double bound = 1 / Math.sqrt(latents);
        w.uniform("trans_latent_dim.weight", bound, width, latents).uniform("trans_latent_dim.bias", bound, width);
        w.uniform("class_embedding", 0.5, width).uniform("positional_embedding", 0.5, tokens, width);
        w.norm("ln_pre", width);
        for (int i = 0; i < blocks; i++) {
            Transformer.declare(w, BLOCK + i, width);
        }
        return w;
    }

    /** Whether a tensor of a model is the neck's. */
    static boolean owns(String name) {
        return name.startsWith("trans_latent_dim.")
                || name.startsWith("ln_pre.")
                || name.startsWith(BLOCK)
                || name.equals("class_embedding")
                || name.equals("positional_embedding");
    }

    Tensor run(Tensor yHat) {
        Tensor x = Ops.linear(
                w,
                "trans_latent_dim.weight",
                "trans_latent_dim.bias",
                yHat.flatten(2, 3).transpose(1, 2));
        x = Ops.layerNorm(w, "ln_pre", Transformer.embed(w, "", x), Transformer.EPSILON);
        for (int i = 0; i < blocks; i++) {
            x = Transformer.block(w, BLOCK + i, x, heads, true, type);
        }
        return x;
    }
}

package org.comneck.train;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/** Pre-norm transformer blocks by OpenAI CLIP's names, tokens (B,N,D) F32; layers run in the given arithmetic. */
final class Transformer {
    /** LayerNorm's epsilon, as in CLIP. */
    static final double EPSILON = 1e-5;

    private Transformer() {}

    static void declare(Parameters w, String p, int width) {
        double bound = Math.sqrt(3.0 / width) * 0.5;
        w.norm(p + ".ln_1", width)
                .uniform(p + ".attn.in_proj_weight", bound, 3L * width, width)
                .constant(p + ".attn.in_proj_bias", 0, 3L * width)
                .uniform(p + ".attn.out_proj.weight", bound, width, width)
                .constant(p + ".attn.out_proj.bias", 0, width)
                .norm(p + ".ln_2", width)
                .uniform(p + ".mlp.c_fc.weight", bound, 4L * width, width)
                .constant(p + ".mlp.c_fc.bias", 0, 4L * width)
                .uniform(p + ".mlp.c_proj.weight", bound / 2, width, 4L * width)
                .constant(p + ".mlp.c_proj.bias", 0, width);
    }

    static Tensor block(Parameters w, String p, Tensor x, int heads, boolean quick, ScalarType type) {
        Tensor normed = Ops.layerNorm(w, p + ".ln_1", x, EPSILON).to(type);
        Tensor qkv = Ops.linear(w, p + ".attn.in_proj_weight", p + ".attn.in_proj_bias", normed);
        Tensor attended = Ops.attention(qkv, heads);
        Tensor middle = x.add(Ops.linear(w, p + ".attn.out_proj.weight", p + ".attn.out_proj.bias", attended)
                .to(Ops.F32));
        normed = Ops.layerNorm(w, p + ".ln_2", middle, EPSILON).to(type);
        Tensor hidden = Ops.linear(w, p + ".mlp.c_fc.weight", p + ".mlp.c_fc.bias", normed);
        hidden = quick ? hidden.mul(torch.sigmoid(Ops.scaled(hidden, 1.702))) : torch.gelu(hidden);
        return middle.add(Ops.linear(w, p + ".mlp.c_proj.weight", p + ".mlp.c_proj.bias", hidden)
                .to(Ops.F32));
    }

    /** Class token and patches (B,h*w,D), with positions. */
    static Tensor embed(Parameters w, String prefix, Tensor patches) {
        Tensor cls = w.get(prefix + "class_embedding");
        Tensor first = cls.reshape(1, 1, -1).expand(patches.size(0), 1, cls.size(0));
        return Ops.cat(1, first, patches).add(w.get(prefix + "positional_embedding"));
    }
}

package org.comneck.train;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.comneck.UsageException;

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

    /** Has a block's matrices stepped as the recipe says: with muon, queries, keys and values are three of them. */
    static void optimizer(Recipe recipe, Parameters w, String p) {
        String optimizer = recipe.has("optimizer") ? recipe.word("optimizer") : "adam";
        switch (optimizer) {
            case "adam" -> {}
            case "muon" -> {
                double factor = recipe.number("rate.muon", 2.5);
                w.orthogonal(p + ".attn.in_proj_weight", 3, factor)
                        .orthogonal(p + ".attn.out_proj.weight", 1, factor)
                        .orthogonal(p + ".mlp.c_fc.weight", 1, factor)
                        .orthogonal(p + ".mlp.c_proj.weight", 1, factor);
            }
            default ->
                throw new UsageException(
                        "recipe " + recipe.name() + ": optimizer is adam or muon, not '" + optimizer + "'");
        }
    }

    static Tensor block(Parameters w, String p, Tensor x, int heads, boolean quick, ScalarType type) {
        return block(w, p, x, heads, quick, EPSILON, type);
    }

    /** A block whose norms have an epsilon of their own, as timm's have. */
    static Tensor block(Parameters w, String p, Tensor x, int heads, boolean quick, double epsilon, ScalarType type) {
        return mlp(w, p, attention(w, p, x, heads, epsilon, type), quick, epsilon, type);
    }

    /** The first half of a block: x + output(attention(qkv(ln_1(x)))). */
    static Tensor attention(Parameters w, String p, Tensor x, int heads, ScalarType type) {
        return attention(w, p, x, heads, EPSILON, type);
    }

    private static Tensor attention(Parameters w, String p, Tensor x, int heads, double epsilon, ScalarType type) {
        Tensor normed = Ops.layerNorm(w, p + ".ln_1", x, epsilon).to(type);
        Tensor qkv = Ops.linear(w, p + ".attn.in_proj_weight", p + ".attn.in_proj_bias", normed);
        Tensor attended = Ops.attention(qkv, heads);
        return x.add(Ops.wide(Ops.linear(w, p + ".attn.out_proj.weight", p + ".attn.out_proj.bias", attended)));
    }

    /** The second half: x + c_proj(activation(c_fc(ln_2(x)))). */
    static Tensor mlp(Parameters w, String p, Tensor x, boolean quick, ScalarType type) {
        return mlp(w, p, x, quick, EPSILON, type);
    }

    private static Tensor mlp(Parameters w, String p, Tensor x, boolean quick, double epsilon, ScalarType type) {
        Tensor normed = Ops.layerNorm(w, p + ".ln_2", x, epsilon).to(type);
        Tensor hidden = Ops.linear(w, p + ".mlp.c_fc.weight", p + ".mlp.c_fc.bias", normed);
        hidden = quick ? hidden.mul(torch.sigmoid(Ops.scaled(hidden, 1.702))) : torch.gelu(hidden);
        return x.add(Ops.wide(Ops.linear(w, p + ".mlp.c_proj.weight", p + ".mlp.c_proj.bias", hidden)));
    }

    /**
     * A position table (1+g*g,D) brought to another grid.
     *
     * @return the table itself when the grid is its own
     */
    static Tensor positions(Tensor table, long grid) {
        long old = Math.round(Math.sqrt(table.size(0) - 1));
        if (old == grid) {
            return table;
        }
        long width = table.size(1);
        Tensor patches = table.narrow(0, 1, old * old)
                .reshape(1, old, old, width)
                .permute(0, 3, 1, 2)
                .contiguous();
        patches = torch.upsample_bicubic2d(patches, new long[] {grid, grid}, false)
                .permute(0, 2, 3, 1)
                .reshape(grid * grid, width);
        return Ops.cat(0, table.narrow(0, 0, 1), patches);
    }

    /** Class token and patches (B,h*w,D), with positions. */
    static Tensor embed(Parameters w, String prefix, Tensor patches) {
        Tensor cls = w.get(prefix + "class_embedding");
        Tensor first = cls.reshape(1, 1, -1).expand(patches.size(0), 1, cls.size(0));
        long grid = Math.round(Math.sqrt(patches.size(1)));
        return Ops.cat(1, first, patches).add(positions(w.get(prefix + "positional_embedding"), grid));
    }
}

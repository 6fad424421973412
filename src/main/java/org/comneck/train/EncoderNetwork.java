package org.comneck.train;

import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;

/** A CLIP-type ViT for training, with learned label embeddings: pixels (B,3,S,S) -> tokens (B,1+n,D) -> class token (B,E). */
final class EncoderNetwork {
    /** ImageNet's, as the teacher's. */
    static final double[] MEAN = {0.485, 0.456, 0.406};

    static final double[] STD = {0.229, 0.224, 0.225};

    /** Cosines are multiplied by this before softmax, as in CLIP. */
    static final double LOGIT_SCALE = 100;

    record Size(int width, int layers, int heads, int patch, int image, int projection, int labels) {
        int tokens() {
            return 1 + (image / patch) * (image / patch);
        }
    }

    private final Size size;
    private final Parameters w;
    private final ScalarType type;

    EncoderNetwork(Size size, Parameters parameters, ScalarType type) {
        this.size = size;
        this.w = parameters;
        this.type = type;
    }

    static Parameters declare(Size size, Parameters w) {
        int width = size.width;
        w.uniform(
                "visual.conv1.weight",
                Math.sqrt(3.0 / (3 * size.patch * size.patch)),
                width,
                3,
                size.patch,
                size.patch);
        w.uniform("visual.class_embedding", 0.5, width);
        w.uniform("visual.positional_embedding", 0.5, size.tokens(), width);
        w.norm("visual.ln_pre", width);
        for (int i = 0; i < size.layers; i++) {
            Transformer.declare(w, "visual.transformer.resblocks." + i, width);
        }
        w.norm("visual.ln_post", width);
        w.uniform("visual.proj", Math.sqrt(3.0 / width), width, size.projection);
        w.uniform("labels.embeddings", Math.sqrt(3.0 / size.projection), size.labels, size.projection);
        return w;
    }

    /** Pixels in [0,1] as the encoder wants them. */
    static Tensor normalize(Tensor pixels) {
        Tensor mean = Ops.of(floats(MEAN), 1, 3, 1, 1);
        Tensor std = Ops.of(floats(STD), 1, 3, 1, 1);
        return pixels.sub(mean).div(std);
    }

    private static float[] floats(double[] values) {
        return new float[] {(float) values[0], (float) values[1], (float) values[2]};
    }

    /** Normalised pixels to the input of block 0. */
    Tensor embed(Tensor normalized) {
        Tensor patches = Ops.wide(Ops.conv(w.get("visual.conv1.weight"), null, normalized.to(type), size.patch, 0))
                .flatten(2, 3)
                .transpose(1, 2);
        return Ops.layerNorm(w, "visual.ln_pre", Transformer.embed(w, "visual.", patches), Transformer.EPSILON);
    }

    /** The first half of block i. */
    Tensor attention(int i, Tensor x) {
        return Transformer.attention(w, "visual.transformer.resblocks." + i, x, size.heads, type);
    }

    /** The second half of block i. */
    Tensor mlp(int i, Tensor x) {
        return Transformer.mlp(w, "visual.transformer.resblocks." + i, x, false, type);
    }

    Tensor block(int i, Tensor x) {
        return Transformer.block(w, "visual.transformer.resblocks." + i, x, size.heads, false, type);
    }

    /**
     * Runs blocks.
     *
     * @return all states: the input of block {@code entry}, then each block's output
     */
    Tensor[] states(Tensor x, int entry) {
        return states(x, entry, size.layers);
    }

    /** {@link #states(Tensor,int)} of the blocks before {@code end}. */
    Tensor[] states(Tensor x, int entry, int end) {
        Tensor[] states = new Tensor[end - entry + 1];
        states[0] = x;
        for (int i = entry; i < end; i++) {
            states[i - entry + 1] = block(i, states[i - entry]);
        }
        return states;
    }

    /** The last state's class token, projected, (B,E). */
    Tensor project(Tensor last) {
        return projectTokens(last.select(1, 0));
    }

    /** Tokens (T,D) of the last state, projected, (T,E). */
    Tensor projectTokens(Tensor tokens) {
        return Ops.layerNorm(w, "visual.ln_post", tokens, Transformer.EPSILON).matmul(w.get("visual.proj"));
    }

    /** Cosines with the labels, (B,K). */
    Tensor cosines(Tensor projected) {
        return Ops.unit(projected).matmul(Ops.unit(w.get("labels.embeddings")).transpose(0, 1));
    }

    Tensor logits(Tensor last) {
        return Ops.scaled(cosines(project(last)), LOGIT_SCALE);
    }

    /** Logits of tokens (T,D) of the last state, (T,K). */
    Tensor tokenLogits(Tensor tokens) {
        return Ops.scaled(cosines(projectTokens(tokens)), LOGIT_SCALE);
    }

    Size size() {
        return size;
    }
}

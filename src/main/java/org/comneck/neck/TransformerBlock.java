package org.comneck.neck;

import org.comneck.backend.Activation;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.RunBuilder;
import org.comneck.model.ModelFile;
import org.comneck.model.ModelLayers;
import org.comneck.tensor.ElementType;

/**
 * A pre-norm transformer block on tokens (B,N,D):
 *
 * <pre>
 *   x = x + output(attention(qkv(norm1(x))))
 *   x = x + fc2(activation(fc1(norm2(x))))
 * </pre>
 *
 * In bf16 and f16 the values that only a layer or attention reads are stored so; the running sum x stays f32.
 *
 * @param names names of its tensors
 * @param width D
 * @param heads attention heads
 * @param activation between the two layers of the MLP
 * @param epsilon of both norms
 */
public record TransformerBlock(Names names, int width, int heads, Function activation, float epsilon) {
    /**
     * @param norm1 name without {@code .weight} and {@code .bias}, like those of the other layers
     * @param qkvWeight [3D,D], q then k then v
     * @param qkvBias [3D]
     */
    public record Names(
            String norm1, String qkvWeight, String qkvBias, String output, String norm2, String fc1, String fc2) {
        /** As in OpenAI's CLIP: {@code prefix.attn.in_proj_weight} and so on. */
        public static Names clip(String prefix) {
            return new Names(
                    prefix + ".ln_1",
                    prefix + ".attn.in_proj_weight",
                    prefix + ".attn.in_proj_bias",
                    prefix + ".attn.out_proj",
                    prefix + ".ln_2",
                    prefix + ".mlp.c_fc",
                    prefix + ".mlp.c_proj");
        }

        /** As in timm: {@code prefix.attn.qkv.weight} and so on. */
        public static Names timm(String prefix) {
            return new Names(
                    prefix + ".norm1",
                    prefix + ".attn.qkv.weight",
                    prefix + ".attn.qkv.bias",
                    prefix + ".attn.proj",
                    prefix + ".norm2",
                    prefix + ".mlp.fc1",
                    prefix + ".mlp.fc2");
        }
    }

    /**
     * Records the block.
     *
     * @param layers where its weights come from
     * @param x F32, height 1, N tokens, D channels; not released
     * @return a new buffer of x's shape
     */
    public Activation record(RunBuilder run, ModelLayers layers, Precision precision, Activation x) {
        ModelFile model = layers.model();
        ElementType inner = precision.operands();
        Layer qkv = layers.layer(
                names.qkvWeight,
                model.tensor(names.qkvWeight, 3L * width, width),
                model.has(names.qkvBias) ? names.qkvBias : null,
                Convolution.linear(width, 3 * width),
                precision);
        Layer output = linear(layers, names.output, width, precision);
        Layer fc1 = linear(layers, names.fc1, width, precision);
        int hidden = fc1.geometry().outputChannels();
        Layer fc2 = linear(layers, names.fc2, hidden, precision);

        Activation normed = like(run, x, inner, width);
        norm(run, model, names.norm1, x, normed);
        Activation projected = like(run, x, inner, 3 * width);
        run.convolution(qkv, normed, null, Function.NONE, projected);
        run.release(normed);
        Activation attended = like(run, x, inner, width);
        run.attention(projected, heads, attended);
        run.release(projected);
        Activation middle = like(run, x, ElementType.F32, width);
        run.convolution(output, attended, x, Function.NONE, middle);
        run.release(attended);

        normed = like(run, x, inner, width);
        norm(run, model, names.norm2, middle, normed);
        Activation wide = like(run, x, inner, hidden);
        run.convolution(fc1, normed, null, activation, wide);
        run.release(normed);
        Activation out = like(run, x, ElementType.F32, width);
        run.convolution(fc2, wide, middle, Function.NONE, out);
        run.release(wide);
        run.release(middle);
        return out;
    }

    private void norm(RunBuilder run, ModelFile model, String name, Activation x, Activation out) {
        run.layerNorm(x, model.tensor(name + ".weight", width), model.tensor(name + ".bias", width), epsilon, out);
    }

    private static Layer linear(ModelLayers layers, String name, int in, Precision precision) {
        return layers.layer(name, false, out -> Convolution.linear(in, out), precision);
    }

    private static Activation like(RunBuilder run, Activation x, ElementType type, int channels) {
        return run.buffer(type, Grid.FULL, x.images(), x.height(), x.width(), channels);
    }
}

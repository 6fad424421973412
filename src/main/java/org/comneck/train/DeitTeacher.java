package org.comneck.train;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.comneck.UsageException;
import org.comneck.model.SafetensorsFile;

/** A timm-type ViT (DeiT) whose states and logits the encoder is taught; its position table is brought to the grid of the pixels. */
final class DeitTeacher {
    private static final double EPSILON = 1e-6;

    /**
     * @param states input of block 0, then each block's output, (B,N,D)
     * @param middles states between attention and MLP of each block
     * @param logits (B,K)
     */
    record Answer(Tensor[] states, Tensor[] middles, Tensor logits) {}

    private final Map<String, Tensor> w = new HashMap<>();
    private final ScalarType type;
    private final int heads;
    private int layers;

    DeitTeacher(Path file, int heads, ScalarType type) {
        this.type = type;
        this.heads = heads;
        try (SafetensorsFile source = SafetensorsFile.open(file)) {
            source.tensors()
                    .forEach((name, tensor) ->
                            w.put(name, Ops.of(tensor.toFloats(), tensor.shape().toArray())));
        }
        while (w.containsKey("blocks." + layers + ".norm1.weight")) {
            layers++;
        }
        if (layers == 0 || !w.containsKey("head.weight")) {
            throw new UsageException(file + ": is no timm-type ViT with a head");
        }
        for (Map.Entry<String, Tensor> entry : w.entrySet()) {
            String name = entry.getKey();
            if (name.startsWith("blocks.") && !name.contains("norm")) {
                entry.setValue(entry.getValue().to(type));
            }
        }
    }

    int layers() {
        return layers;
    }

    /** Runs on normalised pixels (B,3,S,S); call it without gradients. */
    Answer run(Tensor normalized) {
        return run(normalized, layers);
    }

    /** {@link #run(Tensor)} of the first blocks only; later states and, without the last, logits are null. */
    Answer run(Tensor normalized, int end) {
        Tensor weight = w.get("patch_embed.proj.weight");
        Tensor patches = Ops.conv(weight, w.get("patch_embed.proj.bias"), normalized, (int) weight.size(2), 0)
                .flatten(2, 3)
                .transpose(1, 2);
        long batch = patches.size(0);
        Tensor x = Ops.cat(1, w.get("cls_token").expand(batch, 1, patches.size(2)), patches)
                .add(Transformer.positions(w.get("pos_embed").squeeze(0), Math.round(Math.sqrt(patches.size(1)))));
        Tensor[] states = new Tensor[layers + 1];
        Tensor[] middles = new Tensor[layers];
        states[0] = x;
        for (int i = 0; i < end; i++) {
            String p = "blocks." + i;
            Tensor qkv = linear(p + ".attn.qkv", norm(p + ".norm1", x).to(type));
            x = x.add(linear(p + ".attn.proj", Ops.attention(qkv, heads)).to(Ops.F32));
            middles[i] = x;
            Tensor hidden =
                    torch.gelu(linear(p + ".mlp.fc1", norm(p + ".norm2", x).to(type)));
            x = x.add(linear(p + ".mlp.fc2", hidden).to(Ops.F32));
            states[i + 1] = x;
        }
        return new Answer(states, middles, end == layers ? head(x.select(1, 0)) : null);
    }

    /** The last state's class token behind the last norm, (B,D). */
    Tensor classToken(Tensor last) {
        return norm("norm", last.select(1, 0));
    }

    /** Logits of tokens (...,D) of the last state. Only class tokens were trained for it, but it is a function of any token. */
    Tensor head(Tensor tokens) {
        return linear("head", norm("norm", tokens));
    }

    private Tensor norm(String p, Tensor x) {
        Tensor weight = w.get(p + ".weight");
        return torch.layer_norm(
                x,
                new long[] {weight.size(0)},
                new TensorOptional(weight),
                new TensorOptional(w.get(p + ".bias")),
                EPSILON,
                false);
    }

    private Tensor linear(String p, Tensor x) {
        return torch.linear(x, w.get(p + ".weight"), new TensorOptional(w.get(p + ".bias")));
    }
}

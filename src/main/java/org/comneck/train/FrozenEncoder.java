package org.comneck.train;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.model.Manifest;

/**
 * Any encoder that the engine runs, not trained: pixels (B,3,S,S) or a neck's tokens -> states (B,1+n,D) -> class token (B,E). CLIP's and timm's
 * blocks are the same but for names, epsilon and activation; timm has no norm before its blocks. Gradients pass through it to its input.
 */
final class FrozenEncoder {
    private static final String BLOCK = "visual.transformer.resblocks.";
    private static final Map<String, String> TIMM = Map.of(
            "visual.trunk.cls_token", "visual.class_embedding",
            "visual.trunk.pos_embed", "visual.positional_embedding",
            "visual.trunk.patch_embed.proj.", "visual.conv1.",
            "visual.trunk.norm.", "visual.ln_post.",
            "visual.trunk.head.", "visual.head.");
    private static final Map<String, String> TIMM_BLOCK = Map.of(
            "norm1.", "ln_1.",
            "norm2.", "ln_2.",
            "attn.qkv.", "attn.in_proj_",
            "attn.proj.", "attn.out_proj.",
            "mlp.fc1.", "mlp.c_fc.",
            "mlp.fc2.", "mlp.c_proj.");

    private final Manifest.Encoder spec;
    private final ScalarType type;
    private final Map<String, Tensor> tensors = new LinkedHashMap<>();
    private final Parameters w;

    /**
     * The encoder among these tensors.
     *
     * @param source named in errors
     * @param type arithmetic of the blocks, whose weights are kept in it
     */
    FrozenEncoder(
            String source, Manifest.Encoder spec, Map<String, org.comneck.tensor.Tensor> stored, ScalarType type) {
        this.spec = spec;
        this.type = type;
        stored.forEach((name, tensor) -> {
            if (name.startsWith("visual.")) {
                String known = clipName(name);
                Tensor value = Ops.of(tensor.toFloats(), tensor.shape().toArray());
                boolean inBlock = known.startsWith(BLOCK) && !known.contains(".ln_");
                tensors.put(known, inBlock || type == ScalarType.Double ? value.to(type) : value);
            }
        });
        if (!tensors.containsKey("visual.class_embedding")) {
            throw new UsageException(source + ": the encoder has no class token, which the neck stands in for");
        }
        tensors.computeIfPresent("visual.class_embedding", (name, x) -> x.reshape(-1));
        tensors.computeIfPresent("visual.positional_embedding", (name, x) -> x.reshape(x.size(-2), x.size(-1)));
        for (int i = 0; i < spec.layers(); i++) {
            if (!tensors.containsKey(BLOCK + i + ".attn.in_proj_weight")) {
                throw new DamagedDataException(source + ": block " + i + " of the encoder is missing");
            }
            tensors.computeIfAbsent(
                    BLOCK + i + ".attn.in_proj_bias",
                    name -> Ops.zeros(3L * spec.width()).to(type));
        }
        this.w = Parameters.frozen(tensors);
    }

    /** CLIP's name for what timm calls otherwise. */
    static String clipName(String name) {
        for (Map.Entry<String, String> entry : TIMM.entrySet()) {
            if (name.startsWith(entry.getKey())) {
                return entry.getValue() + name.substring(entry.getKey().length());
            }
        }
        String blocks = "visual.trunk.blocks.";
        if (!name.startsWith(blocks)) {
            return name;
        }
        String rest = name.substring(blocks.length());
        for (Map.Entry<String, String> entry : TIMM_BLOCK.entrySet()) {
            rest = rest.replace("." + entry.getKey(), "." + entry.getValue());
        }
        return BLOCK + rest;
    }

    /** Pixels (B,3,S,S) in [0,1] to the input of block 0, with as many patches as {@code grid} squared; pixels are resized where needed. */
    Tensor embed(Tensor pixels, int grid) {
        Tensor x = Transformer.embed(w, "visual.", patches(pixels, grid));
        return tensors.containsKey("visual.ln_pre.weight") ? Ops.layerNorm(w, "visual.ln_pre", x, spec.epsilon()) : x;
    }

    /** Embedded patches (B,grid*grid,D) of pixels, before class token and positions. */
    Tensor patches(Tensor pixels, int grid) {
        long side = (long) grid * spec.patch();
        Tensor resized = pixels.size(2) == side
                ? pixels
                : torch.upsample_bicubic2d(pixels, new long[] {side, side}, false)
                        .clamp_min(Ops.scalar(0))
                        .clamp_max(Ops.scalar(1));
        Tensor normalized = resized.sub(channels(spec.mean())).div(channels(spec.std()));
        // The sum over a patch is not worth less than F32.
        return Ops.conv(w.get("visual.conv1.weight"), tensors.get("visual.conv1.bias"), normalized, spec.patch(), 0)
                .flatten(2, 3)
                .transpose(1, 2);
    }

    private static Tensor channels(List<Double> values) {
        return Ops.of(
                new float[] {
                    values.get(0).floatValue(),
                    values.get(1).floatValue(),
                    values.get(2).floatValue()
                },
                1,
                3,
                1,
                1);
    }

    Tensor block(int i, Tensor x) {
        boolean quick = spec.activation().equals("quick_gelu");
        return Transformer.block(w, BLOCK + i, x, spec.heads(), quick, spec.epsilon(), type);
    }

    /** The input of block {@code entry}, then the outputs of that block and those after it, before {@code end}. */
    Tensor[] states(Tensor x, int entry, int end) {
        Tensor[] states = new Tensor[end - entry + 1];
        states[0] = x;
        for (int i = entry; i < end; i++) {
            states[i - entry + 1] = block(i, states[i - entry]);
        }
        return states;
    }

    /** Class token of the last state (B,1+n,D), through the final norm (so many times) and the projection where there is one: (B,E). */
    Tensor project(Tensor last, int norms) {
        Tensor x = last.select(1, 0);
        for (int i = 0; i < norms; i++) {
            x = Ops.layerNorm(w, "visual.ln_post", x, spec.epsilon());
        }
        Tensor projection = tensors.get("visual.proj");
        return projection == null ? x : x.matmul(projection);
    }

    /** Whether there is a classification head. */
    boolean hasHead() {
        return tensors.containsKey("visual.head.weight");
    }

    boolean hasProjection() {
        return tensors.containsKey("visual.proj");
    }

    /** Logits of the classification head, of class tokens (B,D) after the final norm. */
    Tensor head(Tensor cls) {
        return Ops.linear(w, "visual.head.weight", "visual.head.bias", cls);
    }

    /** Number of blocks. */
    int layers() {
        return spec.layers();
    }

    int width() {
        return spec.width();
    }
}

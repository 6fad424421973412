package org.comneck.model;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;

/**
 * Key families of visual encoders, brought to the names of the model file: OpenAI's {@code visual.*} for CLIP-type towers, timm's behind
 * {@code visual.trunk.} for plain vision transformers.
 */
final class EncoderKeys {
    static final List<Double> IMAGENET_MEAN = List.of(0.485, 0.456, 0.406);
    static final List<Double> IMAGENET_STD = List.of(0.229, 0.224, 0.225);

    /**
     * An encoder as found.
     *
     * @param family for people
     * @param type {@code clip} or {@code timm}
     * @param tensors by the model file's names
     * @param surplus names under the tower that no rule knows
     * @param activation where the files say it, else null
     * @param epsilon of LayerNorm
     * @param heads where the files say it, else 0
     * @param assumed what the files do not say and was taken as usual for the family, a line each
     */
    record Encoder(
            String family,
            String type,
            Map<String, TensorSource> tensors,
            List<String> surplus,
            String activation,
            double epsilon,
            int heads,
            List<Double> mean,
            List<Double> std,
            List<String> assumed) {}

    private EncoderKeys() {}

    /**
     * Finds the visual encoder in a set of weights.
     *
     * @throws UsageException when there is none of a known family
     */
    static Encoder find(WeightFiles weights) {
        Optional<WeightFiles.Found> found = weights.find("visual.conv1.weight");
        if (found.isPresent()) {
            return openAi(weights, found.get());
        }
        found = weights.find("embeddings.patch_embedding.weight");
        if (found.isPresent()) {
            return huggingFace(weights, found.get());
        }
        found = weights.find("visual.trunk.patch_embed.proj.weight");
        if (found.isPresent()) {
            return timm(weights, found.get(), "visual.trunk.");
        }
        found = weights.find("patch_embed.proj.weight");
        if (found.isPresent()) {
            return timm(weights, found.get(), "");
        }
        throw new UsageException(weights.path()
                + " holds no visual encoder of a known family (OpenAI CLIP, open_clip, Hugging Face CLIP,"
                + " LLaVA vision tower, timm ViT): " + weights.examples());
    }

    private static Encoder openAi(WeightFiles weights, WeightFiles.Found found) {
        Map<String, TensorSource> tensors = new LinkedHashMap<>();
        List<String> surplus = new ArrayList<>();
        found.tensors().forEach((name, tensor) -> {
            if (name.startsWith("visual.")) {
                if (name.startsWith("visual.transformer.resblocks.")
                        || name.startsWith("visual.ln_")
                        || List.of(
                                        "visual.conv1.weight",
                                        "visual.class_embedding",
                                        "visual.positional_embedding",
                                        "visual.proj")
                                .contains(name)) {
                    tensors.put(name, tensor);
                } else {
                    surplus.add(name);
                }
            }
        });
        Optional<Manifest.Encoder> own = weights.manifest().map(Manifest::encoder);
        if (own.isPresent()) {
            Manifest.Encoder known = own.get();
            return new Encoder(
                    "ComNeck model file",
                    "clip",
                    tensors,
                    surplus,
                    known.activation(),
                    known.epsilon(),
                    known.heads(),
                    known.mean(),
                    known.std(),
                    List.of());
        }
        JsonNode config = weights.beside("open_clip_config.json");
        JsonNode model = config.path("model_cfg");
        String activation = null;
        if (weights.container() == Checkpoint.Container.TORCHSCRIPT) {
            activation = "quick_gelu";
        } else if (model.isObject()) {
            activation = model.path("quick_gelu").asBoolean(false) ? "quick_gelu" : "gelu";
        }
        return new Encoder(
                model.isObject() ? "open_clip" : "OpenAI CLIP",
                "clip",
                tensors,
                surplus,
                activation,
                1e-5,
                0,
                channels(config.path("preprocess_cfg").path("mean"), SeededModel.CLIP_MEAN),
                channels(config.path("preprocess_cfg").path("std"), SeededModel.CLIP_STD),
                List.of());
    }

    private static Encoder huggingFace(WeightFiles weights, WeightFiles.Found found) {
        Map<String, TensorSource> in = found.tensors();
        Map<String, TensorSource> tensors = new LinkedHashMap<>();
        List<String> surplus = new ArrayList<>();
        for (Map.Entry<String, TensorSource> entry : in.entrySet()) {
            String name = entry.getKey();
            if (name.equals("embeddings.position_ids")
                    || name.endsWith("k_proj.weight")
                    || name.endsWith("v_proj.weight")) {
                continue;
            }
            if (name.endsWith("k_proj.bias") || name.endsWith("v_proj.bias")) {
                continue;
            }
            if (name.endsWith(".self_attn.q_proj.weight") || name.endsWith(".self_attn.q_proj.bias")) {
                String kind = name.substring(name.lastIndexOf('.') + 1);
                String block = name.substring(0, name.length() - ("self_attn.q_proj." + kind).length());
                TensorSource k = in.get(block + "self_attn.k_proj." + kind);
                TensorSource v = in.get(block + "self_attn.v_proj." + kind);
                String target = huggingFaceName(block + "x");
                if (k == null || v == null || target == null || !sameLayout(entry.getValue(), k, v)) {
                    throw new DamagedDataException(weights.path() + ": '" + found.prefix() + block
                            + "self_attn' needs q_proj, k_proj and v_proj ." + kind
                            + " of one shape and type; they are "
                            + entry.getValue() + ", " + k + ", " + v);
                }
                tensors.put(
                        target.substring(0, target.length() - 1) + "attn.in_proj_" + kind,
                        Reshaped.concatenate(List.of(entry.getValue(), k, v)));
                continue;
            }
            String target = huggingFaceName(name);
            if (target != null) {
                tensors.put(target, entry.getValue());
            } else {
                surplus.add(name);
            }
        }
        // The projection lies beside vision_model, not in it.
        weights.find("visual_projection.weight").ifPresent(root -> {
            TensorSource projection = root.tensors().get("visual_projection.weight");
            if (projection.shape().rank() == 2) {
                tensors.put("visual.proj", Reshaped.transpose(projection));
            }
        });
        JsonNode config = weights.beside("config.json");
        JsonNode vision = config.has("vision_config") ? config.path("vision_config") : config;
        JsonNode pictures = weights.beside("preprocessor_config.json");
        boolean llava = found.prefix().contains("vision_tower");
        return new Encoder(
                llava ? "LLaVA vision tower" : "Hugging Face CLIP",
                "clip",
                tensors,
                surplus,
                vision.path("hidden_act").isTextual()
                        ? vision.path("hidden_act").asText()
                        : null,
                vision.path("layer_norm_eps").asDouble(1e-5),
                vision.path("num_attention_heads").asInt(0),
                channels(pictures.path("image_mean"), SeededModel.CLIP_MEAN),
                channels(pictures.path("image_std"), SeededModel.CLIP_STD),
                List.of());
    }

    private static boolean sameLayout(TensorSource a, TensorSource b, TensorSource c) {
        return a.shape().equals(b.shape())
                && a.shape().equals(c.shape())
                && a.type() == b.type()
                && a.type() == c.type()
                && a.shape().rank() > 0;
    }

    private static final Map<String, String> HUGGING_FACE = Map.of(
            "embeddings.class_embedding", "visual.class_embedding",
            "embeddings.patch_embedding.weight", "visual.conv1.weight",
            "embeddings.position_embedding.weight", "visual.positional_embedding",
            "pre_layrnorm.weight", "visual.ln_pre.weight", // the typo is in every published checkpoint
            "pre_layrnorm.bias", "visual.ln_pre.bias",
            "pre_layernorm.weight", "visual.ln_pre.weight",
            "pre_layernorm.bias", "visual.ln_pre.bias",
            "post_layernorm.weight", "visual.ln_post.weight",
            "post_layernorm.bias", "visual.ln_post.bias");

    private static final Map<String, String> HUGGING_FACE_BLOCK = Map.of(
            "self_attn.out_proj", "attn.out_proj",
            "layer_norm1", "ln_1",
            "layer_norm2", "ln_2",
            "mlp.fc1", "mlp.c_fc",
            "mlp.fc2", "mlp.c_proj");

    private static String huggingFaceName(String name) {
        String direct = HUGGING_FACE.get(name);
        if (direct != null) {
            return direct;
        }
        if (!name.startsWith("encoder.layers.")) {
            return null;
        }
        String[] parts = name.substring("encoder.layers.".length()).split("\\.", 2);
        if (parts.length < 2 || !parts[0].matches("[0-9]{1,4}")) {
            return null;
        }
        String block = "visual.transformer.resblocks." + parts[0] + ".";
        if (parts[1].equals("x")) {
            return block + "x";
        }
        int dot = parts[1].lastIndexOf('.');
        String layer = dot < 0 ? null : HUGGING_FACE_BLOCK.get(parts[1].substring(0, dot));
        return layer == null ? null : block + layer + parts[1].substring(dot);
    }

    private static Encoder timm(WeightFiles weights, WeightFiles.Found found, String trunk) {
        Map<String, TensorSource> tensors = new LinkedHashMap<>();
        List<String> surplus = new ArrayList<>();
        found.tensors().forEach((name, tensor) -> {
            if (name.startsWith(trunk)) {
                String inner = name.substring(trunk.length());
                if (inner.matches("(cls_token|pos_embed|(patch_embed\\.proj|norm|head)\\.(weight|bias)"
                        + "|blocks\\.[0-9]{1,4}\\.(norm[12]|attn\\.(qkv|proj)|mlp\\.fc[12])\\.(weight|bias))")) {
                    tensors.put("visual.trunk." + inner, tensor);
                } else {
                    surplus.add(name);
                }
            } else if (name.equals("visual.head.proj.weight") && tensor.shape().rank() == 2) {
                tensors.put("visual.proj", Reshaped.transpose(tensor));
            } else if (name.startsWith("visual.")) {
                if (name.equals("visual.proj")) {
                    tensors.put(name, tensor);
                } else {
                    surplus.add(name);
                }
            }
        });
        Optional<Manifest.Encoder> own = weights.manifest().map(Manifest::encoder);
        if (own.isPresent()) {
            Manifest.Encoder known = own.get();
            return new Encoder(
                    "ComNeck model file",
                    "timm",
                    tensors,
                    surplus,
                    known.activation(),
                    known.epsilon(),
                    known.heads(),
                    known.mean(),
                    known.std(),
                    List.of());
        }
        JsonNode pictures = weights.beside("config.json").path("pretrained_cfg");
        return new Encoder(
                trunk.isEmpty() ? "timm ViT" : "open_clip with a timm ViT",
                "timm",
                tensors,
                surplus,
                "gelu",
                1e-6,
                0,
                channels(pictures.path("mean"), trunk.isEmpty() ? IMAGENET_MEAN : SeededModel.CLIP_MEAN),
                channels(pictures.path("std"), trunk.isEmpty() ? IMAGENET_STD : SeededModel.CLIP_STD),
                pictures.has("mean")
                        ? List.of()
                        : List.of("mean and deviation of the pixels are taken as "
                                + (trunk.isEmpty() ? "ImageNet's" : "CLIP's")
                                + ": the encoder's file does not say them"));
    }

    private static List<Double> channels(JsonNode node, List<Double> otherwise) {
        if (!node.isArray() || node.size() != 3) {
            return otherwise;
        }
        return List.of(
                node.get(0).asDouble(), node.get(1).asDouble(), node.get(2).asDouble());
    }
}

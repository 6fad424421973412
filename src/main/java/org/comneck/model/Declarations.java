package org.comneck.model;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.comneck.tensor.Shape;

/**
 * Every tensor of the published networks: name, shape, and the mean and spread that the parity fixtures give it. What a seeded model holds,
 * and what an imported checkpoint must hold.
 */
final class Declarations {
    final Map<String, TensorSource> tensors = new LinkedHashMap<>();

    void declare(String name, double mean, double spread, long... sizes) {
        tensors.put(name, SeededWeights.tensor(name, 0, Shape.of(sizes), mean, spread));
    }

    void conv(String name, int out, int in, int kernel, double gain) {
        conv(name, out, in, kernel, gain, 0.1, 0);
    }

    void conv(String name, int out, int in, int kernel, double gain, double bias, double biasMean) {
        declare(name + ".weight", 0, gain * Math.sqrt(3.0 / ((double) in * kernel * kernel)), out, in, kernel, kernel);
        declare(name + ".bias", biasMean, bias, out);
    }

    void deconv(String name, int in, int out, double gain) {
        declare(name + ".weight", 0, gain * 2 * Math.sqrt(3.0 / (in * 25.0)), in, out, 5, 5);
        declare(name + ".bias", 0, 0.1, out);
    }

    void linear(String name, int out, int in) {
        declare(name + ".weight", 0, Math.sqrt(3.0 / in), out, in);
        declare(name + ".bias", 0, 0.05, out);
    }

    void norm(String name, int width) {
        declare(name + ".weight", 1, 0.2, width);
        declare(name + ".bias", 0, 0.1, width);
    }

    void bottleneck(String name, int channels) {
        conv(name + ".conv1", channels / 2, channels, 1, 1.3);
        conv(name + ".conv2", channels / 2, channels / 2, 3, 1.3);
        conv(name + ".conv3", channels, channels / 2, 1, 0.5);
    }

    void attention(String name, int channels) {
        for (String branch : List.of("conv_a", "conv_b")) {
            for (int i = 0; i < 3; i++) {
                String unit = name + "." + branch + "." + i + ".conv.";
                conv(unit + 0, channels / 2, channels, 1, 1.3);
                conv(unit + 2, channels / 2, channels / 2, 3, 1.3);
                conv(unit + 4, channels, channels / 2, 1, 0.5);
            }
        }
        conv(name + ".conv_b.3", channels, channels, 1, 1);
    }

    /** hidden: channels of the two hidden layers of cc_transforms, then of ParamAggregation. */
    void elic(Manifest.Codec codec, int[] hidden) {
        int n = codec.n();
        int m = codec.m();
        conv("g_a.0", n, 3, 5, 3);
        for (int i : new int[] {1, 2, 3, 5, 6, 7, 10, 11, 12}) {
            bottleneck("g_a." + i, n);
        }
        conv("g_a.4", n, n, 5, 1);
        attention("g_a.8", n);
        conv("g_a.9", n, n, 5, 1);
        conv("g_a.13", m, n, 5, 0.4);
        attention("g_a.14", m);
        attention("g_s.0", m);
        deconv("g_s.1", m, n, 1);
        for (int i : new int[] {2, 3, 4, 7, 8, 9, 11, 12, 13}) {
            bottleneck("g_s." + i, n);
        }
        deconv("g_s.5", n, n, 1);
        attention("g_s.6", n);
        deconv("g_s.10", n, n, 1);
        deconv("g_s.14", n, 3, 0.05);
        conv("h_a.0", n, m, 3, 1);
        conv("h_a.2", n, n, 5, 1.4);
        conv("h_a.4", n, n, 5, 2);
        deconv("h_s.0", n, n, 1);
        deconv("h_s.2", n, n * 3 / 2, 1.4);
        conv("h_s.4", 2 * m, n * 3 / 2, 3, 0.7);
        List<Integer> slices = codec.slices();
        for (int i = 0; i < slices.size(); i++) {
            int channels = slices.get(i);
            if (i > 0) {
                int in = slices.getFirst() + (i > 1 ? slices.get(i - 1) : 0);
                String transform = "cc_transforms." + (i - 1) + ".";
                conv(transform + 0, hidden[0], in, 5, 1);
                conv(transform + 2, hidden[1], hidden[0], 5, 1.4);
                conv(transform + 4, 2 * channels, hidden[1], 5, 1.4);
            }
            conv("context_prediction." + i, 2 * channels, channels, 5, 1);
            String aggregation = "ParamAggregation." + i + ".";
            conv(aggregation + 0, hidden[2], 2 * m + (i > 0 ? 4 : 2) * channels, 1, 1);
            conv(aggregation + 2, hidden[3], hidden[2], 1, 1.4);
            conv(aggregation + 4, 2 * channels, hidden[3], 1, 0.6, 0.5, 0.4);
        }
        factorized("entropy_bottleneck", n);
    }

    void factorized(String name, int channels) {
        int[] filters = {1, 3, 3, 3, 3, 1};
        double scale = Math.pow(10, 1.0 / 5);
        for (int i = 0; i < 5; i++) {
            int in = filters[i];
            int out = filters[i + 1];
            declare(name + "._matrix" + i, Math.log(Math.expm1(1 / scale / out)), 0.2, channels, out, in);
            declare(name + "._bias" + i, 0, 0.5, channels, out, 1);
            if (i < 4) {
                declare(name + "._factor" + i, 0, 0.3, channels, out, 1);
            }
        }
        String quantiles = name + ".quantiles";
        tensors.put(
                quantiles,
                SeededWeights.tensor(
                        quantiles, 0, Shape.of(channels, 1, 3), new double[] {-12, 0, 12}, new double[] {3, 0.4, 3}));
    }

    void block(String name, int width) {
        declare(name + ".attn.in_proj_weight", 0, 1.5 * Math.sqrt(3.0 / width), 3L * width, width);
        declare(name + ".attn.in_proj_bias", 0, 0.05, 3L * width);
        linear(name + ".attn.out_proj", width, width);
        norm(name + ".ln_1", width);
        norm(name + ".ln_2", width);
        linear(name + ".mlp.c_fc", 4 * width, width);
        linear(name + ".mlp.c_proj", width, 4 * width);
    }

    void neck(int in, int width, int tokens, int blocks) {
        linear("trans_latent_dim", width, in);
        declare("class_embedding", 0, Math.pow(width, -0.5) * 3, width);
        declare("positional_embedding", 0, Math.pow(width, -0.5) * 3, tokens, width);
        norm("ln_pre", width);
        for (int i = 0; i < blocks; i++) {
            block("transformer.resblocks." + i, width);
        }
    }

    void clip(int width, int layers, int tokens, int patch, int projection) {
        declare("visual.conv1.weight", 0, Math.sqrt(3.0 / (3 * patch * patch)), width, 3, patch, patch);
        declare("visual.class_embedding", 0, Math.pow(width, -0.5) * 3, width);
        declare("visual.positional_embedding", 0, Math.pow(width, -0.5) * 3, tokens, width);
        norm("visual.ln_pre", width);
        norm("visual.ln_post", width);
        for (int i = 0; i < layers; i++) {
            block("visual.transformer.resblocks." + i, width);
        }
        if (projection > 0) {
            declare("visual.proj", 0, Math.sqrt(3.0 / width), width, projection);
        }
    }

    /** A timm ViT behind {@code visual.trunk.}; its means and spreads are no fixture's. classes and projection may be 0. */
    void timm(int width, int layers, int tokens, int patch, boolean classToken, int classes, int projection) {
        if (classToken) {
            declare("visual.trunk.cls_token", 0, 0.1, 1, 1, width);
        }
        declare("visual.trunk.pos_embed", 0, 0.1, 1, tokens, width);
        conv("visual.trunk.patch_embed.proj", width, 3, patch, 1);
        for (int i = 0; i < layers; i++) {
            String block = "visual.trunk.blocks." + i + ".";
            norm(block + "norm1", width);
            norm(block + "norm2", width);
            linear(block + "attn.qkv", 3 * width, width);
            linear(block + "attn.proj", width, width);
            linear(block + "mlp.fc1", 4 * width, width);
            linear(block + "mlp.fc2", width, 4 * width);
        }
        norm("visual.trunk.norm", width);
        if (classes > 0) {
            linear("visual.trunk.head", classes, width);
        }
        if (projection > 0) {
            declare("visual.proj", 0, Math.sqrt(3.0 / width), width, projection);
        }
    }
}

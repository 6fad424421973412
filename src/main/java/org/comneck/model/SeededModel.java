package org.comneck.model;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.comneck.UsageException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * Complete models made from names alone ({@link SeededWeights}): the full-size pipeline for parity tests and benchmarks, and a tiny one of
 * the same structure for quick tests. Their tokens mean nothing; their activations have healthy sizes, because every weight's spread
 * follows from its fan-in.
 */
public final class SeededModel {
    /** ELIC N=192 M=320, neck 320 to 1024, CLIP ViT-L/14: every value equal to the parity fixtures'. */
    public static final String FULL = "full";

    /** The same networks a thousand times smaller, on 64x64 pictures, with two qualities and eight labels. */
    public static final String TINY = "tiny";

    /** Names that {@link #named} knows. */
    public static final List<String> NAMES = List.of(FULL, TINY);

    private static final double SQRT3 = Math.sqrt(3);

    /** Mean of CLIP's training pictures, RGB in [0,1]. */
    static final List<Double> CLIP_MEAN = List.of(0.48145466, 0.4578275, 0.40821073);

    /** Standard deviation of CLIP's training pictures. */
    static final List<Double> CLIP_STD = List.of(0.26862954, 0.26130258, 0.27577711);

    private final Manifest manifest;
    private final Map<String, TensorSource> tensors;

    private SeededModel(Manifest manifest, Map<String, TensorSource> tensors) {
        this.manifest = manifest;
        this.tensors = tensors;
    }

    /**
     * A model by name.
     *
     * @throws UsageException when the name is not among {@link #NAMES}
     */
    public static SeededModel named(String name) {
        return switch (name) {
            case FULL ->
                build(
                        new Manifest(
                                "seeded-full",
                                Manifest.PROFILE,
                                new Manifest.Codec("elic", 192, 320, List.of(16, 16, 32, 64, 192)),
                                new Manifest.Preprocessing(256, "bicubic"),
                                new Manifest.Neck(2, 16),
                                new Manifest.Encoder(
                                        "clip", 1024, 24, 16, 14, 224, "quick_gelu", 1e-5, CLIP_MEAN, CLIP_STD, 768),
                                List.of(new Manifest.Quality("seeded", 0)),
                                List.of(),
                                new Manifest.Tokens(-2, "patches")),
                        new int[] {224, 128, 640, 512});
            case TINY ->
                build(
                        new Manifest(
                                "seeded-tiny",
                                Manifest.PROFILE,
                                new Manifest.Codec("elic", 16, 32, List.of(2, 2, 4, 8, 16)),
                                new Manifest.Preprocessing(64, "bicubic"),
                                new Manifest.Neck(1, 2),
                                new Manifest.Encoder(
                                        "clip", 32, 3, 2, 16, 64, "quick_gelu", 1e-5, CLIP_MEAN, CLIP_STD, 24),
                                List.of(new Manifest.Quality("low", 0.004), new Manifest.Quality("high", 0.016)),
                                labels(8),
                                new Manifest.Tokens(-2, "patches")),
                        new int[] {24, 16, 32, 24});
            default ->
                throw new UsageException("no seeded model '" + name + "'; there are " + String.join(", ", NAMES));
        };
    }

    private static List<Manifest.Label> labels(int count) {
        List<Manifest.Label> labels = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            labels.add(new Manifest.Label("s%08d".formatted(i), "seeded class " + i));
        }
        return labels;
    }

    public Manifest manifest() {
        return manifest;
    }

    /** All tensors of the model file. */
    public Map<String, TensorSource> tensors() {
        return Collections.unmodifiableMap(tensors);
    }

    /** Writes the model file: 1.4 GB for {@link #FULL}. */
    public void write(Path target, Progress progress) {
        ModelWriter writer = ModelWriter.of(manifest);
        tensors.forEach(writer::add);
        writer.write(target, progress);
    }

    /** The model in memory. */
    public ModelFile inMemory() {
        return ModelFile.inMemory(manifest, tensors);
    }

    private static SeededModel build(Manifest manifest, int[] hidden) {
        Declarations codec = new Declarations();
        codec.elic(manifest.codec(), hidden);
        Map<String, TensorSource> tensors = new LinkedHashMap<>(codec.tensors);
        tensors.keySet().removeIf(name -> name.startsWith("entropy_bottleneck."));
        tensors.putAll(EntropyTensors.of(codec.tensors));
        Declarations rest = new Declarations();
        Manifest.Encoder encoder = manifest.encoder();
        int cells = manifest.preprocessing().size() / 16;
        rest.neck(manifest.codec().m(), encoder.width(), cells * cells + 1);
        rest.clip(
                encoder.width(),
                encoder.layers(),
                encoder.grid() * encoder.grid() + 1,
                encoder.patch(),
                encoder.projection());
        tensors.putAll(rest.tensors);
        int levels = manifest.qualities().size();
        if (levels > 1) {
            gains(tensors, levels, manifest.codec().m());
        }
        int classes = manifest.labels().size();
        if (classes > 0) {
            tensors.put("labels.embeddings", labelEmbeddings(classes, encoder.projection()));
        }
        return new SeededModel(manifest, tensors);
    }

    /** Gains that grow by quality and differ a little by channel; inverses are their reciprocals. */
    private static void gains(Map<String, TensorSource> tensors, int levels, int m) {
        float[] gain = new float[levels * m];
        float[] inverse = new float[levels * m];
        for (int q = 0; q < levels; q++) {
            for (int c = 0; c < m; c++) {
                gain[q * m + c] = (float) Math.scalb(1 + (c % 3) / 4.0, q);
                inverse[q * m + c] = 1 / gain[q * m + c];
            }
        }
        tensors.put("gain.y", TensorSource.of(Tensor.of(gain, levels, m)));
        tensors.put("gain.y_inverse", TensorSource.of(Tensor.of(inverse, levels, m)));
    }

    private static TensorSource labelEmbeddings(int classes, int width) {
        float[] values = SeededWeights.tensor(
                        "labels.embeddings", 0, Shape.of(classes, width), 0, SQRT3 / Math.sqrt(width))
                .toTensor()
                .toFloats();
        short[] halves = new short[values.length];
        for (int i = 0; i < values.length; i++) {
            halves[i] = Float.floatToFloat16(values[i]);
        }
        return TensorSource.of(new Tensor(ElementType.F16, Shape.of(classes, width), MemorySegment.ofArray(halves)));
    }

    /**
     * Every tensor that training has, by published name, before anything is dropped: what the parity fixtures declare.
     *
     * @return network (elic, neck, clip_vit_l14) to its tensors
     */
    static Map<String, Map<String, TensorSource>> declareFull() {
        Manifest manifest = named(FULL).manifest();
        Declarations elic = new Declarations();
        elic.elic(manifest.codec(), new int[] {224, 128, 640, 512});
        Declarations neck = new Declarations();
        neck.neck(320, 1024, 257);
        Declarations clip = new Declarations();
        clip.clip(1024, 24, 257, 14, 768);
        return Map.of("elic", elic.tensors, "neck", neck.tensors, "clip_vit_l14", clip.tensors);
    }

    /** Names, shapes, means and spreads of the networks, as the parity fixtures declare them. */
    private static final class Declarations {
        final Map<String, TensorSource> tensors = new LinkedHashMap<>();

        void declare(String name, double mean, double spread, long... sizes) {
            tensors.put(name, SeededWeights.tensor(name, 0, Shape.of(sizes), mean, spread));
        }

        void conv(String name, int out, int in, int kernel, double gain) {
            conv(name, out, in, kernel, gain, 0.1, 0);
        }

        void conv(String name, int out, int in, int kernel, double gain, double bias, double biasMean) {
            declare(
                    name + ".weight",
                    0,
                    gain * Math.sqrt(3.0 / ((double) in * kernel * kernel)),
                    out,
                    in,
                    kernel,
                    kernel);
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
                            quantiles, 0, Shape.of(channels, 1, 3), new double[] {-12, 0, 12}, new double[] {3, 0.4, 3
                            }));
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

        void neck(int in, int width, int tokens) {
            linear("trans_latent_dim", width, in);
            declare("class_embedding", 0, Math.pow(width, -0.5) * 3, width);
            declare("positional_embedding", 0, Math.pow(width, -0.5) * 3, tokens, width);
            norm("ln_pre", width);
            block("transformer.resblocks.0", width);
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
            declare("visual.proj", 0, Math.sqrt(3.0 / width), width, projection);
        }
    }
}

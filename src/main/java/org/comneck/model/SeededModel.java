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
    private final int[] hidden;
    private Map<String, TensorSource> tensors;

    private SeededModel(Manifest manifest, int[] hidden) {
        this.manifest = manifest;
        this.hidden = hidden;
    }

    /**
     * A model by name.
     *
     * @throws UsageException when the name is not among {@link #NAMES}
     */
    public static SeededModel named(String name) {
        return switch (name) {
            case FULL ->
                new SeededModel(
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
                new SeededModel(
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
    public synchronized Map<String, TensorSource> tensors() {
        if (tensors == null) {
            tensors = Collections.unmodifiableMap(build(manifest, hidden));
        }
        return tensors;
    }

    /** Writes the model file: 1.4 GB for {@link #FULL}. */
    public void write(Path target, Progress progress) {
        ModelWriter writer = ModelWriter.of(manifest);
        tensors().forEach(writer::add);
        writer.write(target, progress);
    }

    /** The model in memory. */
    public ModelFile inMemory() {
        return ModelFile.inMemory(manifest, tensors());
    }

    private static Map<String, TensorSource> build(Manifest manifest, int[] hidden) {
        Declarations codec = new Declarations();
        codec.elic(manifest.codec(), hidden);
        Map<String, TensorSource> tensors = new LinkedHashMap<>(codec.tensors);
        tensors.keySet().removeIf(name -> name.startsWith("entropy_bottleneck."));
        tensors.putAll(EntropyTensors.of(codec.tensors));
        Declarations rest = new Declarations();
        Manifest.Encoder encoder = manifest.encoder();
        int cells = manifest.preprocessing().size() / 16;
        rest.neck(manifest.codec().m(), encoder.width(), cells * cells + 1, 1);
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
        return tensors;
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
        neck.neck(320, 1024, 257, 1);
        Declarations clip = new Declarations();
        clip.clip(1024, 24, 257, 14, 768);
        return Map.of("elic", elic.tensors, "neck", neck.tensors, "clip_vit_l14", clip.tensors);
    }
}

package org.comneck.model;

import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeSet;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * Builds a model file from checkpoints: finds each part by its key family, takes the architecture from the tensors' shapes, keeps what
 * inference needs, makes the coding tables, and writes through a few megabytes of memory. One model file holds one codec; several rates are
 * several files.
 *
 * <pre>{@code
 * Importer.Result result = new Importer()
 *         .codec(Path.of("d1_1.pth.tar"))          // the neck is its `adapter`
 *         .encoder(Path.of("ViT-L-14.pt"))
 *         .write(Path.of("model.safetensors"), progress);
 * }</pre>
 *
 * Not thread-safe.
 */
public final class Importer {
    /** Number of encoder blocks that the published necks stand in for. */
    public static final int PUBLISHED_ENTRY = 2;

    private static final int MAX_PROBLEMS_SHOWN = 6;

    private Path codecPath;
    private Path encoderPath;
    private Path neckPath;
    private Path projectorPath;
    private Path labelsPath;
    private Path classesPath;
    private String name;
    private String qualityName;
    private double lambda;
    private int entry = -1;
    private String activation;
    private int heads;

    /** Collected while importing. */
    private final ModelParts parts = new ModelParts();

    private final List<String> notes = new ArrayList<>();

    /** An import that has no inputs yet. */
    public Importer() {}

    /**
     * What an import did.
     *
     * @param manifest of the new file
     * @param tensors number of tensors
     * @param bytes size of the file
     * @param identity the model's 16 bytes
     * @param found what was found in which input, a line each, for people
     * @param notes what could not be known and was assumed, a line each, for people
     */
    public record Result(
            Manifest manifest, int tensors, long bytes, byte[] identity, List<String> found, List<String> notes) {}

    private static final class ModelParts {
        final Map<String, TensorSource> tensors = new LinkedHashMap<>();
        final List<String> found = new ArrayList<>();
        Manifest.Codec codec;
        Manifest.Neck neck;
        Manifest.Encoder encoder;
        List<Manifest.Quality> qualities = List.of();
        List<Manifest.Label> labels = List.of();
        int latentGrid;
    }

    /** Checkpoint of the codec, and of the neck when it is saved beside it ({@code adapter}). */
    public Importer codec(Path file) {
        codecPath = file;
        return this;
    }

    /** Checkpoint, folder or index of shards with the visual encoder, and a projector when it is a LLaVA model. */
    public Importer encoder(Path file) {
        encoderPath = file;
        return this;
    }

    /** Checkpoint of the neck, where it is not in the codec's. */
    public Importer neck(Path file) {
        neckPath = file;
        return this;
    }

    /** Checkpoint of a multimodal projector, where it is not in the encoder's. */
    public Importer projector(Path file) {
        projectorPath = file;
        return this;
    }

    /**
     * Classes for {@code classify}.
     *
     * @param embeddings checkpoint with one matrix [classes, projection], or null when the encoder has a classification head
     * @param classes text file, one class a line in the same order: an id, a space, a name
     */
    public Importer labels(Path embeddings, Path classes) {
        labelsPath = embeddings;
        classesPath = classes;
        return this;
    }

    /** Name of the model; made from the file names when not given. */
    public Importer name(String text) {
        name = text;
        return this;
    }

    /** Name and lambda of the codec's one quality; the codec's file name and 0 when not given. */
    public Importer quality(String text, double trainingLambda) {
        qualityName = text;
        lambda = trainingLambda;
        return this;
    }

    /** Encoder block that the neck enters; {@value #PUBLISHED_ENTRY} when not given. */
    public Importer entry(int block) {
        entry = block;
        return this;
    }

    /** {@code quick_gelu} or {@code gelu}, where the files do not say it. */
    public Importer activation(String function) {
        activation = function;
        return this;
    }

    /** Attention heads of the encoder; width / 64 when not given. */
    public Importer heads(int count) {
        heads = count;
        return this;
    }

    /**
     * Reads the inputs and writes the model file.
     *
     * @param target replaced if it is there; left alone when the import fails
     * @param progress told bytes of the inputs hashed and of the output written
     * @throws UsageException when an input is missing or is something else; when the target cannot be written
     * @throws DamagedDataException when an input is damaged, refused, or lacks a tensor: names each with both shapes
     */
    public Result write(Path target, Progress progress) {
        if (codecPath == null && encoderPath == null) {
            throw new UsageException("nothing to import: name a codec, an encoder, or both");
        }
        List<WeightFiles> open = new ArrayList<>();
        try {
            Map<String, WeightFiles> inputs = new LinkedHashMap<>();
            WeightFiles codec = open(codecPath, "codec", inputs, open);
            WeightFiles encoder = open(encoderPath, "encoder", inputs, open);
            WeightFiles neck = open(neckPath, "neck", inputs, open);
            WeightFiles projector = open(projectorPath, "projector", inputs, open);
            WeightFiles labels = open(labelsPath, "labels", inputs, open);
            if (codec != null) {
                importCodec(codec);
            }
            if (encoder != null) {
                importEncoder(encoder);
                importProjector(projector == null ? encoder : projector, projector != null);
            }
            if (neck != null) {
                importNeck(neck, true);
            } else if (codec != null) {
                importNeck(codec, false);
            }
            importLabels(labels);
            return write(target, inputs, progress);
        } finally {
            open.forEach(WeightFiles::close);
        }
    }

    private static WeightFiles open(Path path, String role, Map<String, WeightFiles> inputs, List<WeightFiles> open) {
        if (path == null) {
            return null;
        }
        WeightFiles weights = WeightFiles.open(path);
        open.add(weights);
        inputs.put(role, weights);
        return weights;
    }

    private Result write(Path target, Map<String, WeightFiles> inputs, Progress progress) {
        Manifest draft = new Manifest(
                name != null ? name : defaultName(),
                Manifest.PROFILE,
                parts.codec,
                preprocessing(),
                parts.neck,
                parts.encoder,
                parts.qualities,
                parts.labels,
                new Manifest.Tokens(-2, "patches"));
        Manifest manifest;
        try {
            manifest = Manifest.parse(target.toString(), draft.toJson());
        } catch (DamagedDataException e) {
            throw new UsageException("these inputs make no model: " + e.getMessage(), e);
        }
        ModelWriter writer = ModelWriter.of(manifest);
        parts.tensors.forEach(writer::add);
        long inputBytes = inputs.values().stream()
                .flatMap(input -> input.files().stream())
                .mapToLong(Importer::size)
                .sum();
        long outputBytes = writer.estimatedBytes();
        long[] hashed = {0};
        inputs.forEach((role, input) -> {
            int number = 0;
            for (Path file : input.files()) {
                String key = "comneck.source." + role + (input.files().size() > 1 ? "." + number++ : "");
                writer.metadata(key, file.getFileName().toString());
                writer.metadata(key + ".sha256", sha256(file, bytes -> {
                    hashed[0] += bytes;
                    progress.report("hashing " + file.getFileName(), hashed[0], inputBytes + outputBytes);
                }));
            }
        });
        writer.write(
                target,
                (what, done, total) ->
                        progress.report(what, inputBytes + Math.min(done, outputBytes), inputBytes + outputBytes));
        try (ModelFile model = ModelFile.open(target)) {
            return new Result(
                    manifest,
                    parts.tensors.size(),
                    size(target),
                    model.identity(),
                    List.copyOf(parts.found),
                    List.copyOf(notes));
        }
    }

    private String defaultName() {
        List<String> names = new ArrayList<>();
        for (Path path : new Path[] {codecPath, encoderPath}) {
            if (path != null) {
                names.add(stem(path));
            }
        }
        return String.join("+", names);
    }

    private static String stem(Path path) {
        String file = path.toAbsolutePath().normalize().getFileName().toString();
        return file.replaceAll("(\\.(pth|tar|pt|bin|safetensors|index|json|ckpt))+$", "");
    }

    private Manifest.Preprocessing preprocessing() {
        if (parts.latentGrid > 0) {
            return new Manifest.Preprocessing(16 * parts.latentGrid, "bicubic");
        }
        return parts.encoder == null ? null : new Manifest.Preprocessing(parts.encoder.image(), "bicubic");
    }

    private interface Hashed {
        void bytes(long count);
    }

    private static String sha256(Path file, Hashed hashed) {
        MessageDigest digest = Identity.sha256();
        byte[] buffer = new byte[1 << 20];
        try (InputStream in = Files.newInputStream(file)) {
            for (int count = in.read(buffer); count >= 0; count = in.read(buffer)) {
                digest.update(buffer, 0, count);
                hashed.bytes(count);
            }
        } catch (IOException e) {
            throw new UsageException(file + ": cannot be read: " + e.getMessage(), e);
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    private static long size(Path file) {
        try {
            return Files.size(file);
        } catch (IOException e) {
            throw new UsageException(file + ": cannot be read: " + e.getMessage(), e);
        }
    }

    // The codec.

    private void importCodec(WeightFiles weights) {
        WeightFiles.Found found = weights.find("g_a.0.weight")
                .orElseThrow(() -> new UsageException(weights.path()
                        + " holds no learned codec with the published names (g_a.0.weight): " + weights.examples()));
        Map<String, TensorSource> tensors = found.tensors();
        String file = weights.path().toString();
        int n = size(file, tensors, "g_a.0.weight", 4, 0);
        int m = size(file, tensors, "g_a.13.weight", 4, 0);
        List<Integer> slices = new ArrayList<>();
        while (tensors.containsKey("context_prediction." + slices.size() + ".weight")) {
            slices.add(size(file, tensors, "context_prediction." + slices.size() + ".weight", 4, 1));
        }
        int sum = slices.stream().mapToInt(Integer::intValue).sum();
        if (slices.isEmpty() || sum != m) {
            throw new DamagedDataException(file + ": is no ELIC codec: its " + slices.size() + " context models cover "
                    + sum + " channels of " + m);
        }
        Manifest.Codec codec = new Manifest.Codec("elic", n, m, slices);
        int[] hidden = {
            slices.size() > 1 ? size(file, tensors, "cc_transforms.0.0.weight", 4, 0) : 0,
            slices.size() > 1 ? size(file, tensors, "cc_transforms.0.2.weight", 4, 0) : 0,
            size(file, tensors, "ParamAggregation.0.0.weight", 4, 0),
            size(file, tensors, "ParamAggregation.0.2.weight", 4, 0)
        };
        Declarations expected = new Declarations();
        expected.elic(codec, hidden);
        boolean hasTables = tensors.containsKey("entropy.factorized.medians");
        if (hasTables) {
            expected.tensors.keySet().removeIf(key -> key.startsWith("entropy_bottleneck."));
        }
        Map<String, TensorSource> ours = new LinkedHashMap<>();
        List<String> surplus = new ArrayList<>();
        tensors.forEach((key, tensor) -> {
            if (expected.tensors.containsKey(key)) {
                ours.put(key, tensor);
            } else if (key.startsWith("entropy.") || key.startsWith("gain.")) {
                ours.put(key, tensor);
            } else if (key.matches("(g_a|g_s|h_a|h_s|cc_transforms|context_prediction|ParamAggregation)\\..*")
                    && !key.endsWith(".mask")) {
                surplus.add(key);
            }
        });
        String what = "an ELIC codec of N=" + n + ", M=" + m + ", slices " + slices;
        check(file, what, expected.tensors, ours, surplus);
        ours.forEach((key, tensor) -> {
            if (!key.startsWith("entropy_bottleneck.")) {
                parts.tensors.put(key, tensor.type().isFloat() ? tensor.toF32() : tensor);
            }
        });
        if (!hasTables) {
            Map<String, TensorSource> prior = new LinkedHashMap<>(ours);
            TensorSource scales = tensors.get("gaussian_conditional.scale_table");
            if (scales != null) {
                prior.put("gaussian_conditional.scale_table", scales);
            }
            try {
                parts.tensors.putAll(EntropyTensors.of(prior));
            } catch (DamagedDataException | IllegalArgumentException | ArithmeticException e) {
                throw new DamagedDataException(file + ": no coding tables can be made: " + e.getMessage(), -1, e);
            }
        }
        parts.codec = codec;
        Optional<Manifest> own = weights.manifest();
        parts.qualities = own.isPresent() && own.get().codec() != null
                ? own.get().qualities()
                : List.of(new Manifest.Quality(qualityName != null ? qualityName : stem(weights.path()), lambda));
        TensorSource gains = ours.get("gain.y");
        if (gains != null && (gains.shape().rank() != 2 || gains.shape().size(0) != parts.qualities.size())) {
            throw new DamagedDataException(file + ": tensor 'gain.y' has shape " + gains.shape() + " instead of ["
                    + parts.qualities.size() + "," + m + "]");
        }
        parts.found.add("codec: " + what + " (" + weights.container() + ")" + prefixed(found));
    }

    private static String prefixed(WeightFiles.Found found) {
        return found.prefix().isEmpty()
                ? ""
                : ", names stripped of '" + SafetensorsFile.printable(found.prefix()) + "'";
    }

    // The neck.

    private void importNeck(WeightFiles weights, boolean required) {
        Optional<WeightFiles.Found> optional = weights.find("trans_latent_dim.weight", "adapter");
        if (optional.isEmpty()) {
            if (required) {
                throw new UsageException(
                        weights.path() + " holds no neck (trans_latent_dim.weight): " + weights.examples());
            }
            notes.add("no neck found: this model makes no tokens from bitstreams");
            return;
        }
        WeightFiles.Found found = optional.get();
        String file = weights.path().toString();
        Map<String, TensorSource> tensors = found.tensors();
        int width = size(file, tensors, "trans_latent_dim.weight", 2, 0);
        int in = size(file, tensors, "trans_latent_dim.weight", 2, 1);
        int tokens = size(file, tensors, "positional_embedding", 2, 0);
        if (parts.codec != null && in != parts.codec.m()) {
            throw new DamagedDataException(
                    file + ": the neck takes latents of " + in + " channels, but the codec makes " + parts.codec.m());
        }
        if (parts.encoder != null && width != parts.encoder.width()) {
            throw new DamagedDataException(file + ": the neck makes tokens of " + width
                    + " channels, but the encoder takes " + parts.encoder.width());
        }
        int grid = side(file, "positional_embedding", tokens, true);
        int blocks = blocks(tensors, "transformer.resblocks.");
        Declarations expected = new Declarations();
        expected.neck(in, width, tokens, blocks);
        Map<String, TensorSource> ours = new LinkedHashMap<>();
        List<String> surplus = new ArrayList<>();
        tensors.forEach((key, tensor) -> {
            if (expected.tensors.containsKey(key)) {
                ours.put(key, tensor);
            } else if (key.matches("(transformer|trans_latent_dim|ln_pre)\\..*")) {
                surplus.add(key);
            }
        });
        String what = "a transform-neck from " + in + " to " + width + " channels, " + tokens + " tokens";
        check(file, what, expected.tensors, ours, surplus);
        ours.forEach((key, tensor) -> parts.tensors.put(key, tensor.toF32()));
        Optional<Manifest.Neck> own = weights.manifest().map(Manifest::neck);
        int block = entry >= 0 ? entry : own.map(Manifest.Neck::entry).orElse(PUBLISHED_ENTRY);
        int neckHeads =
                own.map(Manifest.Neck::heads).orElse(parts.encoder != null ? parts.encoder.heads() : headsOf(width));
        parts.neck = new Manifest.Neck(block, neckHeads);
        parts.latentGrid = grid;
        parts.found.add("neck: " + what + ", enters block " + block + prefixed(found));
    }

    // The encoder.

    private void importEncoder(WeightFiles weights) {
        EncoderKeys.Encoder found = EncoderKeys.find(weights);
        boolean timm = found.type().equals("timm");
        String file = weights.path().toString();
        Map<String, TensorSource> tensors = found.tensors();
        String patches = timm ? "visual.trunk.patch_embed.proj.weight" : "visual.conv1.weight";
        String positions = timm ? "visual.trunk.pos_embed" : "visual.positional_embedding";
        String prefix = timm ? "visual.trunk.blocks." : "visual.transformer.resblocks.";
        int width = size(file, tensors, patches, 4, 0);
        int patch = size(file, tensors, patches, 4, 2);
        int tokens = size(file, tensors, positions, timm ? 3 : 2, timm ? 1 : 0);
        int layers = blocks(tensors, prefix);
        TensorSource projection = tensors.get("visual.proj");
        int projected = projection == null || projection.shape().rank() != 2
                ? 0
                : Math.toIntExact(Math.min(1 << 20, projection.shape().size(1)));
        boolean classToken = !timm || tensors.containsKey("visual.trunk.cls_token");
        int grid = side(file, positions, tokens, classToken);
        Declarations expected = new Declarations();
        if (timm) {
            TensorSource head = tensors.get("visual.trunk.head.weight");
            int classes = head == null || head.shape().rank() != 2
                    ? 0
                    : Math.toIntExact(head.shape().size(0));
            expected.timm(width, layers, tokens, patch, classToken, classes, projected);
        } else {
            expected.clip(width, layers, tokens, patch, projected);
        }
        String what = found.family() + " encoder, " + layers + " blocks " + width + " wide, patches of " + patch + ", "
                + tokens + " tokens";
        check(file, "an " + what, expected.tensors, tensors, found.surplus());
        notes.addAll(found.assumed());
        String function = activation != null ? activation : found.activation();
        if (function == null) {
            function = "quick_gelu";
            notes.add("the encoder's activation is taken as quick_gelu, OpenAI's: its file does not say it");
        }
        if (!function.equals("quick_gelu") && !function.equals("gelu")) {
            throw new UsageException(file + ": the encoder's activation is '" + SafetensorsFile.printable(function)
                    + "'; supported are quick_gelu and gelu");
        }
        int count = heads > 0 ? heads : found.heads() > 0 ? found.heads() : headsOf(width);
        parts.encoder = new Manifest.Encoder(
                found.type(),
                width,
                layers,
                count,
                patch,
                grid * patch,
                function,
                found.epsilon(),
                found.mean(),
                found.std(),
                projected);
        tensors.forEach(
                (key, tensor) -> parts.tensors.put(key, tensor.type() == ElementType.F64 ? tensor.toF32() : tensor));
        parts.found.add("encoder: " + what + " (" + weights.container() + ")");
    }

    private void importProjector(WeightFiles weights, boolean required) {
        Map<String, TensorSource> ours = new LinkedHashMap<>();
        for (String[] names : new String[][] {
            {"multi_modal_projector.linear_1", "multi_modal_projector.linear_2"},
            {"mm_projector.0", "mm_projector.2"},
            {"mm_projector", "mm_projector.2"}
        }) {
            Optional<WeightFiles.Found> found = weights.find(names[0] + ".weight");
            if (found.isEmpty()) {
                continue;
            }
            for (int i = 0; i < 2; i++) {
                for (String kind : List.of(".weight", ".bias")) {
                    TensorSource tensor = found.get().tensors().get(names[i] + kind);
                    if (tensor != null) {
                        ours.put("multi_modal_projector.linear_" + (i + 1) + kind, tensor);
                    }
                }
            }
            break;
        }
        if (ours.isEmpty()) {
            if (required) {
                throw new UsageException(
                        weights.path() + " holds no projector (multi_modal_projector.linear_1, mm_projector.0): "
                                + weights.examples());
            }
            return;
        }
        String file = weights.path().toString();
        Declarations expected = new Declarations();
        int hidden = size(file, ours, "multi_modal_projector.linear_1.weight", 2, 0);
        expected.linear("multi_modal_projector.linear_1", hidden, parts.encoder.width());
        if (ours.containsKey("multi_modal_projector.linear_2.weight")) {
            int out = size(file, ours, "multi_modal_projector.linear_2.weight", 2, 0);
            expected.linear("multi_modal_projector.linear_2", out, hidden);
        }
        check(file, "a projector for this encoder", expected.tensors, ours, List.of());
        ours.forEach(
                (key, tensor) -> parts.tensors.put(key, tensor.type() == ElementType.F64 ? tensor.toF32() : tensor));
        parts.found.add("projector: " + parts.encoder.width() + " to " + hidden + " channels"
                + (expected.tensors.size() > 2 ? ", two layers" : ", one layer"));
    }

    // Labels.

    private void importLabels(WeightFiles weights) {
        if (weights == null && classesPath == null) {
            return;
        }
        long rows = -1;
        if (weights != null) {
            String file = weights.path().toString();
            WeightFiles.Found found = weights.find("labels.embeddings")
                    .or(() -> weights.find("text"))
                    .orElseThrow(() -> new UsageException(file
                            + " holds no label embeddings ('text' or 'labels.embeddings'): " + weights.examples()));
            TensorSource tensor = found.tensors().containsKey("labels.embeddings")
                    ? found.tensors().get("labels.embeddings")
                    : found.tensors().get("text");
            int width = parts.encoder == null ? 0 : parts.encoder.projection();
            if (!tensor.type().isFloat()
                    || tensor.shape().rank() != 2
                    || tensor.shape().size(1) != width) {
                throw new DamagedDataException(file + ": label embeddings are " + tensor.type() + " " + tensor.shape()
                        + " instead of [classes," + width + "], the encoder's projection");
            }
            rows = tensor.shape().size(0);
            parts.tensors.put("labels.embeddings", half(tensor));
        } else if (parts.tensors.containsKey("visual.trunk.head.weight")) {
            rows = parts.tensors.get("visual.trunk.head.weight").shape().size(0);
        }
        if (classesPath == null) {
            throw new UsageException("label embeddings need the list of classes too");
        }
        List<Manifest.Label> labels = new ArrayList<>();
        try {
            for (String line : Files.readAllLines(classesPath, StandardCharsets.UTF_8)) {
                if (!line.isBlank()) {
                    String[] both = line.strip().split("\\s+", 2);
                    labels.add(new Manifest.Label(both[0], both.length > 1 ? both[1] : both[0]));
                }
            }
        } catch (IOException e) {
            throw new UsageException(classesPath + ": cannot be read as text: " + e.getMessage(), e);
        }
        if (labels.size() != rows) {
            throw new UsageException(classesPath + " lists " + labels.size() + " classes, but "
                    + (rows < 0 ? "the encoder has no head and there are no embeddings" : rows + " are expected"));
        }
        parts.labels = labels;
        parts.found.add("labels: " + labels.size() + " classes");
    }

    private static TensorSource half(TensorSource tensor) {
        if (tensor.type() == ElementType.F16) {
            return tensor;
        }
        float[] values = tensor.toTensor().toFloats();
        short[] halves = new short[values.length];
        for (int i = 0; i < values.length; i++) {
            halves[i] = Float.floatToFloat16(values[i]);
        }
        return TensorSource.of(new Tensor(ElementType.F16, tensor.shape(), MemorySegment.ofArray(halves)));
    }

    // Shapes.

    private static int headsOf(int width) {
        return Math.max(1, width / 64);
    }

    /** One more than the largest block number after the prefix. */
    private static int blocks(Map<String, TensorSource> tensors, String prefix) {
        TreeSet<Integer> numbers = new TreeSet<>();
        for (String key : tensors.keySet()) {
            if (key.startsWith(prefix)) {
                String number = key.substring(prefix.length()).split("\\.", 2)[0];
                if (number.matches("[0-9]{1,4}")) {
                    numbers.add(Integer.parseInt(number));
                }
            }
        }
        // A file cannot ask for thousands of missing blocks by naming the last one.
        return numbers.isEmpty() ? 0 : Math.min(numbers.last() + 1, 1024);
    }

    private static int side(String file, String tensor, int tokens, boolean classToken) {
        int patches = tokens - (classToken ? 1 : 0);
        int side = (int) Math.sqrt(patches);
        if (patches < 1 || side * side != patches) {
            throw new DamagedDataException(file + ": tensor '" + tensor + "' has " + tokens
                    + " positions, which is no square" + (classToken ? " and a class token" : ""));
        }
        return side;
    }

    private static int size(String file, Map<String, TensorSource> tensors, String name, int rank, int dimension) {
        TensorSource tensor = tensors.get(name);
        if (tensor == null) {
            throw new DamagedDataException(file + ": tensor '" + name + "' is missing");
        }
        if (tensor.shape().rank() != rank) {
            throw new DamagedDataException(file + ": tensor '" + name + "' has shape " + tensor.shape() + " instead of "
                    + rank + " dimensions");
        }
        long size = tensor.shape().size(dimension);
        if (size < 1 || size > 1 << 16) {
            throw new DamagedDataException(
                    file + ": tensor '" + name + "' has shape " + tensor.shape() + ", which no model has");
        }
        return (int) size;
    }

    /** Every expected tensor must be there with its shape and hold floating-point numbers; surplus ones would change what is computed. */
    private static void check(
            String file,
            String what,
            Map<String, TensorSource> expected,
            Map<String, TensorSource> actual,
            List<String> surplus) {
        List<String> problems = new ArrayList<>();
        expected.forEach((key, wanted) -> {
            Shape shape = wanted.shape();
            TensorSource tensor = actual.get(key);
            if (tensor == null) {
                problems.add("'" + key + "' is missing, expected " + shape);
            } else if (!tensor.shape().equals(shape)) {
                problems.add("'" + key + "' has shape " + tensor.shape() + " instead of " + shape);
            } else if (!tensor.type().isFloat()) {
                problems.add("'" + key + "' holds " + tensor.type() + " instead of floating-point numbers");
            }
        });
        List<String> unknown = new ArrayList<>(surplus);
        actual.keySet().stream()
                .filter(key -> !expected.containsKey(key) && !key.startsWith("entropy.") && !key.startsWith("gain."))
                .forEach(unknown::add);
        for (String key : unknown) {
            problems.add("'" + SafetensorsFile.printable(key) + "' is unknown and would change the result");
        }
        if (!problems.isEmpty()) {
            int more = problems.size() - MAX_PROBLEMS_SHOWN;
            throw new DamagedDataException(file + ": does not fit " + what + ": "
                    + String.join("; ", problems.subList(0, Math.min(problems.size(), MAX_PROBLEMS_SHOWN)))
                    + (more > 0 ? "; and " + more + " more" : ""));
        }
    }
}

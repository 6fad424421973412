package org.comneck.train;

import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.AutoGradMode;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.backend.CodingTables;
import org.comneck.entropy.CodingTablesBuilder;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * A codec, an encoder and, where there is one, a neck, as tensors by their published names: of a model file ({@code model = embedded}, or a
 * file), or of finished stages of the run folder ({@code codec}, {@code encoder} and {@code neck} name them). What surrogate stages start
 * from, and what a model file is made of.
 *
 * <p>The prior of z, {@code entropy_bottleneck.*}, is there when the codec comes from the run folder. A model file holds nothing of it but
 * integer tables; {@link #prior} then fits one to them.
 */
final class ModelParts implements AutoCloseable {
    static final String PRIOR = "entropy_bottleneck.";

    private static final String LOG = ".log";

    /** Bins, steps and learning rate with which a prior is fitted to tables: what it costs more is within a hundredth. */
    private static final int FIT_BINS = 40;

    private static final int FIT_STEPS = 300;

    private static final double FIT_RATE = 0.05;

    private final String source;
    private final Manifest manifest;
    private final Map<String, Tensor> tensors;
    private final ModelFile file;

    private ModelParts(String source, Manifest manifest, Map<String, Tensor> tensors, ModelFile file) {
        this.source = source;
        this.manifest = manifest;
        this.tensors = tensors;
        this.file = file;
    }

    /** What a recipe of a surrogate stage names. Closed, the tensors of a model file cannot be read any more. */
    static ModelParts of(Recipe recipe, Path data, Path runFolder) {
        if (!recipe.has("model")) {
            return ofStages(recipe, data, runFolder);
        }
        return of(open(recipe.word("model"), data, runFolder));
    }

    private static ModelFile open(String name, Path data, Path runFolder) {
        return name.equals("embedded") && !Files.exists(runFolder.resolve(name))
                ? ModelFile.openEmbedded()
                : ModelFile.open(find(name, data, runFolder));
    }

    /** A codec that is used as it is: a stage's of the run folder, or a model file's. */
    static CodecNetwork codec(String name, Path data, Path runFolder, ScalarType type) {
        Path stage = Trainer.checkpoint(runFolder, name);
        if (Files.exists(stage)) {
            Recipe recipe = Checkpoint.recipe(stage, name);
            Parameters parameters = CodecStage.parameters(recipe);
            Checkpoint.read(stage).restore(stage, parameters);
            CodecNetwork.Size size = CodecStage.size(recipe);
            Manifest manifest = codecAlone(name, size);
            ModelParts parts = new ModelParts("run folder " + runFolder, manifest, stored(parameters), null);
            return new CodecNetwork(size, parts.frozenCodec(size), type);
        }
        try (ModelParts parts = of(open(name, data, runFolder))) {
            CodecNetwork.Size size = parts.codecSize(parts.manifest.qualities().stream()
                    .map(Manifest.Quality::lambda)
                    .toList());
            return new CodecNetwork(size, parts.frozenCodec(size), type);
        }
    }

    private static Manifest codecAlone(String name, CodecNetwork.Size size) {
        List<Manifest.Quality> qualities = new ArrayList<>();
        for (double lambda : size.lambdas()) {
            qualities.add(new Manifest.Quality(Integer.toString(qualities.size()), lambda));
        }
        return new Manifest(
                name,
                Manifest.PROFILE,
                new Manifest.Codec("elic", size.n(), size.m(), size.slices()),
                null,
                null,
                null,
                qualities,
                List.of(),
                null);
    }

    /** The parts of an open model file, which is closed with them. */
    static ModelParts of(ModelFile file) {
        if (file.manifest().codec() == null || file.manifest().encoder() == null) {
            String lacks = file.manifest().codec() == null ? "codec" : "encoder";
            file.close();
            throw new UsageException(file.file() + ": has no " + lacks + "; 'comneck import' can put one in");
        }
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        file.names().forEach(name -> tensors.put(name, file.tensor(name)));
        return new ModelParts(file.file(), file.manifest(), tensors, file);
    }

    private static Path find(String name, Path data, Path runFolder) {
        for (Path folder : List.of(runFolder, Path.of(""))) {
            if (Files.exists(folder.resolve(name))) {
                return folder.resolve(name);
            }
        }
        try {
            return Photos.resolve(data, name);
        } catch (UsageException e) {
            throw new UsageException(
                    "there is no model file " + name
                            + ", neither in the run folder nor here; 'comneck import' makes one",
                    e);
        }
    }

    private static ModelParts ofStages(Recipe recipe, Path data, Path runFolder) {
        Path codecFile = Trainer.checkpoint(runFolder, recipe.word("codec"));
        Path encoderFile = Trainer.checkpoint(runFolder, recipe.word("encoder"));
        Recipe codecRecipe = Checkpoint.recipe(codecFile, recipe.word("codec"));
        Recipe encoderRecipe = Checkpoint.recipe(encoderFile, recipe.word("encoder"));
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        Parameters codec = CodecStage.parameters(codecRecipe);
        Checkpoint.read(codecFile).restore(codecFile, codec);
        tensors.putAll(stored(codec));
        Parameters encoder = EncoderStage.parameters(encoderRecipe);
        Checkpoint.read(encoderFile).restore(encoderFile, encoder);
        tensors.putAll(stored(encoder));
        Manifest coded = codecAlone(recipe.name(), CodecStage.size(codecRecipe));
        EncoderNetwork.Size vit = EncoderStage.size(encoderRecipe);
        Manifest manifest = new Manifest(
                coded.name(),
                coded.profile(),
                coded.codec(),
                new Manifest.Preprocessing(vit.image(), "bicubic"),
                null,
                new Manifest.Encoder(
                        "clip",
                        vit.width(),
                        vit.layers(),
                        vit.heads(),
                        vit.patch(),
                        vit.image(),
                        "gelu",
                        Transformer.EPSILON,
                        boxed(EncoderNetwork.MEAN),
                        boxed(EncoderNetwork.STD),
                        vit.projection()),
                coded.qualities(),
                EncoderStage.labels(Photos.resolve(data, encoderRecipe.word("labels"))),
                new Manifest.Tokens(-2, "patches"));
        ModelParts parts = new ModelParts("run folder " + runFolder, manifest, tensors, null);
        if (!recipe.has("neck") || recipe.word("neck").equals("fresh")) {
            return parts;
        }
        Path neckFile = Trainer.checkpoint(runFolder, recipe.word("neck"));
        Recipe neckRecipe = Checkpoint.recipe(neckFile, recipe.word("neck"));
        Parameters neck = SurrogateStage.parameters(neckRecipe, parts);
        Checkpoint.read(neckFile).restore(neckFile, neck);
        stored(neck).forEach((name, tensor) -> {
            if (NeckNetwork.owns(name)) {
                tensors.put(name, tensor);
            }
        });
        return parts.with(SurrogateStage.neck(neckRecipe, parts), tensors);
    }

    private static List<Double> boxed(double[] values) {
        return List.of(values[0], values[1], values[2]);
    }

    Manifest manifest() {
        return manifest;
    }

    Map<String, Tensor> tensors() {
        return tensors;
    }

    /** Where they come from, for messages. */
    String source() {
        return source;
    }

    /** The same with another neck. */
    ModelParts with(Manifest.Neck neck, Map<String, Tensor> tensors) {
        Manifest changed = new Manifest(
                manifest.name(),
                manifest.profile(),
                manifest.codec(),
                manifest.preprocessing(),
                neck,
                manifest.encoder(),
                manifest.qualities(),
                manifest.labels(),
                manifest.tokens());
        return new ModelParts(source, changed, tensors, file);
    }

    /**
     * Averages of trained tensors as a model file stores them: weights of two and more dimensions F16; vectors, position tables, gains and
     * the prior F32. Gains are no longer logarithms, and context kernels are masked.
     */
    static Map<String, Tensor> stored(Parameters parameters) {
        Map<String, Tensor> out = new LinkedHashMap<>();
        parameters.slots().forEach((name, slot) -> {
            float[] values = parameters.averageOf(name);
            if (name.endsWith(LOG)) {
                for (int i = 0; i < values.length; i++) {
                    values[i] = (float) Math.exp(values[i]);
                }
                out.put(name.substring(0, name.length() - LOG.length()), Tensor.of(values, slot.shape()));
            } else if (slot.shape().length < 2 || name.startsWith(PRIOR) || name.endsWith("positional_embedding")) {
                out.put(name, Tensor.of(values, slot.shape()));
            } else {
                if (name.startsWith("context_prediction.")) {
                    float[] mask = CodecNetwork.contextMask();
                    for (int i = 0; i < values.length; i++) {
                        values[i] *= mask[i % mask.length];
                    }
                }
                out.put(name, half(values, slot.shape()));
            }
        });
        return out;
    }

    private static Tensor half(float[] values, long[] shape) {
        short[] half = new short[values.length];
        for (int i = 0; i < half.length; i++) {
            half[i] = Float.floatToFloat16(values[i]);
        }
        return new Tensor(ElementType.F16, Shape.of(shape), MemorySegment.ofArray(half));
    }

    private Tensor tensor(String name) {
        Tensor tensor = tensors.get(name);
        if (tensor == null) {
            throw new DamagedDataException(source + ": tensor '" + name + "' is missing");
        }
        return tensor;
    }

    private int outputs(String name) {
        return Math.toIntExact(tensor(name).shape().size(0));
    }

    /** The codec's sizes; qualities' lambdas are the manifest's, or {@code codec.lambdas} of the recipe. */
    CodecNetwork.Size codecSize(Recipe recipe) {
        List<Double> lambdas = recipe.has("codec.lambdas")
                ? recipe.numbers("codec.lambdas")
                : manifest.qualities().stream().map(Manifest.Quality::lambda).toList();
        if (lambdas.size() != manifest.qualities().size()) {
            throw new UsageException("recipe " + recipe.name() + ": codec.lambdas has " + lambdas.size()
                    + " values, the codec has " + manifest.qualities().size() + " qualities");
        }
        return codecSize(lambdas);
    }

    private CodecNetwork.Size codecSize(List<Double> lambdas) {
        Manifest.Codec codec = manifest.codec();
        boolean context = codec.slices().size() > 1;
        return new CodecNetwork.Size(
                codec.n(),
                codec.m(),
                codec.slices(),
                outputs("ParamAggregation.0.0.weight"),
                outputs("ParamAggregation.0.2.weight"),
                context ? outputs("cc_transforms.0.0.weight") : 1,
                context ? outputs("cc_transforms.0.2.weight") : 1,
                lambdas);
    }

    /** Declares the codec, to be trained on from here. */
    void declareCodec(CodecNetwork.Size size, Parameters w) {
        CodecNetwork.declare(size, w);
        List<String> names = w.slots().keySet().stream().toList();
        Map<String, float[]> prior = prior();
        for (String name : names) {
            w.start(name, prior.containsKey(name) ? prior.get(name) : codecValues(name, size));
        }
    }

    /** The codec as it is. */
    Parameters frozenCodec(CodecNetwork.Size size) {
        Parameters names = new Parameters(0);
        CodecNetwork.declare(size, names);
        Map<String, float[]> prior = prior();
        Map<String, org.bytedeco.pytorch.Tensor> values = new LinkedHashMap<>();
        names.slots()
                .forEach((name, slot) -> values.put(
                        name,
                        Ops.of(prior.containsKey(name) ? prior.get(name) : codecValues(name, size), slot.shape())));
        return Parameters.frozen(values);
    }

    private float[] codecValues(String name, CodecNetwork.Size size) {
        if (!name.endsWith(LOG)) {
            return tensor(name).toFloats();
        }
        String stored = name.substring(0, name.length() - LOG.length());
        if (!tensors.containsKey(stored)) {
            // One quality without gains is one whose gains are 1.
            return new float[size.lambdas().size() * size.m()];
        }
        float[] logs = tensor(stored).toFloats();
        for (int i = 0; i < logs.length; i++) {
            logs[i] = (float) Math.log(logs[i]);
        }
        return logs;
    }

    /** The neck's tensors. */
    Map<String, float[]> neck() {
        Map<String, float[]> neck = new LinkedHashMap<>();
        tensors.forEach((name, tensor) -> {
            if (NeckNetwork.owns(name)) {
                neck.put(name, tensor.toFloats());
            }
        });
        return neck;
    }

    /** The prior of z, by name: the codec's own, or one whose probabilities are those of the integer tables. */
    Map<String, float[]> prior() {
        Map<String, float[]> prior = new LinkedHashMap<>();
        if (tensors.containsKey(PRIOR + "quantiles")) {
            tensors.forEach((name, tensor) -> {
                if (name.startsWith(PRIOR)) {
                    prior.put(name, tensor.toFloats());
                }
            });
            return prior;
        }
        return fitPrior(
                CodingTablesBuilder.fromTensors("entropy.factorized", this::tensor),
                tensor("entropy.factorized.medians").toFloats());
    }

    /** A prior whose probabilities are those of integer tables. */
    static Map<String, float[]> fitPrior(CodingTables tables, float[] medians) {
        int n = tables.tables();
        float[] edges = new float[n * (FIT_BINS + 1)];
        float[] wanted = new float[n * FIT_BINS];
        float[] quantiles = new float[3 * n];
        for (int c = 0; c < n; c++) {
            int[] frequency = tables.frequency()[c];
            int count = tables.count()[c];
            double total = IntStream.range(0, count).map(k -> frequency[k]).sum();
            // Neighbouring symbols share a bin where there are many; bins at the end may be empty.
            for (int b = 0; b <= FIT_BINS; b++) {
                int from = Math.min(count, b * Math.ceilDiv(count, FIT_BINS));
                int to = Math.min(count, (b + 1) * Math.ceilDiv(count, FIT_BINS));
                edges[c * (FIT_BINS + 1) + b] =
                        (float) (medians[c] - 0.5 + Math.scalb((double) tables.first()[c] + from, tables.shift()[c]));
                for (int k = from; k < to; k++) {
                    wanted[c * FIT_BINS + b] += (float) (frequency[k] / total);
                }
            }
            quantiles[3 * c] = edges[c * (FIT_BINS + 1)];
            quantiles[3 * c + 1] = medians[c];
            quantiles[3 * c + 2] = edges[c * (FIT_BINS + 1) + FIT_BINS];
        }
        AutoGradMode gradients = new AutoGradMode(true);
        try (var _ = new PointerScope()) {
            Parameters w = new Parameters(1);
            CodecNetwork.prior(n, w);
            w.start(PRIOR + "quantiles", quantiles).build();
            org.bytedeco.pytorch.Tensor x = Ops.of(edges, n, 1, FIT_BINS + 1);
            org.bytedeco.pytorch.Tensor p = Ops.of(wanted, n, 1, FIT_BINS);
            for (int step = 1; step <= FIT_STEPS; step++) {
                try (var _ = new PointerScope()) {
                    w.zeroGradient();
                    Ops.sumOver(p.mul(CodecNetwork.binProbabilities(w, x).log()), false, 1, 2)
                            .mean()
                            .neg()
                            .backward();
                    w.step(step, FIT_RATE * Stage.cosine((double) step / FIT_STEPS, 0.01), 1e9, 0);
                }
            }
            Map<String, float[]> prior = new LinkedHashMap<>();
            w.slots().keySet().forEach(name -> prior.put(name, Ops.floats(w.get(name))));
            prior.put(PRIOR + "quantiles", quantiles);
            return prior;
        } finally {
            gradients.close();
        }
    }

    /** Lets go of the model file. */
    @Override
    public void close() {
        if (file != null) {
            file.close();
        }
    }
}

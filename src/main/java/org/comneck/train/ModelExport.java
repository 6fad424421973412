package org.comneck.train;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.comneck.model.EntropyTensors;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.ModelWriter;
import org.comneck.model.TensorSource;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * Run folder to model file: the averaged weights of codec, encoder and neck by their published names, and the integer tables.
 *
 * <p>Weights of two and more dimensions are stored as F16; vectors, position tables, gains and what the tables are made of stay F32. The
 * tables are made of the very values that are stored.
 */
final class ModelExport {
    private final Map<String, TensorSource> tensors = new LinkedHashMap<>();
    private Manifest manifest;

    private ModelExport() {}

    /** Writes the model file of the stages that the recipe names under {@code codec}, {@code encoder} and {@code neck}. */
    static void write(Recipe recipe, Path data, Path runFolder, Path target) {
        ModelExport export = new ModelExport();
        export.collect(recipe, data, runFolder);
        ModelWriter writer = ModelWriter.of(export.manifest);
        export.tensors.forEach(writer::add);
        writer.write(target);
    }

    /** The same model in memory. */
    static ModelFile inMemory(Recipe recipe, Path data, Path runFolder) {
        ModelExport export = new ModelExport();
        export.collect(recipe, data, runFolder);
        return ModelFile.inMemory(export.manifest, export.tensors);
    }

    private void collect(Recipe recipe, Path data, Path runFolder) {
        NeckStage.Frozen codec = NeckStage.Frozen.load(runFolder, recipe.word("codec"));
        NeckStage.Frozen encoder = NeckStage.Frozen.load(runFolder, recipe.word("encoder"));
        Path neckFile = Trainer.checkpoint(runFolder, recipe.word("neck"));
        Recipe neckRecipe = Checkpoint.recipe(neckFile, recipe.word("neck"));
        CodecNetwork.Size codecSize = CodecStage.size(codec.recipe());
        EncoderNetwork.Size size = EncoderStage.size(encoder.recipe());
        Parameters neck = NeckStage.parameters(neckRecipe, codecSize, size);
        Checkpoint.read(neckFile).restore(neckFile, neck);
        codec(codec.parameters());
        encoder.parameters().slots().forEach((name, slot) -> weight(encoder.parameters(), name, slot));
        neck.slots().forEach((name, slot) -> weight(neck, name, slot));
        List<Manifest.Quality> qualities = new ArrayList<>();
        for (double lambda : codecSize.lambdas()) {
            qualities.add(new Manifest.Quality(Integer.toString(qualities.size()), lambda));
        }
        manifest = new Manifest(
                recipe.has("name") ? recipe.word("name") : recipe.name(),
                Manifest.PROFILE,
                new Manifest.Codec("elic", codecSize.n(), codecSize.m(), codecSize.slices()),
                new Manifest.Preprocessing(size.image(), "bicubic"),
                new Manifest.Neck(neckRecipe.integer("neck.entry"), neckRecipe.integer("neck.heads")),
                new Manifest.Encoder(
                        "clip",
                        size.width(),
                        size.layers(),
                        size.heads(),
                        size.patch(),
                        size.image(),
                        "gelu",
                        Transformer.EPSILON,
                        list(EncoderNetwork.MEAN),
                        list(EncoderNetwork.STD),
                        size.projection()),
                qualities,
                EncoderStage.labels(Photos.resolve(data, encoder.recipe().word("labels"))),
                new Manifest.Tokens(-2, "patches"));
    }

    private static List<Double> list(double[] values) {
        return List.of(values[0], values[1], values[2]);
    }

    private void codec(Parameters parameters) {
        Map<String, TensorSource> prior = new LinkedHashMap<>();
        parameters.slots().forEach((name, slot) -> {
            float[] values = parameters.averageOf(name);
            if (name.startsWith("entropy_bottleneck.")) {
                // Only the integer tables made of it are stored.
                prior.put(name, TensorSource.of(Tensor.of(values, slot.shape())));
            } else if (name.endsWith(".log")) {
                for (int i = 0; i < values.length; i++) {
                    values[i] = (float) Math.exp(values[i]);
                }
                put(name.substring(0, name.length() - ".log".length()), Tensor.of(values, slot.shape()));
            } else if (name.startsWith("context_prediction.") && name.endsWith(".weight")) {
                float[] mask = CodecNetwork.contextMask();
                for (int i = 0; i < values.length; i++) {
                    values[i] *= mask[i % mask.length];
                }
                put(name, half(values, slot.shape()));
            } else {
                weight(parameters, name, slot);
            }
        });
        tensors.putAll(EntropyTensors.of(prior));
    }

    private void weight(Parameters parameters, String name, Parameters.Slot slot) {
        float[] values = parameters.averageOf(name);
        boolean vector = slot.shape().length < 2 || name.endsWith("positional_embedding");
        put(name, vector ? Tensor.of(values, slot.shape()) : half(values, slot.shape()));
    }

    private void put(String name, Tensor tensor) {
        tensors.put(name, TensorSource.of(tensor));
    }

    private static Tensor half(float[] values, long[] shape) {
        short[] half = new short[values.length];
        for (int i = 0; i < half.length; i++) {
            half[i] = Float.floatToFloat16(values[i]);
        }
        return new Tensor(ElementType.F16, Shape.of(shape), java.lang.foreign.MemorySegment.ofArray(half));
    }
}

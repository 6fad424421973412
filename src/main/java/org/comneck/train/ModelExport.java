package org.comneck.train;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.comneck.model.EntropyTensors;
import org.comneck.model.Manifest;
import org.comneck.model.ModelWriter;
import org.comneck.model.TensorSource;

/** Run folder to model file: what a surrogate stage trained, and the rest of the model that it started from. */
final class ModelExport {
    private ModelExport() {}

    /**
     * Writes the model file of a surrogate stage, or of a recipe that names one under {@code neck}. The integer tables are made anew where
     * the codec was trained here.
     */
    static void write(Recipe recipe, Path data, Path runFolder, Path target) {
        String stage = recipe.has("stage") ? recipe.name() : recipe.word("neck");
        Path file = Trainer.checkpoint(runFolder, stage);
        Recipe trained = Checkpoint.recipe(file, stage);
        try (ModelParts parts = ModelParts.of(trained, data, runFolder)) {
            Parameters parameters = SurrogateStage.parameters(trained, parts);
            Checkpoint.read(file).restore(file, parameters);
            Map<String, TensorSource> tensors = new LinkedHashMap<>();
            parts.tensors().forEach((name, tensor) -> tensors.put(name, TensorSource.of(tensor)));
            tensors.keySet().removeIf(name -> SurrogateStage.replaces(trained, name));
            ModelParts.stored(parameters).forEach((name, tensor) -> tensors.put(name, TensorSource.of(tensor)));
            if (tensors.containsKey(ModelParts.PRIOR + "quantiles")) {
                // Only the integer tables made of the prior are stored.
                Map<String, TensorSource> prior = new LinkedHashMap<>(tensors);
                prior.keySet().removeIf(name -> !name.startsWith(ModelParts.PRIOR));
                tensors.keySet().removeIf(name -> name.startsWith(ModelParts.PRIOR));
                tensors.putAll(EntropyTensors.of(prior));
            }
            ModelWriter writer = ModelWriter.of(named(
                    recipe.has("name") ? recipe.word("name") : recipe.name(),
                    parts.with(SurrogateStage.neck(trained, parts), parts.tensors())
                            .manifest()));
            tensors.forEach(writer::add);
            writer.write(target);
        }
    }

    private static Manifest named(String name, Manifest m) {
        return new Manifest(
                name,
                m.profile(),
                m.codec(),
                m.preprocessing(),
                m.neck(),
                m.encoder(),
                m.qualities(),
                m.labels(),
                m.tokens());
    }
}

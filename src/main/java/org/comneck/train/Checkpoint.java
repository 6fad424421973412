package org.comneck.train;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.comneck.DamagedDataException;
import org.comneck.model.ModelWriter;
import org.comneck.model.SafetensorsFile;
import org.comneck.tensor.Tensor;

/**
 * Where a stage stands: a safetensors file with the optimiser's vectors, replaced atomically.
 *
 * @param step steps done
 * @param seconds time spent in training so far
 * @param state vectors of {@link Parameters#state}
 */
record Checkpoint(long step, double seconds, Map<String, float[]> state) {
    private static final String STEP = "comneck.step";
    private static final String SECONDS = "comneck.seconds";
    private static final String RECIPE = "comneck.recipe";

    void write(Path file, Recipe recipe) {
        ModelWriter writer = ModelWriter.plain()
                .metadata(STEP, Long.toString(step))
                .metadata(SECONDS, Double.toString(seconds))
                .metadata(RECIPE, recipe.text());
        state.forEach((name, values) -> writer.add(name, Tensor.of(values, values.length)));
        writer.write(file);
    }

    static Checkpoint read(Path file) {
        try (SafetensorsFile source = SafetensorsFile.open(file)) {
            Map<String, float[]> state = new LinkedHashMap<>();
            source.tensors().forEach((name, tensor) -> state.put(name, tensor.toFloats()));
            Map<String, String> metadata = source.metadata();
            return new Checkpoint(Long.parseLong(metadata.get(STEP)), Double.parseDouble(metadata.get(SECONDS)), state);
        } catch (NumberFormatException | NullPointerException e) {
            throw new DamagedDataException(file + " is no checkpoint of comneck train", -1, e);
        }
    }

    /** The recipe that a checkpoint was made with. */
    static Recipe recipe(Path file, String name) {
        try (SafetensorsFile source = SafetensorsFile.open(file)) {
            return Recipe.parse(name, source.metadata().getOrDefault(RECIPE, ""));
        }
    }

    /** Restores the parameters, whose number must be right. */
    void restore(Path file, Parameters parameters) {
        for (String name : parameters.state().keySet()) {
            float[] values = state.get(name);
            if (values == null || values.length != parameters.count()) {
                throw new DamagedDataException(file + ": vector '" + name + "' has "
                        + (values == null ? 0 : values.length) + " values, the recipe's network has "
                        + parameters.count());
            }
        }
        parameters.restore(state);
    }
}

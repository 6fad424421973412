package org.comneck.train;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.model.ModelWriter;
import org.comneck.model.SafetensorsFile;
import org.comneck.tensor.Tensor;

/**
 * Where a stage stands: a safetensors file with the optimiser's vectors, replaced atomically. Its metadata say which tensors the vectors are
 * made of, a line {@code name sizes...} for each, so that a network whose tensors are declared in another order goes on all the same; files
 * of the first version, which lack that, have to fit by their length.
 *
 * @param step steps done
 * @param seconds time spent in training so far
 * @param layout sizes of the tensors that the vectors are made of, in order; empty in files of the first version
 * @param state vectors of {@link Parameters#state}
 */
record Checkpoint(long step, double seconds, Map<String, long[]> layout, Map<String, float[]> state) {
    static final String STEP = "comneck.step";

    private static final String SECONDS = "comneck.seconds";
    private static final String LAYOUT = "comneck.layout";
    private static final String RECIPE = "comneck.recipe";

    /** Nothing trained yet. */
    static final Checkpoint NONE = new Checkpoint(0, 0, Map.of(), Map.of());

    /** Where training stands now. */
    static Checkpoint of(long step, double seconds, Parameters parameters) {
        Map<String, long[]> layout = new LinkedHashMap<>();
        parameters.slots().forEach((name, slot) -> layout.put(name, slot.shape()));
        return new Checkpoint(step, seconds, layout, parameters.state());
    }

    void write(Path file, Recipe recipe) {
        String lines = layout.entrySet().stream()
                .map(tensor -> tensor.getKey()
                        + Arrays.stream(tensor.getValue())
                                .mapToObj(size -> " " + size)
                                .collect(Collectors.joining()))
                .collect(Collectors.joining("\n"));
        ModelWriter writer = ModelWriter.plain()
                .metadata(STEP, Long.toString(step))
                .metadata(SECONDS, Double.toString(seconds))
                .metadata(LAYOUT, lines)
                .metadata(RECIPE, recipe.text());
        state.forEach((name, values) -> writer.add(name, Tensor.of(values, values.length)));
        writer.write(file);
    }

    static Checkpoint read(Path file) {
        try (SafetensorsFile source = SafetensorsFile.open(file)) {
            Map<String, float[]> state = new LinkedHashMap<>();
            source.tensors().forEach((name, tensor) -> state.put(name, tensor.toFloats()));
            Map<String, String> metadata = source.metadata();
            Map<String, long[]> layout = new LinkedHashMap<>();
            metadata.getOrDefault(LAYOUT, "")
                    .lines()
                    .map(line -> line.split(" "))
                    .forEach(words -> layout.put(
                            words[0],
                            Arrays.stream(words)
                                    .skip(1)
                                    .mapToLong(Long::parseLong)
                                    .toArray()));
            return new Checkpoint(
                    Long.parseLong(metadata.get(STEP)), Double.parseDouble(metadata.get(SECONDS)), layout, state);
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

    /**
     * Restores the parameters.
     *
     * @throws UsageException when they are not those of the checkpoint; it names a tensor that differs
     */
    void restore(Path file, Parameters parameters) {
        for (String name : parameters.state().keySet()) {
            float[] values = state.get(name);
            if (values == null) {
                throw new DamagedDataException(file + ": vector '" + name + "' is missing", -1);
            }
            if (layout.isEmpty() && values.length != parameters.count()) {
                throw new UsageException(file + ": vector '" + name + "' has " + values.length
                        + " values, the recipe's network has " + parameters.count() + "; was the recipe changed?");
            }
        }
        if (layout.isEmpty()) {
            parameters.restore(state);
            return;
        }
        fits(file, parameters);
        Map<String, float[]> ordered = new LinkedHashMap<>();
        state.forEach((vector, values) -> {
            float[] own = new float[parameters.count()];
            int from = 0;
            for (String name : layout.keySet()) {
                Parameters.Slot slot = parameters.slots().get(name);
                System.arraycopy(values, from, own, slot.offset(), slot.count());
                from += slot.count();
            }
            ordered.put(vector, own);
        });
        parameters.restore(ordered);
    }

    private void fits(Path file, Parameters parameters) {
        parameters.slots().forEach((name, slot) -> {
            long[] shape = layout.get(name);
            if (!Arrays.equals(shape, slot.shape())) {
                throw new UsageException(file + ": tensor '" + name + "' "
                        + (shape == null ? "is not in it" : "is " + Arrays.toString(shape))
                        + ", the recipe's network has "
                        + Arrays.toString(slot.shape()) + "; was the recipe changed? 'start' takes over weights alone");
            }
        });
        for (String name : layout.keySet()) {
            if (!parameters.has(name)) {
                throw new UsageException(
                        file + ": tensor '" + name + "' is none of the recipe's network; was the recipe changed?");
            }
        }
        for (Map.Entry<String, float[]> vector : state.entrySet()) {
            if (vector.getValue().length != parameters.count()) {
                throw new DamagedDataException(
                        file + ": vector '" + vector.getKey() + "' has " + vector.getValue().length + " values for "
                                + parameters.count(),
                        -1);
            }
        }
    }

    /** The averaged weights by name. Empty for a file of the first version. */
    Map<String, float[]> averages() {
        Map<String, float[]> tensors = new LinkedHashMap<>();
        float[] average = state.get("average");
        int from = 0;
        for (Map.Entry<String, long[]> tensor : layout.entrySet()) {
            int count = Math.toIntExact(Arrays.stream(tensor.getValue()).reduce(1, Math::multiplyExact));
            tensors.put(tensor.getKey(), Arrays.copyOfRange(average, from, from + count));
            from += count;
        }
        return tensors;
    }
}

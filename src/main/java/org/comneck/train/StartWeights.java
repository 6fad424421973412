package org.comneck.train;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.comneck.UsageException;
import org.comneck.entropy.CodingTablesBuilder;
import org.comneck.model.ModelFile;
import org.comneck.model.SafetensorsFile;
import org.comneck.tensor.Tensor;

/**
 * The weights that a stage starts from when its recipe says {@code start}: those of a model file ({@code embedded} or a path), by their
 * published names, or the averages of a checkpoint. The optimiser starts anew.
 *
 * <p>A model file holds the prior of z, {@code entropy_bottleneck.*}, only as integer tables: one is fitted to them.
 */
final class StartWeights {
    private static final String EMBEDDED = "embedded";
    private static final String PRIOR = "entropy_bottleneck.";
    private static final String TABLES = "entropy.factorized";
    private static final String LOG = ".log";

    private final String source;
    private final Map<String, float[]> values = new LinkedHashMap<>();
    private final Map<String, long[]> shapes = new LinkedHashMap<>();
    private final boolean model;

    private StartWeights(String source, boolean model) {
        this.source = source;
        this.model = model;
    }

    /**
     * Sets parameters, weights and averages alike.
     *
     * @param start {@code embedded}, or a file below the run folder, the working directory or the data folder
     * @return a sentence about it
     * @throws UsageException when a tensor is missing or has another shape; it is named
     */
    static String set(String start, Path data, Path runFolder, Parameters parameters) {
        StartWeights weights = start.equals(EMBEDDED)
                ? ofModel(ModelFile.openEmbedded(), parameters)
                : of(find(start, data, runFolder), parameters);
        return weights.set(parameters);
    }

    private static Path find(String start, Path data, Path runFolder) {
        for (Path file : new Path[] {Path.of(start), runFolder.resolve(start)}) {
            if (Files.isRegularFile(file)) {
                return file;
            }
        }
        return Photos.resolve(data, start);
    }

    private static StartWeights of(Path file, Parameters parameters) {
        try (SafetensorsFile opened = SafetensorsFile.open(file)) {
            if (!opened.metadata().containsKey(Checkpoint.STEP)) {
                return ofModel(ModelFile.open(file), parameters);
            }
        }
        Checkpoint checkpoint = Checkpoint.read(file);
        if (checkpoint.layout().isEmpty()) {
            throw new UsageException(file + ": is a checkpoint of the first version, which does not name its tensors;"
                    + " write a model file of its run (comneck train --export) and start from that");
        }
        StartWeights weights = new StartWeights(file.toString(), false);
        weights.values.putAll(checkpoint.averages());
        weights.shapes.putAll(checkpoint.layout());
        return weights;
    }

    private static StartWeights ofModel(ModelFile file, Parameters parameters) {
        try (file) {
            Map<String, Tensor> tensors = new LinkedHashMap<>();
            file.names().forEach(name -> tensors.put(name, file.tensor(name)));
            StartWeights weights = of(file.file(), tensors);
            if (parameters.has(PRIOR + "quantiles")
                    && file.has(TABLES + ".medians")
                    && !file.has(PRIOR + "quantiles")) {
                ModelParts.fitPrior(
                                CodingTablesBuilder.fromTensors(TABLES, file::tensor),
                                file.tensor(TABLES + ".medians").toFloats())
                        .forEach((name, values) -> {
                            Parameters.Slot slot = parameters.slots().get(name);
                            boolean fits = slot != null && slot.count() == values.length;
                            weights.values.put(name, values);
                            weights.shapes.put(name, fits ? slot.shape() : new long[] {values.length});
                        });
            }
            return weights;
        }
    }

    /** The tensors of a model file. */
    static StartWeights of(String source, Map<String, Tensor> tensors) {
        StartWeights weights = new StartWeights(source, true);
        tensors.forEach((name, tensor) -> {
            weights.values.put(name, tensor.toFloats());
            weights.shapes.put(name, tensor.shape().toArray());
        });
        return weights;
    }

    String set(Parameters parameters) {
        int fresh = 0;
        for (Map.Entry<String, Parameters.Slot> slot : parameters.slots().entrySet()) {
            String name = slot.getKey();
            boolean log = model && name.endsWith(LOG);
            String stored = log ? name.substring(0, name.length() - LOG.length()) : name;
            if (model && name.startsWith(PRIOR) && !values.containsKey(stored)) {
                fresh++;
                continue;
            }
            long[] shape = shapes.get(stored);
            if (shape == null) {
                throw new UsageException(
                        "start: " + source + " has no tensor '" + stored + "', which the recipe's network needs");
            }
            if (!Arrays.equals(shape, slot.getValue().shape())) {
                throw new UsageException("start: tensor '" + stored + "' is " + Arrays.toString(shape) + " in " + source
                        + ", the recipe's network has "
                        + Arrays.toString(slot.getValue().shape()));
            }
            float[] own = values.get(stored).clone();
            for (int i = 0; log && i < own.length; i++) {
                own[i] = (float) Math.log(own[i]);
            }
            parameters.set(name, Ops.of(own, shape));
        }
        return "starts from the weights of " + source + (fresh > 0 ? "; the prior of z starts anew" : "");
    }
}

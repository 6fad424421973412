package org.comneck.model;

import java.util.LinkedHashMap;
import java.util.Map;
import org.comneck.DamagedDataException;
import org.comneck.backend.Backend;
import org.comneck.backend.Convolution;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * Layers of one model on one backend, packed when they are first asked for: who only decodes tokens never packs the analysis transform.
 * Closing closes them all. Thread-safe.
 */
public final class ModelLayers implements AutoCloseable {
    private final Backend backend;
    private final ModelFile model;
    private final Map<String, Layer> layers = new LinkedHashMap<>();
    private boolean closed;

    /** Layers of this model; the model must stay open until they are closed. */
    public ModelLayers(Backend backend, ModelFile model) {
        this.backend = backend;
        this.model = model;
    }

    /** The model whose layers these are. */
    public ModelFile model() {
        return model;
    }

    /**
     * The layer of {@code name.weight} and, where the file has it, {@code name.bias}; its output channels are those of the weight.
     *
     * @param geometry turns the number of output channels into the layer's geometry
     * @throws DamagedDataException when the weight is missing or does not fit, with both shapes
     */
    public Layer layer(String name, boolean inputFirst, OfOutput geometry, Precision precision) {
        Tensor weight = model.tensor(name + ".weight");
        if (weight.shape().rank() < 2) {
            throw wrong(name + ".weight", weight, "at least two dimensions");
        }
        int output = (int) Math.min(weight.shape().size(inputFirst ? 1 : 0), Integer.MAX_VALUE);
        String bias = name + ".bias";
        return layer(name, weight, model.has(bias) ? bias : null, geometry.of(output), precision);
    }

    /**
     * A layer of a weight that is not called {@code name.weight}.
     *
     * @param key under which the layer is kept
     * @param weight its weight, in the geometry's layout
     * @param bias name of its bias, or null
     * @throws DamagedDataException when weight or bias do not fit the geometry, with both shapes
     */
    public synchronized Layer layer(String key, Tensor weight, String bias, Convolution geometry, Precision precision) {
        if (closed) {
            throw new IllegalStateException("the layers are closed");
        }
        return layers.computeIfAbsent(key + " " + precision, k -> {
            boolean inputFirst = geometry.kind() == Convolution.Kind.TRANSPOSED;
            int first = inputFirst ? geometry.inputChannels() : geometry.outputChannels();
            int second = inputFirst ? geometry.outputChannels() : geometry.inputChannels();
            boolean linear = geometry.kernelHeight() == 1 && geometry.kernelWidth() == 1;
            Shape expected = linear && weight.shape().rank() == 2
                    ? Shape.of(first, second)
                    : Shape.of(first, second, geometry.kernelHeight(), geometry.kernelWidth());
            if (!weight.shape().equals(expected)) {
                throw wrong(key, weight, expected.toString());
            }
            Tensor added = bias == null ? null : model.tensor(bias, geometry.outputChannels());
            return backend.layer(geometry, weight, added, precision);
        });
    }

    private DamagedDataException wrong(String name, Tensor tensor, String expected) {
        return new DamagedDataException(
                model.file() + ": tensor '" + name + "' has shape " + tensor.shape() + " instead of " + expected);
    }

    /** Geometry of a layer that gives this many channels. */
    @FunctionalInterface
    public interface OfOutput {
        Convolution of(int outputChannels);
    }

    /** Closes every layer. Idempotent; runs that use them must be closed before. */
    @Override
    public synchronized void close() {
        closed = true;
        layers.values().forEach(Layer::close);
        layers.clear();
    }
}

package org.comneck.vision;

import org.comneck.DamagedDataException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.RunBuilder;
import org.comneck.model.ModelFile;
import org.comneck.model.ModelLayers;
import org.comneck.tensor.ElementType;

/**
 * From encoder tokens to a language model's embeddings, as LLaVA does it: one linear layer, or two with exact GELU between them. Names:
 * {@code multi_modal_projector.linear_1} and {@code linear_2}. Thread-safe.
 */
public final class MultimodalProjector implements AutoCloseable {
    private static final String FIRST = "multi_modal_projector.linear_1";
    private static final String SECOND = "multi_modal_projector.linear_2";

    private final ModelLayers layers;
    private final Precision precision;

    private MultimodalProjector(Backend backend, ModelFile model, Precision precision) {
        this.layers = new ModelLayers(backend, model);
        this.precision = precision;
    }

    /** True when the model holds a projector. */
    public static boolean isIn(ModelFile model) {
        return model.has(FIRST + ".weight");
    }

    /**
     * The projector of a model file.
     *
     * @param model stays open until the projector is closed
     * @throws DamagedDataException when the model has none
     */
    public static MultimodalProjector load(Backend backend, ModelFile model, Precision precision) {
        if (!isIn(model)) {
            throw new DamagedDataException(model.file() + ": the model has no multimodal projector");
        }
        return new MultimodalProjector(backend, model, precision);
    }

    /**
     * Records the projector.
     *
     * @param tokens F32 (B,N,D); not released
     * @return F32 (B,N,H), H the language model's width
     */
    public Activation record(RunBuilder run, Activation tokens) {
        run.stage("projector");
        boolean two = layers.model().has(SECOND + ".weight");
        Layer first = layers.layer(FIRST, false, out -> Convolution.linear(tokens.channels(), out), precision);
        int hidden = first.geometry().outputChannels();
        Activation x = run.buffer(
                two ? precision.operands() : ElementType.F32,
                Grid.FULL,
                tokens.images(),
                tokens.height(),
                tokens.width(),
                hidden);
        run.convolution(first, tokens, null, two ? Function.GELU : Function.NONE, x);
        if (!two) {
            return x;
        }
        Layer second = layers.layer(SECOND, false, out -> Convolution.linear(hidden, out), precision);
        Activation out = run.buffer(
                ElementType.F32,
                Grid.FULL,
                tokens.images(),
                tokens.height(),
                tokens.width(),
                second.geometry().outputChannels());
        run.convolution(second, x, null, Function.NONE, out);
        run.release(x);
        return out;
    }

    /** Frees the packed weights. Idempotent; runs must be closed before. */
    @Override
    public void close() {
        layers.close();
    }
}

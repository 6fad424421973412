package org.comneck.neck;

import java.util.ArrayList;
import java.util.List;
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
import org.comneck.tensor.Tensor;

/**
 * The transform-neck: {@code yHat (B,h,w,M) -> linear -> class token, positions -> ln_pre -> block(s) -> (B,1+h*w,D)}, by the names of
 * the published adapter. Its output enters the encoder at block {@link #entry}. Thread-safe.
 */
public final class Neck implements AutoCloseable {
    /** LayerNorm's epsilon in the published code. */
    private static final float EPSILON = 1e-5f;

    private final ModelLayers layers;
    private final Precision precision;
    private final int entry;
    private final int width;
    private final PositionTable positions;
    private final List<TransformerBlock> blocks = new ArrayList<>();

    private Neck(Backend backend, ModelFile model, Precision precision) {
        this.layers = new ModelLayers(backend, model);
        this.precision = precision;
        this.entry = model.manifest().neck().entry();
        this.width =
                Math.toIntExact(model.tensor("trans_latent_dim.weight").shape().size(0));
        this.positions = new PositionTable(model.tensor("positional_embedding"), 1, "positional_embedding");
        for (int i = 0; model.has("transformer.resblocks." + i + ".ln_1.weight"); i++) {
            blocks.add(new TransformerBlock(
                    TransformerBlock.Names.clip("transformer.resblocks." + i),
                    width,
                    model.manifest().neck().heads(),
                    Function.QUICK_GELU,
                    EPSILON));
        }
    }

    /**
     * The neck of a model file.
     *
     * @param model stays open until the neck is closed
     * @throws DamagedDataException when the model has no neck
     */
    public static Neck load(Backend backend, ModelFile model, Precision precision) {
        if (model.manifest().neck() == null) {
            throw new DamagedDataException(model.file() + ": the model has no neck");
        }
        return new Neck(backend, model, precision);
    }

    /** Number of encoder blocks that the neck stands in for; its output enters the block of this number. */
    public int entry() {
        return entry;
    }

    /** True when latents of this grid need interpolated positions. */
    public boolean interpolates(int height, int columns) {
        return positions.interpolates(height, columns);
    }

    /**
     * Records the neck.
     *
     * @param yHat F32 (B,h,w,M), ungained; not released
     * @return F32, height 1, 1 + h*w tokens, D channels
     */
    public Activation record(RunBuilder run, Activation yHat) {
        run.stage("neck");
        ModelFile model = layers.model();
        Layer linear =
                layers.layer("trans_latent_dim", false, out -> Convolution.linear(yHat.channels(), out), precision);
        Activation patches = run.buffer(ElementType.F32, Grid.FULL, yHat.images(), yHat.height(), yHat.width(), width);
        run.convolution(linear, yHat, null, Function.NONE, patches);
        int tokens = 1 + yHat.height() * yHat.width();
        Activation x = run.buffer(ElementType.F32, Grid.FULL, yHat.images(), 1, tokens, width);
        Tensor table = positions.forGrid(yHat.height(), yHat.width());
        run.embedNorm(
                patches,
                model.tensor("class_embedding", width),
                table,
                model.tensor("ln_pre.weight", width),
                model.tensor("ln_pre.bias", width),
                EPSILON,
                x);
        run.release(patches);
        for (TransformerBlock block : blocks) {
            Activation next = block.record(run, layers, precision, x);
            run.release(x);
            x = next;
        }
        return x;
    }

    /** Frees the packed weights. Idempotent; runs must be closed before. */
    @Override
    public void close() {
        layers.close();
    }
}

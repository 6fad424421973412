package org.comneck.codec;

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

/**
 * A U-Net (Ronneberger, Fischer and Brox, 2015) that makes a decoded picture fit for an encoder: the baseline that a neck is compared with. An
 * optional part of a model file; its depth and widths w[0..] are those of its tensors. Thread-safe.
 *
 * <pre>
 *   x (B,H,W,3) -> down.0: 3x3, 3x3 -> (B,H,W,w0) -> down.i: 3x3 of stride 2, 3x3 -> (B,H/2^i,W/2^i,wi)
 *     -> up.i: 2x2 transposed of stride 2, beside down.i's result, 3x3, 3x3 -> (B,H/2^i,W/2^i,wi) -> out: 1x1 -> plus x (B,H,W,3)
 * </pre>
 *
 * A convolution of stride 2 stands in for pooling and the convolution after it, at the same cost; ReLU follows all 3x3 convolutions.
 */
public final class PostProcessing implements AutoCloseable {
    /** What its tensors' names begin with. */
    public static final String PREFIX = "post.";

    private static final String OUT = PREFIX + "out";

    private final ModelLayers layers;
    private final Precision precision;
    private final int levels;

    private PostProcessing(Backend backend, ModelFile model, Precision precision) {
        this.layers = new ModelLayers(backend, model);
        this.precision = precision;
        int found = 0;
        while (model.has(down(found) + ".0.weight")) {
            found++;
        }
        this.levels = found;
    }

    /** Whether a model file has one. */
    public static boolean isIn(ModelFile model) {
        return model.has(OUT + ".weight");
    }

    /**
     * That of a model file.
     *
     * @param model stays open until this is closed
     * @throws DamagedDataException when the model has none
     */
    public static PostProcessing load(Backend backend, ModelFile model, Precision precision) {
        if (!isIn(model)) {
            throw new DamagedDataException(model.file() + ": the model has no post-processing network");
        }
        return new PostProcessing(backend, model, precision);
    }

    /** Name of a level on the way down, without {@code .0} and {@code .1} for its convolutions. */
    public static String down(int level) {
        return PREFIX + "down." + level;
    }

    /** Name of a level on the way up, without {@code .0} for the transposed convolution, {@code .1} and {@code .2}. */
    public static String up(int level) {
        return PREFIX + "up." + level;
    }

    /** Sides of pictures are multiples of this many pixels. */
    public int alignment() {
        return 1 << (levels - 1);
    }

    /**
     * Records the network.
     *
     * @param picture F32 (B,H,W,3), RGB in [0,1]; not released
     * @return F32 of the same shape, about [0,1], not clamped
     */
    public Activation record(RunBuilder run, Activation picture) {
        if (picture.channels() != 3 || picture.height() % alignment() != 0 || picture.width() % alignment() != 0) {
            throw new IllegalArgumentException("not an RGB picture of multiples of " + alignment() + ": " + picture);
        }
        run.stage("post-processing");
        Networks net = new Networks(run, layers, precision);
        List<Activation> skips = new ArrayList<>();
        Activation x = picture;
        for (int i = 0; i < levels; i++) {
            Activation first = net.convolution(down(i) + ".0", x, 3, i == 0 ? 1 : 2, Function.RELU);
            x = net.replace(first, net.convolution(down(i) + ".1", first, 3, 1, Function.RELU));
            skips.add(x);
        }
        for (int i = levels - 2; i >= 0; i--) {
            x = net.replace(x, net.doubling(up(i) + ".0", x, 2, Function.NONE));
            Activation skip = skips.get(i);
            Activation joined = net.convolution(up(i) + ".1", List.of(skip, x), 3, 1, Function.RELU, Grid.FULL);
            run.release(skip);
            run.release(x);
            x = net.replace(joined, net.convolution(up(i) + ".2", joined, 3, 1, Function.RELU));
        }
        int width = x.channels();
        Layer layer = layers.layer(OUT, false, out -> Convolution.linear(width, out), precision);
        Activation out = run.buffer(ElementType.F32, Grid.FULL, picture.images(), picture.height(), picture.width(), 3);
        run.convolution(layer, x, picture, Function.NONE, out);
        run.release(x);
        return out;
    }

    /** Frees the packed weights. Idempotent; runs must be closed before. */
    @Override
    public void close() {
        layers.close();
    }
}

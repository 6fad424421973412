package org.comneck.vision;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
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
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.ModelLayers;
import org.comneck.neck.PositionTable;
import org.comneck.neck.TransformerBlock;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * A vision transformer: {@code pixels -> embed -> (B,N,D) -> blocks entry..layer -> (B,N,D) -> select -> post-norm -> projection}. It may be
 * entered at any block with embeddings that come from elsewhere. Thread-safe; weights are packed when they are first needed, so that blocks
 * that a neck stands in for cost nothing.
 */
public final class VisionEncoder implements AutoCloseable {
    /** Which tokens leave the encoder. */
    public enum Tokens {
        /** Class token, then patches. */
        ALL,
        /** Without class token. */
        PATCHES,
        /** The class token alone. */
        CLS
    }

    /** How often the final norm is applied; the published ComNeck code applies CLIP's twice. */
    public enum PostNorm {
        NONE(0),
        ONCE(1),
        TWICE(2);

        private final int times;

        PostNorm(int times) {
            this.times = times;
        }
    }

    private final ModelLayers layers;
    private final ModelFile model;
    private final Precision precision;
    private final Manifest.Encoder encoder;
    private final boolean timm;
    private final String patchName;
    private final String classTokenName;
    private final String positionsName;
    private final String postNormName;
    private final List<TransformerBlock> blocks = new ArrayList<>();

    private VisionEncoder(Backend backend, ModelFile model, Precision precision) {
        this.layers = new ModelLayers(backend, model);
        this.model = model;
        this.precision = precision;
        this.encoder = model.manifest().encoder();
        this.timm = encoder.type().equals("timm");
        this.patchName = timm ? "visual.trunk.patch_embed.proj" : "visual.conv1";
        this.classTokenName = timm ? "visual.trunk.cls_token" : "visual.class_embedding";
        this.positionsName = timm ? "visual.trunk.pos_embed" : "visual.positional_embedding";
        this.postNormName = timm ? "visual.trunk.norm" : "visual.ln_post";
        Function activation = switch (encoder.activation()) {
            case "quick_gelu" -> Function.QUICK_GELU;
            case "gelu" -> Function.GELU;
            default ->
                throw new DamagedDataException(model.file() + ": unknown activation '" + encoder.activation() + "'");
        };
        for (int i = 0; i < encoder.layers(); i++) {
            TransformerBlock.Names names = timm
                    ? TransformerBlock.Names.timm("visual.trunk.blocks." + i)
                    : TransformerBlock.Names.clip("visual.transformer.resblocks." + i);
            blocks.add(new TransformerBlock(
                    names, encoder.width(), encoder.heads(), activation, (float) encoder.epsilon()));
        }
    }

    /**
     * The encoder of a model file.
     *
     * @param model stays open until the encoder is closed
     * @throws DamagedDataException when the model has no encoder
     */
    public static VisionEncoder load(Backend backend, ModelFile model, Precision precision) {
        if (model.manifest().encoder() == null) {
            throw new DamagedDataException(model.file() + ": the model has no encoder");
        }
        return new VisionEncoder(backend, model, precision);
    }

    /** D, channels of a token. */
    public int width() {
        return encoder.width();
    }

    /** Number of blocks. */
    public int depth() {
        return blocks.size();
    }

    /** True when the model holds a class token. */
    public boolean hasClassToken() {
        return model.has(classTokenName);
    }

    /** True when tokens can be projected. */
    public boolean hasProjection() {
        return model.has("visual.proj");
    }

    /** True when the model holds a classification head. */
    public boolean hasClassHead() {
        return timm && model.has("visual.trunk.head.weight");
    }

    /**
     * How many blocks run for a layer.
     *
     * @param layer output of that many blocks, 0 for the embeddings; or negative: -1 is the last block's output, -2 that of the one before
     * @throws IllegalArgumentException when there is no such layer
     */
    public int blocksOf(int layer) {
        int count = layer < 0 ? blocks.size() + 1 + layer : layer;
        if (count < 0 || count > blocks.size()) {
            throw new IllegalArgumentException("layer " + layer + " of an encoder with " + blocks.size() + " blocks");
        }
        return count;
    }

    /**
     * Records the embedding of pixels.
     *
     * @param pixels U8 (B,H,W,3) RGB; H and W multiples of the patch are used, a remainder at the right and bottom is not
     * @return F32 tokens (B,N,D) for block 0; positions are interpolated when the grid is not the model's
     */
    public Activation embed(RunBuilder run, Activation pixels) {
        run.stage("embedding");
        Activation image = run.buffer(ElementType.F32, Grid.FULL, pixels.images(), pixels.height(), pixels.width(), 3);
        run.normalize(pixels, floats(encoder.mean()), floats(encoder.std()), image);
        Activation tokens = embedNormalized(run, image);
        run.release(image);
        return tokens;
    }

    /** {@link #embed} of pixels whose mean and deviation are already normalised, F32 (B,H,W,3). */
    public Activation embedNormalized(RunBuilder run, Activation image) {
        int patch = encoder.patch();
        int width = encoder.width();
        int rows = image.height() / patch;
        int columns = image.width() / patch;
        if (rows < 1 || columns < 1) {
            throw new IllegalArgumentException(image + " is smaller than a patch of " + patch);
        }
        Layer layer = layers.layer(patchName, false, out -> Convolution.patches(3, out, patch), precision);
        Activation patches = run.buffer(ElementType.F32, Grid.FULL, image.images(), rows, columns, width);
        run.convolution(layer, image, null, Function.NONE, patches);
        boolean cls = hasClassToken();
        Tensor classToken = cls ? vector(classTokenName) : null;
        Tensor positions =
                new PositionTable(model.tensor(positionsName), cls ? 1 : 0, positionsName).forGrid(rows, columns);
        int tokens = rows * columns + (cls ? 1 : 0);
        Activation x = run.buffer(ElementType.F32, Grid.FULL, image.images(), 1, tokens, width);
        if (timm) {
            run.embed(patches, classToken, positions, x);
        } else {
            Tensor weight = model.tensor("visual.ln_pre.weight", width);
            Tensor bias = model.tensor("visual.ln_pre.bias", width);
            run.embedNorm(patches, classToken, positions, weight, bias, (float) encoder.epsilon(), x);
        }
        run.release(patches);
        return x;
    }

    /** True when pictures of this size need interpolated positions. */
    public boolean interpolates(int height, int columns) {
        PositionTable table = new PositionTable(model.tensor(positionsName), hasClassToken() ? 1 : 0, positionsName);
        return table.interpolates(height / encoder.patch(), columns / encoder.patch());
    }

    /**
     * Records blocks.
     *
     * @param tokens F32 (B,N,D), the input of block {@code entry}; not released
     * @param entry first block
     * @param layer where to stop, see {@link #blocksOf}
     * @return a new buffer, or {@code tokens} itself when no block lies between
     */
    public Activation blocks(RunBuilder run, Activation tokens, int entry, int layer) {
        int end = blocksOf(layer);
        if (entry < 0 || entry > end) {
            throw new IllegalArgumentException(
                    "layer " + layer + " is the output of " + end + " blocks, but the first to run is number " + entry);
        }
        run.stage("encoder");
        Activation x = tokens;
        for (TransformerBlock block : blocks.subList(entry, end)) {
            Activation next = block.record(run, layers, precision, x);
            if (x != tokens) {
                run.release(x);
            }
            x = next;
        }
        return x;
    }

    /**
     * Records what follows the blocks.
     *
     * @param x F32 (B,N,D); not released
     * @param projected whether tokens are multiplied by the projection
     * @return a new buffer, F32 (B,T,D or P), or x itself when nothing was asked for
     */
    public Activation head(RunBuilder run, Activation x, Tokens select, PostNorm postNorm, boolean projected) {
        run.stage("head");
        int cls = hasClassToken() ? 1 : 0;
        if (select == Tokens.CLS && cls == 0) {
            throw new IllegalArgumentException("the encoder has no class token");
        }
        Activation out = x;
        if (select != Tokens.ALL && cls == 1) {
            int count = select == Tokens.CLS ? 1 : x.positions() - 1;
            Activation chosen = run.buffer(ElementType.F32, Grid.FULL, x.images(), 1, count, x.channels());
            run.selectTokens(x, select == Tokens.CLS ? 0 : 1, chosen);
            out = chosen;
        }
        for (int i = 0; i < postNorm.times; i++) {
            Activation normed = run.buffer(ElementType.F32, Grid.FULL, x.images(), 1, out.positions(), x.channels());
            norm(run, postNormName, out, normed);
            out = replace(run, x, out, normed);
        }
        if (projected) {
            Layer layer = projection();
            Activation product = run.buffer(
                    ElementType.F32,
                    Grid.FULL,
                    x.images(),
                    1,
                    out.positions(),
                    layer.geometry().outputChannels());
            run.convolution(layer, out, null, Function.NONE, product);
            out = replace(run, x, out, product);
        }
        return out;
    }

    /**
     * Records the classification head of a timm model: norm, class token, linear.
     *
     * @param x F32 (B,N,D), the last block's output; not released
     * @return F32, one position, one channel a class
     */
    public Activation classLogits(RunBuilder run, Activation x) {
        if (!hasClassHead()) {
            throw new IllegalArgumentException("the encoder has no classification head");
        }
        Activation token = head(run, x, Tokens.CLS, PostNorm.ONCE, false);
        Layer layer = layers.layer(
                "visual.trunk.head", false, out -> Convolution.linear(encoder.width(), out), Precision.F32);
        Activation logits = run.buffer(
                ElementType.F32, Grid.FULL, x.images(), 1, 1, layer.geometry().outputChannels());
        run.convolution(layer, token, null, Function.NONE, logits);
        run.release(token);
        return logits;
    }

    private static Activation replace(RunBuilder run, Activation source, Activation old, Activation replacement) {
        if (old != source) {
            run.release(old);
        }
        return replacement;
    }

    /** {@code visual.proj} is [D,P]: tokens stand on its left. */
    private Layer projection() {
        if (!hasProjection()) {
            throw new IllegalArgumentException("the encoder has no projection");
        }
        Tensor proj = model.tensor("visual.proj");
        int width = encoder.width();
        int out = (int) proj.shape().size(-1);
        if (!proj.shape().equals(Shape.of(width, out))) {
            throw new DamagedDataException(model.file() + ": tensor 'visual.proj' has shape " + proj.shape()
                    + " instead of [" + width + ",P]");
        }
        float[] values = proj.toFloats();
        float[] transposed = new float[values.length];
        for (int i = 0; i < values.length; i++) {
            transposed[i % out * width + i / out] = values[i];
        }
        // Backends read native memory; the copy is needed only until the layer is packed.
        try (Arena arena = Arena.ofShared()) {
            MemorySegment memory = arena.allocate(4L * values.length, 64);
            memory.copyFrom(MemorySegment.ofArray(transposed));
            Tensor weight = new Tensor(ElementType.F32, Shape.of(out, width), memory);
            return layers.layer("visual.proj", weight, null, Convolution.linear(width, out), precision);
        }
    }

    private void norm(RunBuilder run, String name, Activation x, Activation out) {
        run.layerNorm(
                x,
                model.tensor(name + ".weight", encoder.width()),
                model.tensor(name + ".bias", encoder.width()),
                (float) encoder.epsilon(),
                out);
    }

    /** A vector that may be stored as [1,1,D]. */
    private Tensor vector(String name) {
        Tensor tensor = model.tensor(name);
        if (tensor.shape().elements() != encoder.width()) {
            throw new DamagedDataException(model.file() + ": tensor '" + name + "' has shape " + tensor.shape()
                    + " instead of [" + encoder.width() + "]");
        }
        return new Tensor(tensor.type(), Shape.of(encoder.width()), tensor.data());
    }

    private static float[] floats(List<Double> values) {
        float[] out = new float[values.size()];
        for (int i = 0; i < out.length; i++) {
            out[i] = values.get(i).floatValue();
        }
        return out;
    }

    /** Frees the packed weights. Idempotent; runs must be closed before. */
    @Override
    public void close() {
        layers.close();
    }
}

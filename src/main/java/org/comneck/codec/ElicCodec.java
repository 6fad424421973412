package org.comneck.codec;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.RunBuilder;
import org.comneck.entropy.CodingTablesBuilder;
import org.comneck.entropy.GaussianConditional;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.ModelLayers;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;

/**
 * ELIC (He et al., CVPR 2022, arXiv 2203.10886), by the names of the published checkpoints.
 *
 * <pre>
 *   image (H,W,3) -> g_a -> y (h,w,M) -> h_a -> z (h/4,w/4,N) -> h_s -> hyper (h,w,2M)
 *   slice i, of g channels:
 *     channel context  cc (h,w,2g) = cc_transforms(i-1)(slice 0, slice i-1)                      i > 0
 *     anchors          mean, scale = ParamAggregation.i(absent, cc, hyper)
 *     non-anchors      mean, scale = ParamAggregation.i(context_prediction.i(anchors), cc, hyper)
 * </pre>
 *
 * The published code runs the aggregation twice over all positions; here each pass computes only its own half.
 */
final class ElicCodec implements Codec {
    private static final int STRIDE = 16;
    private static final int ALIGNMENT = 64;

    private final Backend backend;
    private final ModelFile model;
    private final ModelLayers layers;
    private final Precision transforms;
    private final int n;
    private final int m;
    private final int[] slices;
    private final Gains gains;
    private final Gains inverseGains;
    private Backend.Tables hyperTables;
    private Backend.Tables latentTables;

    ElicCodec(Backend backend, ModelFile model, Precision transforms) {
        Manifest manifest = model.manifest();
        this.backend = backend;
        this.model = model;
        this.layers = new ModelLayers(backend, model);
        this.transforms = transforms;
        this.n = manifest.codec().n();
        this.m = manifest.codec().m();
        this.slices =
                manifest.codec().slices().stream().mapToInt(Integer::intValue).toArray();
        int qualities = manifest.qualities().size();
        boolean gained = model.has("gain.y");
        this.gains = gained ? Gains.read(model, "gain.y", qualities, m) : null;
        this.inverseGains = gained ? Gains.read(model, "gain.y_inverse", qualities, m) : null;
    }

    @Override
    public int latentChannels() {
        return m;
    }

    @Override
    public int hyperChannels() {
        return n;
    }

    @Override
    public int stride() {
        return STRIDE;
    }

    @Override
    public int alignment() {
        return ALIGNMENT;
    }

    @Override
    public int qualities() {
        return gains == null ? 1 : gains.rows().length;
    }

    @Override
    public boolean hasGains() {
        return gains != null;
    }

    @Override
    public float[] gain(double quality) {
        return gains == null ? ones() : gains.at(quality);
    }

    @Override
    public float[] inverseGain(double quality) {
        return inverseGains == null ? ones() : inverseGains.at(quality);
    }

    private float[] ones() {
        float[] ones = new float[m];
        Arrays.fill(ones, 1f);
        return ones;
    }

    @Override
    public Activation analysis(RunBuilder run, Activation image, Activation factors) {
        if (image.channels() != 3 || image.height() % ALIGNMENT != 0 || image.width() % ALIGNMENT != 0) {
            throw new IllegalArgumentException("not an RGB picture of multiples of " + ALIGNMENT + ": " + image);
        }
        if ((factors != null) != hasGains()) {
            throw new IllegalArgumentException(hasGains() ? "gains are needed" : "this codec takes no gains");
        }
        run.stage("analysis");
        Networks net = new Networks(run, layers, transforms);
        Activation x = net.convolution("g_a.0", image, 5, 2);
        x = net.bottlenecks("g_a", x, 1, 2, 3);
        x = net.replace(x, net.convolution("g_a.4", x, 5, 2));
        x = net.bottlenecks("g_a", x, 5, 6, 7);
        x = net.replace(x, net.attention("g_a.8", x));
        x = net.replace(x, net.convolution("g_a.9", x, 5, 2));
        x = net.bottlenecks("g_a", x, 10, 11, 12);
        x = net.replace(x, net.convolution("g_a.13", x, 5, 2));
        x = net.replace(x, net.attention("g_a.14", x));
        if (factors != null) {
            Activation y = net.like(x, ElementType.F32, x.channels());
            run.scale(x, factors, y);
            x = net.replace(x, y);
        }
        return x;
    }

    @Override
    public Activation ungain(RunBuilder run, Activation yHat, Activation factors) {
        if ((factors != null) != hasGains()) {
            throw new IllegalArgumentException(hasGains() ? "inverse gains are needed" : "this codec takes no gains");
        }
        if (factors == null) {
            return yHat;
        }
        Activation out =
                run.buffer(ElementType.F32, Grid.FULL, yHat.images(), yHat.height(), yHat.width(), yHat.channels());
        run.scale(yHat, factors, out);
        return out;
    }

    @Override
    public Activation synthesis(RunBuilder run, Activation yHat) {
        run.stage("synthesis");
        Networks net = new Networks(run, layers, transforms);
        Activation x = net.attention("g_s.0", yHat);
        x = net.replace(x, net.doubling("g_s.1", x, 5, Function.NONE));
        x = net.bottlenecks("g_s", x, 2, 3, 4);
        x = net.replace(x, net.doubling("g_s.5", x, 5, Function.NONE));
        x = net.replace(x, net.attention("g_s.6", x));
        x = net.bottlenecks("g_s", x, 7, 8, 9);
        x = net.replace(x, net.doubling("g_s.10", x, 5, Function.NONE));
        x = net.bottlenecks("g_s", x, 11, 12, 13);
        return net.replace(x, net.doubling("g_s.14", x, 5, Function.NONE));
    }

    /** y (h,w,M) to z (h/4,w/4,N). */
    Activation hyperAnalysis(RunBuilder run, Activation y) {
        run.stage("hyper-analysis");
        Networks net = new Networks(run, layers, Precision.F32);
        Activation x = net.convolution("h_a.0", y, 3, 1, Function.RELU);
        x = net.replace(x, net.convolution("h_a.2", x, 5, 2, Function.RELU));
        return net.replace(x, net.convolution("h_a.4", x, 5, 2));
    }

    /** zHat (h/4,w/4,N) to means and scales (h,w,2M). */
    Activation hyperSynthesis(RunBuilder run, Activation zHat) {
        run.stage("hyper-synthesis");
        Networks net = new Networks(run, layers, Precision.F32);
        Activation x = net.doubling("h_s.0", zHat, 5, Function.RELU);
        x = net.replace(x, net.doubling("h_s.2", x, 5, Function.RELU));
        return net.replace(x, net.convolution("h_s.4", x, 3, 1));
    }

    /** Channel context of slice i > 0 from decoded slices 0 and i - 1, at all positions; null for slice 0. */
    Activation channelContext(RunBuilder run, int i, Activation yHat) {
        if (i == 0) {
            return null;
        }
        Networks net = new Networks(run, layers, Precision.F32);
        String name = "cc_transforms." + (i - 1);
        List<Activation> sources = i == 1 ? List.of(slice(yHat, 0)) : List.of(slice(yHat, 0), slice(yHat, i - 1));
        Activation x = net.convolution(name + ".0", sources, 5, 1, Function.RELU, Grid.FULL);
        x = net.replace(x, net.convolution(name + ".2", x, 5, 1, Function.RELU));
        return net.replace(x, net.convolution(name + ".4", x, 5, 1));
    }

    /**
     * Means and scales of slice i at the positions of one half grid.
     *
     * @param channelContext of the slice, or null for slice 0
     * @param yHat read at the anchors when the grid is NON_ANCHORS
     */
    Activation parameters(
            RunBuilder run, int i, Grid grid, Activation channelContext, Activation hyper, Activation yHat) {
        Networks net = new Networks(run, layers, Precision.F32);
        Activation context = null;
        if (grid == Grid.NON_ANCHORS) {
            Activation decoded = slice(yHat, i);
            Layer layer = layers.layer(
                    "context_prediction." + i,
                    false,
                    out -> Convolution.checkerboard(decoded.channels(), out, 5),
                    Precision.F32);
            context = run.buffer(
                    ElementType.F32,
                    grid,
                    yHat.images(),
                    yHat.height(),
                    yHat.width(),
                    layer.geometry().outputChannels());
            run.convolution(layer, decoded, null, Function.NONE, context);
        }
        List<Activation> sources = new ArrayList<>();
        sources.add(context); // absent, not zero, at the anchors
        if (channelContext != null) {
            sources.add(channelContext);
        }
        sources.add(hyper);
        int[] absent = context == null ? new int[] {2 * slices[i]} : new int[0];
        String name = "ParamAggregation." + i;
        Activation x = net.pointwise(name + ".0", sources, absent, Function.RELU, grid);
        if (context != null) {
            run.release(context);
        }
        x = net.replace(x, net.pointwise(name + ".2", List.of(x), new int[0], Function.RELU, grid));
        return net.replace(x, net.pointwise(name + ".4", List.of(x), new int[0], Function.NONE, grid));
    }

    /** The channels of slice i. */
    Activation slice(Activation latents, int i) {
        return latents.slice(firstChannel(i), slices[i]);
    }

    int firstChannel(int i) {
        return Arrays.stream(slices, 0, i).sum();
    }

    int sliceCount() {
        return slices.length;
    }

    @Override
    public Coded encode(RunBuilder run, Activation y) {
        Tensor medians = model.tensor("entropy.factorized.medians", n);
        Tensor thresholds = thresholds();
        Activation z = hyperAnalysis(run, y);
        Activation zSymbols = run.buffer(ElementType.I16, Grid.FULL, z.images(), z.height(), z.width(), n);
        Activation zHat = run.buffer(ElementType.F32, Grid.FULL, z.images(), z.height(), z.width(), n);
        run.quantizeFactorized(z, medians, zSymbols, zHat);
        run.release(z);
        return code(run, zSymbols, zHat, y.height(), y.width(), (i, parameters, yHat) -> {
            Activation indices = half(run, ElementType.U8, parameters);
            Activation symbols = half(run, ElementType.I16, parameters);
            run.quantizeGaussian(slice(y, i), parameters, thresholds, indices, symbols, slice(yHat, i));
            return new Pass(firstChannel(i), indices, symbols);
        });
    }

    @Override
    public Coded decode(RunBuilder run, int images, int height, int width) {
        if (height % (ALIGNMENT / STRIDE) != 0 || width % (ALIGNMENT / STRIDE) != 0) {
            throw new IllegalArgumentException("latents of " + height + "x" + width);
        }
        Tensor medians = model.tensor("entropy.factorized.medians", n);
        Tensor thresholds = thresholds();
        run.stage("hyper-decoding");
        run.payloads(images, (long) height * width * m + (long) height / 4 * (width / 4) * n);
        Activation zSymbols = run.buffer(ElementType.I16, Grid.FULL, images, height / 4, width / 4, n);
        Activation zHat = run.buffer(ElementType.F32, Grid.FULL, images, height / 4, width / 4, n);
        run.decodeFactorized(hyperTables(), medians, zSymbols, zHat);
        Coded coded = code(run, zSymbols, zHat, height, width, (i, parameters, yHat) -> {
            Activation symbols = half(run, ElementType.I16, parameters);
            run.decodeGaussian(latentTables(), parameters, thresholds, symbols, slice(yHat, i));
            return new Pass(firstChannel(i), null, symbols);
        });
        run.finishPayloads();
        return coded;
    }

    /** Quantises or decodes slice i at the positions of its parameters, into yHat. */
    private interface PassStep {
        Pass record(int slice, Activation parameters, Activation yHat);
    }

    /** The causal loop, the same for both directions. */
    private Coded code(RunBuilder run, Activation zSymbols, Activation zHat, int height, int width, PassStep step) {
        Activation hyper = hyperSynthesis(run, zHat);
        run.release(zHat);
        if (hyper.height() != height || hyper.width() != width) {
            throw new IllegalArgumentException("latents of " + height + "x" + width + ", hyperprior for " + hyper);
        }
        run.stage("slices");
        Activation yHat = run.buffer(ElementType.F32, Grid.FULL, hyper.images(), height, width, m);
        List<Pass> passes = new ArrayList<>();
        for (int i = 0; i < slices.length; i++) {
            Activation context = channelContext(run, i, yHat);
            for (Grid grid : List.of(Grid.ANCHORS, Grid.NON_ANCHORS)) {
                Activation parameters = parameters(run, i, grid, context, hyper, yHat);
                passes.add(step.record(i, parameters, yHat));
                run.release(parameters);
            }
            if (context != null) {
                run.release(context);
            }
        }
        run.release(hyper);
        return new Coded(zSymbols, List.copyOf(passes), yHat);
    }

    private static Activation half(RunBuilder run, ElementType type, Activation parameters) {
        return run.buffer(
                type,
                parameters.grid(),
                parameters.images(),
                parameters.height(),
                parameters.width(),
                parameters.channels() / 2);
    }

    private Tensor thresholds() {
        return model.tensor("entropy.gaussian.thresholds", GaussianConditional.LEVELS - 1);
    }

    private CodingTables stored(String prefix, int tables) {
        model.tensor(prefix + ".count", tables);
        return CodingTablesBuilder.fromTensors(prefix, name -> model.tensor(name));
    }

    @Override
    public synchronized Backend.Tables hyperTables() {
        if (hyperTables == null) {
            hyperTables = backend.tables(stored("entropy.factorized", n));
        }
        return hyperTables;
    }

    @Override
    public synchronized Backend.Tables latentTables() {
        if (latentTables == null) {
            latentTables = backend.tables(stored("entropy.gaussian", GaussianConditional.LEVELS));
        }
        return latentTables;
    }

    @Override
    public synchronized void close() {
        if (hyperTables != null) {
            hyperTables.close();
            hyperTables = null;
        }
        if (latentTables != null) {
            latentTables.close();
            latentTables = null;
        }
        layers.close();
    }
}

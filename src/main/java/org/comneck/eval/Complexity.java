package org.comneck.eval;

import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.function.Consumer;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.StepChecks;
import org.comneck.backend.Taps;
import org.comneck.codec.Codec;
import org.comneck.codec.PostProcessing;
import org.comneck.model.ModelFile;
import org.comneck.neck.Neck;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.comneck.vision.VisionEncoder;

/**
 * Multiplications and parameters of each stage, counted from the steps that the model records: the same code that runs, against a backend that
 * counts instead of computing. Convolutions, linear layers and the two products of attention count; sums, norms and activations do not.
 */
public final class Complexity {
    /**
     * What a stage costs for one picture.
     *
     * @param stage name
     * @param parameters weights, biases, norms, tables of positions
     * @param macs multiply-accumulates in the paper's terms: all taps and channels, at the positions of each pass's own half of the grid
     * @param published the same where both passes of the checkerboard cover the whole grid, as the authors' code does it
     * @param executed without the taps that the checkerboard masks and the channels that anchors do not have: what this program does
     */
    public record Cost(String stage, long parameters, long macs, long published, long executed) {
        /** Thousands of multiply-accumulates for each pixel. */
        public static double perPixel(long macs, int size) {
            return macs / 1000.0 / size / size;
        }
    }

    private static final String SYNTHESIS = "synthesis g_s";
    private static final String POST_PROCESSING = "post-processing U-Net";
    private static final String NECK = "neck";

    private Complexity() {}

    /**
     * What the ways to the encoder add before it, in words.
     *
     * @param size side of the picture that was counted
     * @return a sentence, or null when the model lacks neck or codec
     */
    static String comparison(List<Cost> costs, int size) {
        long neck = macs(costs, NECK);
        long decoding = macs(costs, SYNTHESIS);
        long post = macs(costs, POST_PROCESSING);
        if (neck == 0 || decoding == 0) {
            return null;
        }
        String text = String.format(
                Locale.ROOT,
                "Before the encoder, the neck adds %.1f kMAC/pixel, decoding pixels %.1f (the neck is %.1f %% of that)",
                Cost.perPixel(neck, size),
                Cost.perPixel(decoding, size),
                100.0 * neck / decoding);
        return post == 0
                ? text + "."
                : text
                        + String.format(
                                Locale.ROOT,
                                ", decoding and post-processing %.1f (%.1f %%).",
                                Cost.perPixel(decoding + post, size),
                                100.0 * neck / (decoding + post));
    }

    private static long macs(List<Cost> costs, String stage) {
        return costs.stream()
                .filter(cost -> cost.stage().equals(stage))
                .mapToLong(Cost::macs)
                .sum();
    }

    /**
     * Counts a model's stages for square pictures.
     *
     * @param model of which shapes are read, not weights
     * @param size side of the picture in pixels, a multiple of 64
     */
    public static List<Cost> of(ModelFile model, int size) {
        List<Cost> out = new ArrayList<>();
        Counting backend = new Counting();
        if (model.manifest().codec() != null) {
            try (Codec codec = Codec.load(backend, model, Precision.F32)) {
                int cells = size / codec.stride();
                out.add(count("analysis g_a", run -> {
                    Activation image = run.input(ElementType.F32, 1, size, size, 3);
                    codec.analysis(run, image, gains(codec, run));
                }));
                out.add(count("entropy networks", run -> codec.decode(run, 1, cells, cells)));
                out.add(count(SYNTHESIS, run -> codec.synthesis(run, latents(codec, run, cells))));
                if (PostProcessing.isIn(model)) {
                    try (PostProcessing post = PostProcessing.load(backend, model, Precision.F32)) {
                        out.add(count(
                                POST_PROCESSING,
                                run -> post.record(run, run.input(ElementType.F32, 1, size, size, 3))));
                    }
                }
                if (model.manifest().neck() != null) {
                    try (Neck neck = Neck.load(backend, model, Precision.F32)) {
                        out.add(count(NECK, run -> neck.record(run, latents(codec, run, cells))));
                    }
                }
            }
        }
        if (model.manifest().encoder() != null) {
            try (VisionEncoder encoder = VisionEncoder.load(backend, model, Precision.F32)) {
                int image = model.manifest().encoder().image();
                int patches = image / model.manifest().encoder().patch();
                int tokens = patches * patches + (encoder.hasClassToken() ? 1 : 0);
                int entry = model.manifest().neck() == null
                        ? 0
                        : model.manifest().neck().entry();
                out.add(count(
                        "encoder embedding", run -> encoder.embed(run, run.input(ElementType.U8, 1, image, image, 3))));
                if (entry > 0) {
                    out.add(count(
                            "encoder blocks that the neck replaces",
                            run -> encoder.blocks(run, tokens(encoder, run, tokens), 0, entry)));
                }
                out.add(count(
                        "one encoder block",
                        run -> encoder.blocks(run, tokens(encoder, run, tokens), entry, entry + 1)));
                out.add(count(
                        "encoder blocks after the neck",
                        run -> encoder.blocks(run, tokens(encoder, run, tokens), entry, -1)));
            }
        }
        return out;
    }

    private static Activation gains(Codec codec, RunBuilder run) {
        return codec.hasGains() ? run.input(ElementType.F32, 1, 1, 1, codec.latentChannels()) : null;
    }

    private static Activation latents(Codec codec, RunBuilder run, int cells) {
        return run.input(ElementType.F32, 1, cells, cells, codec.latentChannels());
    }

    private static Activation tokens(VisionEncoder encoder, RunBuilder run, int tokens) {
        return run.input(ElementType.F32, 1, 1, tokens, encoder.width());
    }

    private static Cost count(String stage, Consumer<RunBuilder> record) {
        Counter counter = new Counter();
        record.accept(counter);
        return new Cost(stage, counter.parameters, counter.macs, counter.published, counter.executed);
    }

    /** A layer without weights. */
    private record Counted(Convolution geometry, Precision precision, long parameters) implements Layer {
        @Override
        public long bytes() {
            return 0;
        }

        @Override
        public void close() {}
    }

    /** Knows sizes alone. */
    private static final class Counting implements Backend {
        private record CountedTables(CodingTables source) implements Tables {
            @Override
            public void close() {}
        }

        @Override
        public String name() {
            return "counting";
        }

        @Override
        public String description() {
            return "counts and computes nothing";
        }

        @Override
        public Layer layer(Convolution geometry, Tensor weight, Tensor bias, Precision precision) {
            StepChecks.layer(geometry, weight, bias);
            long parameters =
                    weight.shape().elements() + (bias == null ? 0 : bias.shape().elements());
            return new Counted(geometry, precision, parameters);
        }

        @Override
        public Tables tables(CodingTables tables) {
            return new CountedTables(tables);
        }

        @Override
        public RunBuilder newRun() {
            return new Counter();
        }

        @Override
        public RansEncoder ransEncoder() {
            throw new UnsupportedOperationException("counting encodes nothing");
        }

        @Override
        public void close() {}
    }

    /** Adds up what is recorded. */
    private static final class Counter implements RunBuilder {
        private final Set<Object> seen = Collections.newSetFromMap(new IdentityHashMap<>());
        private int buffers;
        private int stages;
        private long parameters;
        private long macs;
        private long published;
        private long executed;

        private void parameters(Object owner, long count) {
            if (seen.add(owner)) {
                parameters += count;
            }
        }

        private void count(long exact) {
            macs += exact;
            published += exact;
            executed += exact;
        }

        @Override
        public Activation buffer(ElementType type, Grid grid, int images, int height, int width, int channels) {
            return new Activation(buffers++, type, grid, images, height, width, channels, 0, channels);
        }

        @Override
        public void release(Activation activation) {}

        @Override
        public Activation input(ElementType type, int images, int height, int width, int channels) {
            return buffer(type, Grid.FULL, images, height, width, channels);
        }

        @Override
        public void output(Activation activation) {}

        @Override
        public int stage(String name) {
            return stages++;
        }

        @Override
        public void convolution(
                Layer layer,
                List<Activation> sources,
                int[] absent,
                Activation residual,
                Function function,
                Activation destination) {
            StepChecks.convolution(layer, sources, absent, residual, destination);
            Convolution g = layer.geometry();
            parameters(layer, ((Counted) layer).parameters());
            long taps = (long) g.kernelHeight() * g.kernelWidth();
            long whole = (long) destination.images() * destination.height() * destination.width();
            long own = (long) destination.images() * destination.positions();
            if (g.kind() == Convolution.Kind.TRANSPOSED) { // each input meets each tap once
                whole /= (long) g.stride() * g.stride();
                own /= (long) g.stride() * g.stride();
            }
            long missing = 0;
            for (int channels : absent) {
                missing += channels;
            }
            long usedTaps = g.kind() == Convolution.Kind.CHECKERBOARD ? taps / 2 : taps;
            macs += own * taps * g.inputChannels() * g.outputChannels();
            published += whole * taps * g.inputChannels() * g.outputChannels();
            executed += own * usedTaps * (g.inputChannels() - missing) * g.outputChannels();
        }

        @Override
        public void attention(Activation qkv, int heads, Activation destination) {
            StepChecks.attention(qkv, heads, destination);
            long tokens = qkv.positions();
            count(2 * qkv.images() * tokens * tokens * destination.channels());
        }

        @Override
        public void layerNorm(Activation source, Tensor weight, Tensor bias, float epsilon, Activation destination) {
            parameters(weight.data(), weight.shape().elements());
            parameters(bias.data(), bias.shape().elements());
        }

        @Override
        public void embed(Activation source, Tensor classToken, Tensor positions, Activation destination) {
            parameters(positions, positions.shape().elements());
            if (classToken != null) {
                parameters(classToken, classToken.shape().elements());
            }
        }

        @Override
        public void gate(Activation a, Activation b, Activation x, Activation destination) {}

        @Override
        public void add(Activation a, Activation b, Activation destination) {}

        @Override
        public void scale(Activation source, Activation gains, Activation destination) {}

        @Override
        public void copy(Activation source, Activation destination) {}

        @Override
        public void selectTokens(Activation source, int first, Activation destination) {}

        @Override
        public void normalize(Activation pixels, float[] mean, float[] deviation, Activation destination) {}

        @Override
        public void toPixels(Activation source, Activation pixels) {}

        @Override
        public void resample(Activation pixels, Taps.Axis axis, Taps taps, Activation destination) {}

        @Override
        public void quantizeFactorized(Activation z, Tensor medians, Activation symbols, Activation zHat) {}

        @Override
        public void quantizeGaussian(
                Activation y,
                Activation parameters,
                Tensor thresholds,
                Activation indices,
                Activation symbols,
                Activation yHat) {}

        @Override
        public void payloads(int images, long symbols) {}

        @Override
        public void decodeFactorized(Backend.Tables tables, Tensor medians, Activation symbols, Activation zHat) {}

        @Override
        public void decodeGaussian(
                Backend.Tables tables, Activation parameters, Tensor thresholds, Activation symbols, Activation yHat) {}

        @Override
        public void finishPayloads() {}

        @Override
        public void encodePayloads(List<SymbolPass> passes, int substreams) {}

        @Override
        public Run build() {
            throw new UnsupportedOperationException("a counted run cannot be executed");
        }
    }
}

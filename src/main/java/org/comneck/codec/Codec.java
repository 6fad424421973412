package org.comneck.codec;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import org.comneck.DamagedDataException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Grid;
import org.comneck.backend.Precision;
import org.comneck.backend.RunBuilder;
import org.comneck.model.ModelFile;

/**
 * A learned image codec on one backend. Its methods record networks onto a run; weights are packed when they are first needed and shared
 * by all runs. Thread-safe.
 *
 * <p>Sizes: a picture is H x W pixels, multiples of {@link #alignment}; latents y are h x w x M with h = H / {@link #stride}; hyper-latents
 * z are h/4 x w/4 x N.
 */
public interface Codec extends AutoCloseable {
    /**
     * The codec of a model file.
     *
     * @param backend where it runs
     * @param model stays open until the codec is closed
     * @param transforms arithmetic of analysis and synthesis, F32 for F16, whose range they may leave; all that symbols depend on is always F32
     * @throws DamagedDataException when the model has no codec
     */
    static Codec load(Backend backend, ModelFile model, Precision transforms) {
        if (model.manifest().codec() == null) {
            throw new DamagedDataException(model.file() + ": the model has no codec");
        }
        return switch (model.manifest().codec().type()) {
            case "elic" -> new ElicCodec(backend, model, transforms == Precision.F16 ? Precision.F32 : transforms);
            default ->
                throw new DamagedDataException(model.file() + ": unknown codec '"
                        + model.manifest().codec().type() + "'");
        };
    }

    /** M, channels of the latents y. */
    int latentChannels();

    /** N, channels of the hyper-latents z. */
    int hyperChannels();

    /** Pixels on the side of one latent position. */
    int stride();

    /** Pictures are padded to multiples of this many pixels. */
    int alignment();

    /** Number of quality levels; levels in between are allowed when {@link #hasGains}. */
    int qualities();

    /** True when quality is a gain on the latents: then {@link #analysis} and {@link #ungain} take gains. */
    boolean hasGains();

    /**
     * What y is multiplied by, per channel.
     *
     * @param quality 0 to {@code qualities() - 1}; between two levels the gains are interpolated geometrically
     * @return M floats
     */
    float[] gain(double quality);

    /** What decoded latents are multiplied by; see {@link #gain}. */
    float[] inverseGain(double quality);

    /**
     * Picture to latents.
     *
     * @param image F32 (B,H,W,3), RGB in [0,1]
     * @param gains F32 input (B,1,1,M) when the codec {@link #hasGains}, else null
     * @return y, F32 (B,h,w,M), gained
     */
    Activation analysis(RunBuilder run, Activation image, Activation gains);

    /**
     * Latents to symbols: the causal loop of the encoder. {@link Coded#output} makes indices and symbols outputs of the run,
     * {@link #encodePayloads} makes payloads of them.
     *
     * @param y F32 (B,h,w,M), gained
     */
    Coded encode(RunBuilder run, Activation y);

    /**
     * Payload to latents; mirrors {@link #encode} step by step. Declares, reads and finishes the run's payloads. {@link Coded#output} makes
     * the symbols outputs of the run.
     *
     * @param images batch size
     * @param height h
     * @param width w
     */
    Coded decode(RunBuilder run, int images, int height, int width);

    /**
     * Symbols to payloads, one an image: {@link org.comneck.backend.Run#encoded}.
     *
     * @param coded what {@link #encode} recorded on this run
     * @param substreams of each payload, 0 to choose
     */
    default void encodePayloads(RunBuilder run, Coded coded, int substreams) {
        run.stage("entropy coding");
        List<RunBuilder.SymbolPass> all = new ArrayList<>();
        all.add(new RunBuilder.SymbolPass(hyperTables(), null, coded.zSymbols()));
        for (Pass pass : coded.passes()) {
            all.add(new RunBuilder.SymbolPass(latentTables(), pass.indices(), pass.symbols()));
        }
        run.encodePayloads(all, substreams);
    }

    /**
     * Decoded latents as {@link #synthesis} and the neck want them.
     *
     * @param yHat F32 (B,h,w,M), gained; not released
     * @param inverseGains F32 input (B,1,1,M) when the codec {@link #hasGains}, else null
     * @return yHat itself when there are no gains
     */
    Activation ungain(RunBuilder run, Activation yHat, Activation inverseGains);

    /**
     * Latents to picture.
     *
     * @param yHat F32 (B,h,w,M), ungained; not released
     * @return F32 (B,H,W,3), RGB, about [0,1], not clamped
     */
    Activation synthesis(RunBuilder run, Activation yHat);

    /** Tables of z: one for each of its channels. */
    Backend.Tables hyperTables();

    /** Tables of y's symbols: one for each scale. */
    Backend.Tables latentTables();

    /** Frees the packed weights. Idempotent; runs must be closed before. */
    @Override
    void close();

    /**
     * Tables of one image's z symbols in coding order, as {@link org.comneck.backend.RansEncoder} wants them: 0 to N - 1 for every position.
     *
     * @param positions h/4 * w/4
     */
    default byte[] hyperIndices(int positions) {
        byte[] indices = new byte[Math.multiplyExact(positions, hyperChannels())];
        for (int i = 0; i < indices.length; i++) {
            indices[i] = (byte) (i % hyperChannels());
        }
        return indices;
    }

    /**
     * What coding recorded.
     *
     * @param zSymbols I16 (B,h/4,w/4,N) under {@link #hyperTables}, table c for channel c: the first pass of the payload
     * @param passes the passes of y under {@link #latentTables}, in coding order
     * @param yHat decoded latents, F32 (B,h,w,M), gained; not an output unless the caller makes it one
     */
    record Coded(Activation zSymbols, List<Pass> passes, Activation yHat) {
        /** Makes the symbols of every pass outputs of the run, and their indices where they were encoded. */
        public void output(RunBuilder run) {
            run.output(zSymbols);
            for (Pass pass : passes) {
                run.output(pass.symbols());
                if (pass.indices() != null) {
                    run.output(pass.indices());
                }
            }
        }
    }

    /**
     * One pass of y's symbols: half of the positions of one slice of the channels.
     *
     * @param firstChannel first channel of the slice in y
     * @param indices U8 table of each symbol, on the symbols' grid; null when decoding
     * @param symbols I16, ANCHORS or NON_ANCHORS grid, the slice's channels
     */
    record Pass(int firstChannel, Activation indices, Activation symbols) {
        /**
         * Puts one image's symbols where they belong among those of all passes.
         *
         * @param values I16 memory of that image's {@link #symbols}
         * @param latents [M,h,w], this pass's positions and channels are written
         */
        public void scatter(MemorySegment values, int[] latents) {
            int area = symbols.height() * symbols.width();
            int channels = symbols.channels();
            int position = 0;
            for (int p = 0; p < area; p++) {
                boolean anchor = (p / symbols.width() + p % symbols.width()) % 2 == 0;
                if (anchor == (symbols.grid() == Grid.ANCHORS)) {
                    for (int c = 0; c < channels; c++) {
                        long at = (long) position * channels + c;
                        latents[(firstChannel + c) * area + p] =
                                values.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, at);
                    }
                    position++;
                }
            }
        }
    }
}

package org.comneck.backend;

import java.util.List;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;

/**
 * Records the steps of a {@link Run}. Model code (codec, neck, vision) is written once against this interface. Every method checks its
 * shapes when it records, so that executing needs no checks; a mismatch is an {@link IllegalArgumentException} that names both shapes.
 *
 * <p>All f32 operations are canonical: the same bits on every backend, thread count and batch size (docs/arithmetic.md). An activation
 * handed to a layer of {@link Precision#BF16} may be F32 or BF16; it is rounded where needed.
 */
public interface RunBuilder {
    /** A new buffer: images x positions x channels. Contents are undefined until a step writes them. */
    Activation buffer(ElementType type, Grid grid, int images, int height, int width, int channels);

    /** Says that no later step reads this buffer, so that its memory may serve a later {@link #buffer}. */
    void release(Activation activation);

    /** A new full-grid buffer that the host fills before each execution. */
    Activation input(ElementType type, int images, int height, int width, int channels);

    /** Makes a whole buffer readable by the host after each execution; it is never reused. */
    void output(Activation activation);

    /** Steps from here on belong to this stage of the timings. Returns the stage's number. */
    int stage(String name);

    /**
     * Convolution, transposed convolution or linear layer:
     * {@code destination = function(bias + sum over ky, kx, channel of source * weight [+ residual])}.
     *
     * <p>The sum is the canonical chain: start from the bias, then for ky, kx, input channel in ascending order one fused multiply-add
     * each; taps outside the input, or masked, are skipped. Then one addition of the residual, then the function.
     *
     * @param layer the packed weights
     * @param sources concatenated along channels, in order. With a 1x1 layer a source on the full grid may feed a destination on ANCHORS or
     *     NON_ANCHORS (its positions are gathered), and a source on the destination's own grid is taken as it is. An entry may be null when
     *     {@code absent} says how many channels it would have: its weights are skipped
     * @param absent channels of each null source; empty when there is none
     * @param residual added after the sum, of the destination's shape, or null
     * @param function applied last
     * @param destination where to; only its positions are computed
     */
    void convolution(
            Layer layer,
            List<Activation> sources,
            int[] absent,
            Activation residual,
            Function function,
            Activation destination);

    /** {@link #convolution} of one source. */
    default void convolution(
            Layer layer, Activation source, Activation residual, Function function, Activation destination) {
        convolution(layer, List.of(source), new int[0], residual, function, destination);
    }

    /** {@code destination = fma(a, sigmoid(b), x)}: the end of ELIC's attention block. All of one shape. */
    void gate(Activation a, Activation b, Activation x, Activation destination);

    /** {@code destination = a + b}. */
    void add(Activation a, Activation b, Activation destination);

    /** {@code destination[n,p,c] = source[n,p,c] * gain[n,c]}: gains is F32 with one position and as many channels. */
    void scale(Activation source, Activation gains, Activation destination);

    /** Copies between views of one shape, converting F32 to BF16 (round to nearest even) or back. */
    void copy(Activation source, Activation destination);

    /**
     * LayerNorm over channels: sums in sixteen partial sums by channel modulo 16, then those in order; variance from a second pass;
     * {@code destination = fma((x - mean) * (1 / sqrt(variance + epsilon)), weight, bias)}. The destination may be the source.
     */
    void layerNorm(Activation source, Tensor weight, Tensor bias, float epsilon, Activation destination);

    /**
     * Multi-head self-attention: {@code qkv (B,N,3C) -> per head scores (N,N) -> softmax -> destination (B,N,C)}; channels of qkv are q, k,
     * v, each heads x (C/heads); scores are scaled by 1/sqrt(C/heads). Never holds scores of more than a few rows.
     */
    void attention(Activation qkv, int heads, Activation destination);

    /**
     * Puts tokens together: {@code destination[n,0] = classToken + positions[0]; destination[n,1+p] = source[n,p] + positions[1+p]}. Without
     * class token the positions start at the first token.
     *
     * @param source positions x D, full grid
     * @param classToken [D], or null
     * @param positions [tokens, D]
     * @param destination height 1, width tokens
     */
    void embed(Activation source, Tensor classToken, Tensor positions, Activation destination);

    /**
     * {@link #embed} and {@link #layerNorm} of its F32 result, with the same bits; a backend may do it in one step.
     *
     * @param source positions x D, full grid
     * @param classToken [D], or null
     * @param positions [tokens, D]
     * @param weight [D]
     * @param bias [D]
     * @param destination height 1, width tokens
     */
    default void embedNorm(
            Activation source,
            Tensor classToken,
            Tensor positions,
            Tensor weight,
            Tensor bias,
            float epsilon,
            Activation destination) {
        boolean inPlace = destination.type() == ElementType.F32;
        Activation embedded = inPlace
                ? destination
                : buffer(
                        ElementType.F32,
                        Grid.FULL,
                        destination.images(),
                        destination.height(),
                        destination.width(),
                        destination.channels());
        embed(source, classToken, positions, embedded);
        layerNorm(embedded, weight, bias, epsilon, destination);
        if (!inPlace) {
            release(embedded);
        }
    }

    /** Copies tokens first..first+destination.positions() of each image. */
    void selectTokens(Activation source, int first, Activation destination);

    /** U8 RGB (B,H,W,3) to F32: {@code (x / 255 - mean[c]) / deviation[c]}, each one IEEE operation in that order. */
    void normalize(Activation pixels, float[] mean, float[] deviation, Activation destination);

    /** F32 in [0,1] to U8: {@code round-half-up(clamp(x, 0, 1) * 255)}. */
    void toPixels(Activation source, Activation pixels);

    /**
     * Resamples U8 pictures along one axis; the other one stays as it is.
     *
     * @param destination of {@code taps.outputs()} along the axis, else of the pixels' sizes
     */
    void resample(Activation pixels, Taps.Axis axis, Taps taps, Activation destination);

    /**
     * Factorized prior, encoder side: {@code symbol = rint(z - median[c])} saturated to 16 bits (NaN: 0),
     * {@code zHat = symbol + median[c]}.
     *
     * @param symbols I16 of z's shape
     */
    void quantizeFactorized(Activation z, Tensor medians, Activation symbols, Activation zHat);

    /**
     * Gaussian conditional, encoder side, for the positions of {@code parameters}' grid: index = number of thresholds smaller than the
     * scale (NaN: 0), {@code symbol = rint(y - mean)} saturated to 16 bits (NaN: 0), {@code yHat = symbol + mean}.
     *
     * @param y full grid, one slice's channels
     * @param parameters ANCHORS or NON_ANCHORS grid, 2C channels: means, then scales
     * @param thresholds the first 63 entries of the scale table
     * @param indices U8, parameters' grid, C channels: in coding order
     * @param symbols I16, parameters' grid, C channels: in coding order
     * @param yHat full grid, the slice's channels; only the grid's positions are written
     */
    void quantizeGaussian(
            Activation y,
            Activation parameters,
            Tensor thresholds,
            Activation indices,
            Activation symbols,
            Activation yHat);

    /**
     * Declares the payloads that the decoding steps read, one an image; see {@link Run#payload}. At most once in a run.
     *
     * @param images batch size
     * @param symbols number of symbols of one image, all passes together
     */
    void payloads(int images, long symbols);

    /**
     * Next pass of each image's payload under the factorized prior: table c for channel c, positions in raster order, channels innermost.
     *
     * @param symbols I16 of zHat's shape, written
     */
    void decodeFactorized(Backend.Tables tables, Tensor medians, Activation symbols, Activation zHat);

    /**
     * Next pass of each image's payload under the Gaussian conditional; mirrors {@link #quantizeGaussian}.
     *
     * @param symbols I16, parameters' grid, C channels: written
     */
    void decodeGaussian(
            Backend.Tables tables, Activation parameters, Tensor thresholds, Activation symbols, Activation yHat);

    /** After the last pass: every lane must have ended where encoding began and every byte must be used. */
    void finishPayloads();

    /**
     * One pass of symbols that {@link #encodePayloads} encodes.
     *
     * @param tables of the backend that this run is for
     * @param indices U8, the symbols' shape: table of each symbol; null: channel c has table c
     * @param symbols I16, all channels of their buffer: in coding order
     */
    record SymbolPass(Backend.Tables tables, Activation indices, Activation symbols) {}

    /**
     * Encodes the symbols of all passes, one payload an image: {@link Run#encoded}. At most once in a run.
     *
     * @param passes in the order in which the decoding steps ask for them
     * @param substreams of each payload, see {@link RansEncoder#encode}
     */
    void encodePayloads(List<SymbolPass> passes, int substreams);

    /** Ends the recording. The builder cannot be used afterwards. */
    Run build();
}

package org.comneck.backend;

/**
 * Geometry of a convolution layer. A linear layer is a 1x1 convolution.
 *
 * @param inputChannels channels of all sources together
 * @param outputChannels channels of the destination
 * @param kernelHeight taps down
 * @param kernelWidth taps across
 * @param stride step, the same down and across
 * @param padding rows and columns of absent taps on every side; absent taps are skipped, not multiplied by zero
 * @param kind what the taps mean
 */
public record Convolution(
        int inputChannels, int outputChannels, int kernelHeight, int kernelWidth, int stride, int padding, Kind kind) {
    /** What the taps of a layer mean. */
    public enum Kind {
        /** out[y,x] += in[y*stride + ky - padding, x*stride + kx - padding] * w[o,c,ky,kx]; weights OIHW. */
        DIRECT,
        /** The same with the taps where ky + kx is even masked away: ELIC's checkerboard context (section 3.2). Weights OIHW. */
        CHECKERBOARD,
        /**
         * Transposed, output = input * stride (output_padding = stride + 2*padding - kernel, 1 for ELIC's 5x5): out[y,x] += in[iy,ix] *
         * w[c,o,ky,kx] where iy*stride + ky - padding = y. Weights IOHW.
         */
        TRANSPOSED
    }

    /** A square convolution that keeps the grid (stride 1) or divides it by the stride. */
    public static Convolution square(int inputChannels, int outputChannels, int kernel, int stride) {
        return new Convolution(inputChannels, outputChannels, kernel, kernel, stride, kernel / 2, Kind.DIRECT);
    }

    /** A 1x1 convolution, which is also a linear layer over tokens. */
    public static Convolution linear(int inputChannels, int outputChannels) {
        return new Convolution(inputChannels, outputChannels, 1, 1, 1, 0, Kind.DIRECT);
    }

    /** Non-overlapping patches, as at the entrance of a vision transformer. */
    public static Convolution patches(int inputChannels, int outputChannels, int patch) {
        return new Convolution(inputChannels, outputChannels, patch, patch, patch, 0, Kind.DIRECT);
    }

    /** ELIC's checkerboard context: odd taps only, so that a non-anchor sees anchors alone. */
    public static Convolution checkerboard(int inputChannels, int outputChannels, int kernel) {
        return new Convolution(inputChannels, outputChannels, kernel, kernel, 1, kernel / 2, Kind.CHECKERBOARD);
    }

    /** A transposed convolution that doubles the grid. */
    public static Convolution doubling(int inputChannels, int outputChannels, int kernel) {
        return new Convolution(inputChannels, outputChannels, kernel, kernel, 2, (kernel - 1) / 2, Kind.TRANSPOSED);
    }
}

package org.comneck.backend;

import org.comneck.tensor.ElementType;

/**
 * A view of a run's buffer: images x positions x channels, channels innermost (NHWC). A view may cover a range of the buffer's
 * channels, so that concatenations are written in place. Token sequences have height 1 and one position a token.
 *
 * <p>Element (n, p, c) lies at index {@code (n * positions() + p) * channelStride + channelOffset + c}.
 *
 * @param buffer number of the buffer in its run
 * @param type F32, BF16, F16 (where layers have {@link Precision#F16}), I32, I16 or U8
 * @param grid which positions of the height x width grid are present
 * @param images batch size
 * @param height rows of the full grid
 * @param width columns of the full grid
 * @param channels channels of this view
 * @param channelOffset first channel in the buffer
 * @param channelStride channels of the buffer
 */
public record Activation(
        int buffer,
        ElementType type,
        Grid grid,
        int images,
        int height,
        int width,
        int channels,
        int channelOffset,
        int channelStride) {

    /** Number of positions an image has here. */
    public int positions() {
        return grid.positions(height, width);
    }

    /** Channels from..from+count of this view. */
    public Activation slice(int from, int count) {
        if (from < 0 || count <= 0 || from + count > channels) {
            throw new IllegalArgumentException("channels " + from + ".." + (from + count) + " of " + channels);
        }
        return new Activation(buffer, type, grid, images, height, width, count, channelOffset + from, channelStride);
    }

    /** The same memory seen as another full grid of as many positions (an h x w map as a sequence of h*w tokens). */
    public Activation reshape(int newHeight, int newWidth) {
        if (grid != Grid.FULL || newHeight * newWidth != height * width) {
            throw new IllegalArgumentException(
                    height + "x" + width + " " + grid + " cannot be seen as " + newHeight + "x" + newWidth);
        }
        return new Activation(buffer, type, grid, images, newHeight, newWidth, channels, channelOffset, channelStride);
    }
}

package org.comneck.bitstream;

import java.lang.foreign.MemorySegment;

/**
 * One image of a {@link Container}.
 *
 * @param width pixels of the picture that was coded
 * @param height likewise
 * @param paddedWidth pixels that the codec saw: a multiple of 64, at least the width
 * @param paddedHeight likewise
 * @param quality the model's quality level, 0 to 255 + 255/256, in steps of 1/256; what lies between two levels is interpolated
 * @param prepared true when the photo was first resized and cropped as the model's manifest says, false when this is the whole picture
 * @param symbolChecksum CRC32C of the symbols that the payload decodes to, 16 bits little-endian each, in coding order
 * @param payload what the rANS encoder made
 */
public record CodedImage(
        int width,
        int height,
        int paddedWidth,
        int paddedHeight,
        double quality,
        boolean prepared,
        int symbolChecksum,
        MemorySegment payload) {
    /** Padded sizes are multiples of this: four halvings to the latents, two more to the hyper-latents. */
    public static final int PADDING = 64;

    /** Widest and highest picture. */
    public static final int MAX_SIZE = 65_535;

    /**
     * Checks the sizes and the quality.
     *
     * @throws IllegalArgumentException when the format cannot hold them
     */
    public CodedImage {
        checkSize("width", width, paddedWidth);
        checkSize("height", height, paddedHeight);
        if (!(quality >= 0 && quality * 256 <= 65_535) || quality * 256 != Math.rint(quality * 256)) {
            throw new IllegalArgumentException("quality " + quality + " is not a multiple of 1/256 from 0 to 255.99");
        }
    }

    private static void checkSize(String name, int size, int padded) {
        if (size < 1 || size > MAX_SIZE) {
            throw new IllegalArgumentException(name + " " + size + " is not within 1 to " + MAX_SIZE);
        }
        if (padded < size || padded % PADDING != 0 || padded / PADDING > 65_535) {
            throw new IllegalArgumentException(
                    "padded " + name + " " + padded + " is not a multiple of " + PADDING + " of at least " + size);
        }
    }

    /** The smallest multiple of 64 that is at least this many pixels. */
    public static int padded(int size) {
        return Math.ceilDiv(size, PADDING) * PADDING;
    }

    /** The nearest quality that the format can hold. */
    public static double quality(double wanted) {
        return Math.rint(wanted * 256) / 256;
    }

    /** Padded pixels. */
    public long pixels() {
        return (long) paddedWidth * paddedHeight;
    }
}

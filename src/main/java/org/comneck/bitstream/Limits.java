package org.comneck.bitstream;

/**
 * What a reader is ready to believe. A file beyond a limit is refused as damaged, with a message that names the limit.
 *
 * @param images most images in a file
 * @param pixels most padded pixels of an image: what decoding takes memory for
 * @param payloadBytes longest payload of an image
 */
public record Limits(int images, long pixels, long payloadBytes) {
    /** 4,096 images of at most 134 million pixels and 256 MiB each. */
    public static final Limits DEFAULT = new Limits(4096, 1L << 27, 1L << 28);

    public Limits {
        if (images < 1 || pixels < 1 || payloadBytes < 1) {
            throw new IllegalArgumentException(
                    "limits of " + images + " images, " + pixels + " pixels, " + payloadBytes + " bytes");
        }
    }
}

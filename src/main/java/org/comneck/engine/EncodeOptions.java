package org.comneck.engine;

/**
 * How a photo becomes a bitstream.
 *
 * @param quality level of the model, 0 to one less than their number, or in between; NaN is the highest
 * @param full false prepares the picture as the model's manifest says, because that is what the encoder looks at; true keeps every pixel
 */
public record EncodeOptions(double quality, boolean full) {
    /** The highest quality, prepared. */
    public static final EncodeOptions DEFAULT = new EncodeOptions(Double.NaN, false);

    public EncodeOptions withQuality(double level) {
        return new EncodeOptions(level, full);
    }

    public EncodeOptions withFull(boolean everyPixel) {
        return new EncodeOptions(quality, everyPixel);
    }
}

package org.comneck.cli;

import org.comneck.engine.EncodeOptions;
import org.comneck.engine.Photo;
import picocli.CommandLine.Option;

/** Options of every verb that encodes photos. */
final class EncodeFlags {
    @Option(
            names = "--quality",
            paramLabel = "Q",
            description =
                    "Quality level, 0 for the fewest bits; fractions lie in between. Default: the model's highest.")
    private Double quality;

    @Option(
            names = "--full",
            description =
                    "Keep every pixel, for people. Without it the photo is resized and cropped as the encoder wants it.")
    private boolean full;

    @Option(
            names = "--max-pixels",
            paramLabel = "N",
            description = "Refuse photos of more pixels; default ${DEFAULT-VALUE}.")
    private long maxPixels = Photo.DEFAULT_MAX_PIXELS;

    EncodeOptions options() {
        return new EncodeOptions(quality == null ? EncodeOptions.DEFAULT.quality() : quality, full);
    }

    long maxPixels() {
        return maxPixels;
    }
}

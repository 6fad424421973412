package org.comneck.cli;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.comneck.UsageException;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;

/** Inputs that may be bitstreams or photos. */
final class Bitstreams {
    private Bitstreams() {}

    /** The bitstream that the input is, or that its photo becomes. */
    static Container of(NativeEngine engine, Inputs.Input input, byte[] bytes, EncodeFlags flags) {
        if (Container.looksLikeOne(MemorySegment.ofArray(bytes))) {
            return engine.read(bytes);
        }
        if (flags == null || Photo.formatOf(bytes) == null) {
            throw new UsageException(input.name() + ": not a ComNeck bitstream"
                    + (flags == null ? "" : ", nor a JPEG, PNG or WebP photo"));
        }
        return engine.read(engine.encode(List.of(Photo.read(input.name(), bytes, flags.maxPixels())), flags.options()));
    }

    /** Bits for each pixel of the pictures as they were coded. */
    static double bitsPerPixel(Container container, long bytes) {
        long pixels = 0;
        for (int i = 0; i < container.size(); i++) {
            CodedImage image = container.image(i);
            pixels += (long) image.width() * image.height();
        }
        return 8.0 * bytes / pixels;
    }
}

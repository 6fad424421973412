package org.comneck.cli;

import org.comneck.bitstream.Container;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import picocli.CommandLine.Command;

/** {@code comneck decode}: bitstreams to photos, for human eyes. */
@Command(
        name = "decode",
        mixinStandardHelpOptions = true,
        description = "Reconstructs the photos of bitstreams as PNG. Tokens never need this.",
        footer = {"", "Example: comneck decode photo.cnk -o photo.png"})
final class DecodeCommand extends DecodingCommand {
    @Override
    String extension() {
        return ".png";
    }

    @Override
    Result decode(NativeEngine engine, Container one) {
        Photo photo = engine.decode(one).getFirst();
        return new Result(
                photo::writePng,
                photo.width() + "x" + photo.height() + " pixels",
                Json.object().put("width", photo.width()).put("height", photo.height()));
    }
}

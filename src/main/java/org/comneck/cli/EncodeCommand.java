package org.comneck.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.engine.AtomicOutput;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code comneck encode}: photos to bitstreams. */
@Command(
        name = "encode",
        mixinStandardHelpOptions = true,
        description = "Encodes photos (JPEG, PNG, WebP; files, folders, patterns) into bitstreams.",
        footer = {"", "Example: comneck encode photo.jpg -o photo.cnk --quality 2.5"})
final class EncodeCommand implements Callable<Integer> {
    @Parameters(
            paramLabel = "PHOTO",
            arity = "1..*",
            description = "Photos, folders, patterns, or - for standard input.")
    private List<String> photos;

    @Option(
            names = {"-o", "--output"},
            paramLabel = "FILE",
            description = "Bitstream, folder for several, or -; default: beside the photo, .cnk.")
    private String output;

    @Option(names = "--json", description = "Print a JSON object for each photo.")
    private boolean json;

    @Mixin
    private EncodeFlags encode;

    @Mixin
    private EngineFlags engineFlags;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        List<Inputs.Input> inputs = Inputs.expand(photos);
        Map<Inputs.Input, Path> outputs = Inputs.outputs(inputs, output, ".cnk");
        Main.Streams streams = Main.streams(spec);
        try (NativeEngine engine = engineFlags.open()) {
            return Batch.run(spec, inputs, input -> {
                Photo photo = Photo.read(input.name(), input.read(streams), encode.maxPixels());
                byte[] bitstream = engine.encode(List.of(photo), encode.options());
                Path target = outputs.get(input);
                if (target == null) {
                    AtomicOutput.write(streams.bytes(), "standard output", out -> out.write(bitstream));
                    return null;
                }
                AtomicOutput.write(target, out -> out.write(bitstream));
                Container container = engine.read(bitstream);
                CodedImage image = container.image(0);
                double bitsPerPixel = Bitstreams.bitsPerPixel(container, bitstream.length);
                if (json) {
                    return Json.object()
                            .put("input", input.name())
                            .put("output", target.toString())
                            .put("width", image.width())
                            .put("height", image.height())
                            .put("quality", image.quality())
                            .put("bytes", bitstream.length)
                            .put("bits_per_pixel", bitsPerPixel)
                            .toString();
                }
                return "%s -> %s: %dx%d pixels in %d bytes, %.3f bits per pixel"
                        .formatted(input.name(), target, image.width(), image.height(), bitstream.length, bitsPerPixel);
            });
        }
    }
}

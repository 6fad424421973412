package org.comneck.cli;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.comneck.UsageException;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.engine.Classification;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code comneck classify}: the nearest classes of photos, through the bitstream. */
@Command(
        name = "classify",
        mixinStandardHelpOptions = true,
        description = "Names the likeliest classes of photos or bitstreams, from their tokens.",
        footer = {"", "Example: comneck classify photo.jpg"})
final class ClassifyCommand implements Callable<Integer> {
    /** Classes named for each picture. */
    private static final int CLASSES = 5;

    @Parameters(
            paramLabel = "FILE",
            arity = "1..*",
            description = "Photos or bitstreams, folders, patterns, or - for standard input.")
    private List<String> files;

    @Option(names = "--pixels", description = "Feed the encoder with the photo's pixels; no bitstream.")
    private boolean pixels;

    @Option(names = "--json", description = "Print a JSON object for each picture.")
    private boolean json;

    @Mixin
    private EncodeFlags encode;

    @Mixin
    private EngineFlags engineFlags;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        List<Inputs.Input> inputs = Inputs.expand(files, "cnk");
        Main.Streams streams = Main.streams(spec);
        try (NativeEngine engine = engineFlags.open()) {
            return Batch.run(spec, inputs, input -> {
                byte[] bytes = input.read(streams);
                if (!pixels) {
                    Container bitstream = Bitstreams.of(engine, input, bytes, encode);
                    CodedImage image = bitstream.image(0);
                    List<Classification> classes =
                            engine.classify(bitstream, CLASSES).getFirst();
                    return line(input, image.width(), image.height(), bitstream.toByteArray().length, classes);
                }
                if (Container.looksLikeOne(MemorySegment.ofArray(bytes))) {
                    throw new UsageException(input.name() + ": a bitstream has no pixels; drop --pixels");
                }
                Photo photo = Photo.read(input.name(), bytes, encode.maxPixels());
                return line(input, photo.width(), photo.height(), bytes.length, engine.classifyPixels(photo, CLASSES));
            });
        }
    }

    private String line(Inputs.Input input, int width, int height, long bytes, List<Classification> classes) {
        if (!json) {
            StringBuilder text = new StringBuilder(input.name() + ":");
            for (Classification one : classes) {
                text.append(text.charAt(text.length() - 1) == ':' ? " " : ", ")
                        .append(one.name())
                        .append(String.format(Locale.ROOT, " %.3f", one.score()));
            }
            return text.toString();
        }
        var node = Json.object()
                .put("input", input.name())
                .put("width", width)
                .put("height", height)
                .put("bytes", bytes);
        var array = node.putArray("classes");
        for (Classification one : classes) {
            array.addObject()
                    .put("synset", one.synset())
                    .put("name", one.name())
                    .put("score", Math.round(one.score() * 1e6) / 1e6);
        }
        return node.toString();
    }
}

package org.comneck.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.comneck.UsageException;
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

/** {@code comneck decode}: bitstreams to photos, for human eyes. */
@Command(
        name = "decode",
        mixinStandardHelpOptions = true,
        description = "Reconstructs the photos of bitstreams as PNG. Tokens never need this.",
        footer = {"", "Example: comneck decode photo.cnk -o photo.png"})
final class DecodeCommand implements Callable<Integer> {
    @Parameters(paramLabel = "FILE", arity = "1..*", description = "Bitstreams, patterns, or - for standard input.")
    private List<String> files;

    @Option(
            names = {"-o", "--output"},
            paramLabel = "FILE",
            description = "PNG file, folder for several, or -; default: beside the bitstream.")
    private String output;

    @Option(
            names = "--image",
            paramLabel = "I",
            description = "Which image of a bitstream of several; default ${DEFAULT-VALUE}.")
    private int index;

    @Option(names = "--json", description = "Print a JSON object for each bitstream.")
    private boolean json;

    @Mixin
    private EngineFlags engineFlags;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        List<Inputs.Input> inputs = Inputs.expand(files, "cnk");
        Map<Inputs.Input, Path> outputs = Inputs.outputs(inputs, output, ".png");
        Main.Streams streams = Main.streams(spec);
        try (NativeEngine engine = engineFlags.open()) {
            return Batch.run(spec, inputs, input -> {
                Container all = Bitstreams.of(engine, input, input.read(streams), null);
                if (index < 0 || index >= all.size()) {
                    throw new UsageException(
                            input.name() + ": --image " + index + ", but its images are 0 to " + (all.size() - 1));
                }
                Container one = new Container(all.profile(), all.identity(), List.of(all.image(index)));
                Photo photo = engine.decode(one).getFirst();
                Path target = outputs.get(input);
                if (target == null) {
                    AtomicOutput.write(streams.bytes(), "standard output", photo::writePng);
                    return null;
                }
                AtomicOutput.write(target, photo::writePng);
                if (json) {
                    return Json.object()
                            .put("input", input.name())
                            .put("output", target.toString())
                            .put("width", photo.width())
                            .put("height", photo.height())
                            .toString();
                }
                return input.name() + " -> " + target + ": " + photo.width() + "x" + photo.height() + " pixels";
            });
        }
    }
}

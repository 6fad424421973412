package org.comneck.cli;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.comneck.UsageException;
import org.comneck.bitstream.Container;
import org.comneck.engine.AtomicOutput;
import org.comneck.engine.NativeEngine;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** A verb that makes one file of one image of each bitstream. */
abstract class DecodingCommand implements Callable<Integer> {
    @Parameters(paramLabel = "FILE", arity = "1..*", description = "Bitstreams, patterns, or - for standard input.")
    private List<String> files;

    @Option(
            names = {"-o", "--output"},
            paramLabel = "FILE",
            description = "Output file, folder for several, or -; default: beside the bitstream.")
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

    /**
     * What becomes of one image.
     *
     * @param content of the output file
     * @param summary for people
     * @param facts for programs, beside input and output
     */
    record Result(AtomicOutput.Content content, String summary, ObjectNode facts) {}

    /** Extension of outputs whose names are made, with its dot. */
    abstract String extension();

    /** @param one a container of one image */
    abstract Result decode(NativeEngine engine, Container one);

    @Override
    public Integer call() {
        List<Inputs.Input> inputs = Inputs.expand(files, "cnk");
        Map<Inputs.Input, Path> outputs = Inputs.outputs(inputs, output, extension());
        Main.Streams streams = Main.streams(spec);
        try (NativeEngine engine = engineFlags.open()) {
            return Batch.run(spec, inputs, input -> {
                Container all = Bitstreams.of(engine, input, input.read(streams), null);
                if (index < 0 || index >= all.size()) {
                    throw new UsageException(
                            input.name() + ": --image " + index + ", but its images are 0 to " + (all.size() - 1));
                }
                Result result = decode(engine, new Container(all.profile(), all.identity(), List.of(all.image(index))));
                Path target = outputs.get(input);
                if (target == null) {
                    AtomicOutput.write(streams.bytes(), "standard output", result.content());
                    return null;
                }
                AtomicOutput.write(target, result.content());
                if (json) {
                    ObjectNode node = Json.object().put("input", input.name()).put("output", target.toString());
                    return node.setAll(result.facts()).toString();
                }
                return input.name() + " -> " + target + ": " + result.summary();
            });
        }
    }
}

package org.comneck.cli;

import java.nio.file.Path;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.comneck.UsageException;
import org.comneck.bitstream.Container;
import org.comneck.engine.AtomicOutput;
import org.comneck.engine.Latents;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.TokenWriter;
import org.comneck.tensor.Tensor;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code comneck latents}: what a bitstream holds, the same bytes on every backend. */
@Command(
        name = "latents",
        mixinStandardHelpOptions = true,
        description = "Writes decoded latents as safetensors: y_hat [M,h,w] f32, symbols [M,h,w] i32, z_symbols"
                + " [N,h/4,w/4] i32. The same bytes on every backend.",
        footer = {"", "Example: comneck latents photo.cnk -o l.safetensors"})
final class LatentsCommand implements Callable<Integer> {
    @Parameters(paramLabel = "FILE", arity = "1..*", description = "Bitstreams, patterns, or - for standard input.")
    private List<String> files;

    @Option(
            names = {"-o", "--output"},
            paramLabel = "FILE",
            description = "Safetensors file, folder for several, or -; default: beside the bitstream.")
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
        Map<Inputs.Input, Path> outputs = Inputs.outputs(inputs, output, ".safetensors");
        Main.Streams streams = Main.streams(spec);
        try (NativeEngine engine = engineFlags.open()) {
            return Batch.run(spec, inputs, input -> {
                Container all = Bitstreams.of(engine, input, input.read(streams), null);
                if (index < 0 || index >= all.size()) {
                    throw new UsageException(
                            input.name() + ": --image " + index + ", but its images are 0 to " + (all.size() - 1));
                }
                Container one = new Container(all.profile(), all.identity(), List.of(all.image(index)));
                Latents latents = engine.latents(one).getFirst();
                Map<String, Tensor> tensors = new LinkedHashMap<>();
                tensors.put("y_hat", latents.yHat());
                tensors.put("symbols", latents.symbols());
                tensors.put("z_symbols", latents.zSymbols());
                Map<String, String> metadata =
                        Map.of("comneck.model", HexFormat.of().formatHex(engine.identity()));
                Path target = outputs.get(input);
                AtomicOutput.Content content = out -> TokenWriter.writeSafetensors(out, tensors, metadata);
                if (target == null) {
                    AtomicOutput.write(streams.bytes(), "standard output", content);
                    return null;
                }
                AtomicOutput.write(target, content);
                if (json) {
                    var node = Json.object().put("input", input.name()).put("output", target.toString());
                    tensors.forEach((name, tensor) -> Json.shape(node, name, tensor.shape()));
                    return node.toString();
                }
                return input.name() + " -> " + target + ": y_hat "
                        + latents.yHat().shape() + ", symbols "
                        + latents.symbols().shape() + ", z_symbols "
                        + latents.zSymbols().shape();
            });
        }
    }
}

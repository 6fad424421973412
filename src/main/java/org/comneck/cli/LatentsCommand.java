package org.comneck.cli;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;
import org.comneck.bitstream.Container;
import org.comneck.engine.Latents;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.TokenWriter;
import org.comneck.tensor.Tensor;
import picocli.CommandLine.Command;

/** {@code comneck latents}: what a bitstream holds, the same bytes on every backend. */
@Command(
        name = "latents",
        mixinStandardHelpOptions = true,
        description = "Writes decoded latents as safetensors: y_hat [M,h,w] f32, symbols [M,h,w] i32, z_symbols"
                + " [N,h/4,w/4] i32. The same bytes on every backend.",
        footer = {"", "Example: comneck latents photo.cnk -o l.safetensors"})
final class LatentsCommand extends DecodingCommand {
    @Override
    String extension() {
        return ".safetensors";
    }

    @Override
    Result decode(NativeEngine engine, Container one) {
        Latents latents = engine.latents(one).getFirst();
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        tensors.put("y_hat", latents.yHat());
        tensors.put("symbols", latents.symbols());
        tensors.put("z_symbols", latents.zSymbols());
        Map<String, String> metadata = Map.of("comneck.model", HexFormat.of().formatHex(engine.identity()));
        ObjectNode facts = Json.object();
        tensors.forEach((name, tensor) -> Json.shape(facts, name, tensor.shape()));
        return new Result(
                out -> TokenWriter.writeSafetensors(out, tensors, metadata),
                tensors.entrySet().stream()
                        .map(entry -> entry.getKey() + " " + entry.getValue().shape())
                        .collect(Collectors.joining(", ")),
                facts);
    }
}

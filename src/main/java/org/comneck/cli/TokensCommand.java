package org.comneck.cli;

import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicBoolean;
import org.comneck.UsageException;
import org.comneck.bitstream.Container;
import org.comneck.engine.AtomicOutput;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.TokenFormat;
import org.comneck.engine.TokenOptions;
import org.comneck.engine.TokenWriter;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;
import org.comneck.vision.VisionEncoder;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code comneck tokens}: bitstreams, or photos that become bitstreams on the way, to visual tokens. */
@Command(
        name = "tokens",
        mixinStandardHelpOptions = true,
        description = "Turns bitstreams (or photos, through a bitstream) into visual tokens: [tokens, width], or"
                + " [images, tokens, width] for a bitstream of several images.",
        footer = {"", "Example: comneck tokens photo.jpg -o t.npy"})
final class TokensCommand implements Callable<Integer> {
    /** Element types that tokens are written in. */
    enum Dtype {
        F32(ElementType.F32),
        F16(ElementType.F16),
        BF16(ElementType.BF16);

        private final ElementType type;

        Dtype(ElementType type) {
            this.type = type;
        }
    }

    @Parameters(
            paramLabel = "FILE",
            arity = "1..*",
            description = "Bitstreams or photos, folders, patterns, or - for standard input.")
    private List<String> files;

    @Option(
            names = {"-o", "--output"},
            paramLabel = "FILE",
            description =
                    "Tokens: .npy, .safetensors or .bin; a folder for several; or -. Default: beside the input, .npy.")
    private String output;

    @Option(
            names = "--format",
            paramLabel = "NAME",
            description = "npy, safetensors or bin where no file name says so; default ${DEFAULT-VALUE}.")
    private TokenFormat format = TokenFormat.NPY;

    @Option(
            names = "--layer",
            paramLabel = "N",
            description =
                    "Output of that many blocks; negative from the end, -1 is the last block. Default: the model's"
                            + " own, usually -2.")
    private Integer layer;

    @Option(
            names = "--tokens",
            paramLabel = "NAME",
            description = "all, patches or cls. Default: the model's own, usually patches.")
    private VisionEncoder.Tokens select;

    @Option(
            names = "--post-ln",
            paramLabel = "NAME",
            description = "The encoder's last LayerNorm: none, once or twice; default ${DEFAULT-VALUE}.")
    private VisionEncoder.PostNorm postNorm = TokenOptions.DEFAULT.postNorm();

    @Option(names = "--proj", description = "Multiply by the encoder's projection.")
    private boolean projection;

    @Option(
            names = "--entry",
            paramLabel = "N",
            description = "Block that the neck's output enters. Default: the model's own.")
    private int entry = TokenOptions.MODEL_ENTRY;

    @Option(names = "--dtype", paramLabel = "NAME", description = "f32, f16 or bf16; default ${DEFAULT-VALUE}.")
    private Dtype dtype = Dtype.F32;

    @Option(names = "--json", description = "Print a JSON object for each input.")
    private boolean json;

    @Mixin
    private EncodeFlags encode;

    @Mixin
    private EngineFlags engineFlags;

    @Spec
    private CommandSpec spec;

    private final AtomicBoolean told = new AtomicBoolean();
    private long openedAfter; // milliseconds since the process began

    @Override
    public Integer call() {
        List<Inputs.Input> inputs = Inputs.expand(files, "cnk");
        Map<Inputs.Input, Path> outputs = Inputs.outputs(inputs, output, format.extension());
        for (Path target : outputs.values()) {
            TokenWriter.check(formatOf(target), dtype.type);
        }
        Main.Streams streams = Main.streams(spec);
        try (NativeEngine engine = engineFlags.open()) {
            openedAfter = System.currentTimeMillis()
                    - ManagementFactory.getRuntimeMXBean().getStartTime();
            TokenOptions options = options(engine);
            return Batch.run(spec, inputs, input -> one(engine, options, input, outputs.get(input), streams));
        }
    }

    /** What the target's name says; standard output, devices and pipes have no such name. */
    private TokenFormat formatOf(Path target) {
        boolean named = target != null && (!Files.exists(target) || Files.isRegularFile(target));
        return named ? TokenFormat.ofFile(target.toString()) : format;
    }

    private TokenOptions options(NativeEngine engine) {
        TokenOptions options = engine.defaultTokens()
                .withPostNorm(postNorm)
                .withProjected(projection)
                .withEntry(entry);
        options = layer == null ? options : options.withLayer(layer);
        return select == null ? options : options.withSelect(select);
    }

    private String one(
            NativeEngine engine, TokenOptions options, Inputs.Input input, Path target, Main.Streams streams) {
        Container bitstream = Bitstreams.of(engine, input, input.read(streams), encode);
        if (engine.interpolates(bitstream.image(0)) && told.compareAndSet(false, true)) {
            streams.err()
                    .println("comneck: note: " + input.name()
                            + " has another grid than the model's; its position table is interpolated");
        }
        long start = System.nanoTime();
        List<Tensor> each = engine.tokens(bitstream, options);
        double milliseconds = (System.nanoTime() - start) / 1e6;
        Tensor tokens = each.size() == 1 ? each.getFirst() : stack(input, each);
        TokenFormat kind = formatOf(target);
        Map<String, String> metadata = Map.of(
                "comneck.model",
                HexFormat.of().formatHex(engine.identity()),
                "comneck.layer",
                Integer.toString(options.layer()),
                "comneck.tokens",
                options.select().name().toLowerCase(Locale.ROOT));
        if (target == null) {
            AtomicOutput.write(
                    streams.bytes(),
                    "standard output",
                    out -> TokenWriter.write(out, kind, "tokens", tokens, dtype.type, metadata));
            return null;
        }
        TokenWriter.write(target, kind, "tokens", tokens, dtype.type, metadata);
        long bytes = 0;
        for (int i = 0; i < bitstream.size(); i++) {
            bytes += bitstream.image(i).payload().byteSize();
        }
        if (json) {
            var node = Json.object().put("input", input.name()).put("output", target.toString());
            Json.shape(node, "shape", tokens.shape());
            return node.put("dtype", dtype.name().toLowerCase(Locale.ROOT))
                    .put("layer", options.layer())
                    .put("tokens", options.select().name().toLowerCase(Locale.ROOT))
                    .put("payload_bytes", bytes)
                    .put("opened_after_milliseconds", openedAfter)
                    .put("milliseconds", Math.round(milliseconds * 100) / 100.0)
                    .toString();
        }
        return "%s -> %s: tokens %s %s, layer %d, from a payload of %d bytes"
                .formatted(
                        input.name(),
                        target,
                        tokens.shape(),
                        dtype.name().toLowerCase(Locale.ROOT),
                        options.layer(),
                        bytes);
    }

    /** [T,D] of each image to [B,T,D]. */
    private static Tensor stack(Inputs.Input input, List<Tensor> each) {
        Shape shape = each.getFirst().shape();
        if (each.stream().anyMatch(tensor -> !tensor.shape().equals(shape))) {
            throw new UsageException(
                    input.name() + ": its images have different sizes, so their tokens do not form one array");
        }
        long bytes = each.getFirst().data().byteSize();
        MemorySegment all = MemorySegment.ofArray(new float[Math.toIntExact(shape.elements() * each.size())]);
        for (int i = 0; i < each.size(); i++) {
            all.asSlice(i * bytes, bytes).copyFrom(each.get(i).data());
        }
        return new Tensor(ElementType.F32, Shape.of(each.size(), shape.size(0), shape.size(1)), all);
    }
}

package org.comneck.cli;

import java.nio.file.Path;
import java.util.HexFormat;
import java.util.concurrent.Callable;
import org.comneck.UsageException;
import org.comneck.model.Importer;
import org.comneck.model.SeededModel;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code comneck import}: checkpoints to one model file. */
@Command(
        name = "import",
        mixinStandardHelpOptions = true,
        description =
                "Makes a model file of what others trained: PyTorch checkpoints, TorchScript archives, safetensors."
                        + " Nothing in them is executed.",
        footer = {
            "",
            "Example: comneck import --codec d1_1.pth.tar --encoder ViT-L-14.pt -o model.safetensors",
            "         comneck import --seeded full -o full.safetensors"
        })
final class ImportCommand implements Callable<Integer> {
    @Option(
            names = "--codec",
            paramLabel = "FILE",
            description = "Checkpoint of the codec; the neck is its 'adapter', unless --neck names another file.")
    private Path codec;

    @Option(
            names = "--encoder",
            paramLabel = "FILE",
            description = "Visual encoder: OpenAI CLIP, open_clip, Hugging Face CLIP, LLaVA's tower, timm ViT.")
    private Path encoder;

    @Option(names = "--neck", paramLabel = "FILE", description = "Checkpoint of the neck.")
    private Path neck;

    @Option(names = "--projector", paramLabel = "FILE", description = "Checkpoint of a multimodal projector.")
    private Path projector;

    @Option(
            names = "--labels",
            paramLabel = "FILE",
            description = "Label embeddings [classes, projection], for classify.")
    private Path labels;

    @Option(names = "--classes", paramLabel = "FILE", description = "Class list, one a line: an id, a space, a name.")
    private Path classes;

    @Option(names = "--name", paramLabel = "TEXT", description = "Name of the model; default: made of its parts.")
    private String name;

    @Option(names = "--entry", paramLabel = "N", description = "Block that the neck enters; default ${DEFAULT-VALUE}.")
    private int entry = Importer.PUBLISHED_ENTRY;

    @Option(
            names = "--activation",
            paramLabel = "NAME",
            description = "quick_gelu or gelu, where the checkpoint does not say.")
    private String activation;

    @Option(names = "--heads", paramLabel = "N", description = "Attention heads, where not width / 64.")
    private Integer heads;

    @Option(
            names = "--seeded",
            paramLabel = "NAME",
            description =
                    "Instead of checkpoints: a model whose weights are made from their names, full or tiny; for tests"
                            + " and benchmarks.")
    private String seeded;

    @Option(
            names = {"-o", "--output"},
            paramLabel = "FILE",
            required = true,
            description = "The model file.")
    private Path output;

    @Option(names = "--json", description = "Print a JSON object.")
    private boolean json;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        Main.Streams streams = Main.streams(spec);
        if (seeded != null) {
            if (codec != null || encoder != null || neck != null) {
                throw new UsageException("--seeded takes no checkpoints");
            }
            SeededModel model = SeededModel.named(seeded);
            try (Progress progress = Progress.ofBytes("import")) {
                model.write(output, progress::to);
            }
            streams.out()
                    .println(
                            json
                                    ? Json.object()
                                            .put("output", output.toString())
                                            .put("name", model.manifest().name())
                                            .toString()
                                    : output + ": " + model.manifest().name() + ", weights made from names");
            return ExitStatus.OK;
        }
        Importer importer = new Importer().entry(entry);
        if (codec != null) {
            importer.codec(codec);
        }
        if (encoder != null) {
            importer.encoder(encoder);
        }
        if (neck != null) {
            importer.neck(neck);
        }
        if (projector != null) {
            importer.projector(projector);
        }
        if (labels != null || classes != null) {
            importer.labels(labels, classes);
        }
        if (name != null) {
            importer.name(name);
        }
        if (activation != null) {
            importer.activation(activation);
        }
        if (heads != null) {
            importer.heads(heads);
        }
        Importer.Result result;
        try (Progress progress = Progress.ofBytes("import")) {
            result = importer.write(output, progress::to);
        }
        String identity = HexFormat.of().formatHex(result.identity());
        if (json) {
            var node = Json.object()
                    .put("output", output.toString())
                    .put("name", result.manifest().name())
                    .put("tensors", result.tensors())
                    .put("bytes", result.bytes())
                    .put("model", identity);
            var found = node.putArray("found");
            result.found().forEach(found::add);
            var notes = node.putArray("notes");
            result.notes().forEach(notes::add);
            streams.out().println(node);
            return ExitStatus.OK;
        }
        result.found().forEach(streams.out()::println);
        result.notes().forEach(note -> streams.err().println("comneck: note: " + note));
        streams.out()
                .println(output + ": " + result.manifest().name() + ", " + result.tensors() + " tensors, "
                        + result.bytes() + " bytes, model " + identity);
        return ExitStatus.OK;
    }
}

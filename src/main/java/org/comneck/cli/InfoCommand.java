package org.comneck.cli;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.stream.ImageInputStream;
import javax.imageio.stream.MemoryCacheImageInputStream;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.bitstream.Limits;
import org.comneck.engine.Photo;
import org.comneck.model.Checkpoint;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.TensorSource;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code comneck info}: what a file is, without decoding it. */
@Command(
        name = "info",
        mixinStandardHelpOptions = true,
        description =
                "Says what files are (bitstream, model, checkpoint, photo) without decoding them. Without a file: the"
                        + " model that comes with the program.",
        footer = {"", "Example: comneck info photo.cnk"})
final class InfoCommand implements Callable<Integer> {
    private static final int HEAD_BYTES = 16;

    @Parameters(paramLabel = "FILE", arity = "0..*", description = "Files, patterns, or - for standard input.")
    private List<String> files;

    @Option(names = "--json", description = "Print a JSON object for each file.")
    private boolean json;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() {
        Main.Streams streams = Main.streams(spec);
        if (files == null || files.isEmpty()) {
            try (ModelFile model = ModelFile.openEmbedded()) {
                streams.out().println(print(model(model, "the model of this program")));
            }
            return ExitStatus.OK;
        }
        return Batch.run(spec, Inputs.expand(files, "cnk", "safetensors"), input -> print(describe(input, streams)));
    }

    private ObjectNode describe(Inputs.Input input, Main.Streams streams) {
        if (input.path() == null) {
            return describe(input.name(), input.read(streams));
        }
        byte[] head;
        try (var in = Files.newInputStream(input.path())) {
            head = in.readNBytes(HEAD_BYTES);
        } catch (IOException e) {
            throw new UsageException(
                    input.name() + ": cannot be read: "
                            + (Files.exists(input.path()) ? e.getMessage() : "no such file"),
                    e);
        }
        if (Container.looksLikeOne(MemorySegment.ofArray(head)) || Photo.formatOf(head) != null) {
            return describe(input.name(), input.read(streams));
        }
        return weights(input.path(), input.name());
    }

    private static ObjectNode describe(String name, byte[] bytes) {
        if (Container.looksLikeOne(MemorySegment.ofArray(bytes))) {
            return bitstream(name, bytes);
        }
        if (Photo.formatOf(bytes) != null) {
            return photo(name, bytes);
        }
        throw new UsageException(name + ": neither a bitstream, a model, a checkpoint nor a photo");
    }

    private static ObjectNode bitstream(String name, byte[] bytes) {
        Container container = Container.read(bytes, Limits.DEFAULT);
        ObjectNode node = Json.object()
                .put("input", name)
                .put("kind", "bitstream")
                .put("bytes", bytes.length)
                .put("arithmetic", container.profile().toString())
                .put("model", HexFormat.of().formatHex(container.identity()));
        var images = node.putArray("images");
        for (int i = 0; i < container.size(); i++) {
            ObjectNode one = images.addObject();
            try {
                CodedImage image = container.image(i);
                long payload = image.payload().byteSize();
                one.put("width", image.width())
                        .put("height", image.height())
                        .put("padded_width", image.paddedWidth())
                        .put("padded_height", image.paddedHeight())
                        .put("quality", image.quality())
                        .put("prepared", image.prepared())
                        .put("payload_bytes", payload)
                        .put("bits_per_pixel", 8.0 * payload / ((double) image.width() * image.height()));
            } catch (DamagedDataException e) {
                one.put("damaged", e.getMessage());
            }
        }
        return node;
    }

    private static ObjectNode photo(String name, byte[] bytes) {
        String format = Photo.formatOf(bytes);
        ObjectNode node = Json.object()
                .put("input", name)
                .put("kind", "photo")
                .put("format", format)
                .put("bytes", bytes.length);
        Iterator<ImageReader> readers = ImageIO.getImageReadersByFormatName(format.toLowerCase(Locale.ROOT));
        ImageReader reader = readers.next();
        try (ImageInputStream in = new MemoryCacheImageInputStream(new ByteArrayInputStream(bytes))) {
            reader.setInput(in, true, true);
            return node.put("width", reader.getWidth(0)).put("height", reader.getHeight(0));
        } catch (IOException | RuntimeException e) {
            throw new DamagedDataException(name + ": damaged " + format + ": " + e.getMessage(), -1, e);
        } finally {
            reader.dispose();
        }
    }

    private static ObjectNode weights(Path path, String name) {
        try (Checkpoint checkpoint = Checkpoint.open(path)) {
            if (!checkpoint.metadata().containsKey(Manifest.KEY)) {
                ObjectNode node = Json.object()
                        .put("input", name)
                        .put("kind", "checkpoint")
                        .put("format", checkpoint.container().toString())
                        .put("bytes", size(path));
                var groups = node.putArray("groups");
                for (Map.Entry<String, Map<String, TensorSource>> group :
                        checkpoint.groups().entrySet()) {
                    long elements = group.getValue().values().stream()
                            .mapToLong(tensor -> tensor.shape().elements())
                            .sum();
                    groups.addObject()
                            .put("name", group.getKey())
                            .put("tensors", group.getValue().size())
                            .put("parameters", elements);
                }
                return node;
            }
        }
        try (ModelFile model = ModelFile.open(path)) {
            return model(model, name).put("bytes", size(path));
        }
    }

    private static long size(Path path) {
        try {
            return Files.size(path);
        } catch (IOException e) {
            throw new UsageException(path + ": cannot be read: " + e.getMessage(), e);
        }
    }

    private static ObjectNode model(ModelFile model, String name) {
        Manifest manifest = model.manifest();
        ObjectNode node = Json.object()
                .put("input", name)
                .put("kind", "model")
                .put("name", manifest.name())
                .put("model", HexFormat.of().formatHex(model.identity()))
                .put("arithmetic", manifest.profile());
        if (manifest.codec() != null) {
            node.put(
                    "codec",
                    manifest.codec().type() + " N=" + manifest.codec().n() + " M="
                            + manifest.codec().m());
            var levels = node.putArray("qualities");
            manifest.qualities().forEach(quality -> levels.add(quality.name()));
        }
        if (manifest.neck() != null) {
            node.put("neck_entry", manifest.neck().entry());
        }
        if (manifest.encoder() != null) {
            Manifest.Encoder e = manifest.encoder();
            node.put(
                    "encoder",
                    e.type() + " " + e.layers() + " blocks of width " + e.width() + ", patch " + e.patch() + " of "
                            + e.image() + " pixels");
        }
        if (manifest.preprocessing() != null) {
            node.put("size", manifest.preprocessing().size());
        }
        long parameters = 0;
        for (String tensor : model.names()) {
            parameters += model.tensor(tensor).shape().elements();
        }
        return node.put("tensors", model.names().size())
                .put("parameters", parameters)
                .put("labels", manifest.labels().size());
    }

    private String print(ObjectNode node) {
        if (json) {
            return node.toString();
        }
        StringBuilder text = new StringBuilder();
        node.properties().forEach(field -> {
            if (field.getKey().equals("input")) {
                text.append(field.getValue().asText());
            } else if (field.getValue().isArray()
                    && !field.getValue().isEmpty()
                    && field.getValue().get(0).isObject()) {
                field.getValue()
                        .forEach(one -> text.append("\n  ")
                                .append(field.getKey(), 0, field.getKey().length() - 1)
                                .append(": ")
                                .append(fields(one)));
            } else {
                text.append("\n  ").append(field.getKey()).append(": ").append(plain(field.getValue()));
            }
        });
        return text.toString();
    }

    private static String fields(com.fasterxml.jackson.databind.JsonNode node) {
        StringBuilder text = new StringBuilder();
        node.properties()
                .forEach(field -> text.append(text.isEmpty() ? "" : ", ")
                        .append(field.getKey())
                        .append(' ')
                        .append(plain(field.getValue())));
        return text.toString();
    }

    private static String plain(com.fasterxml.jackson.databind.JsonNode value) {
        if (value.isDouble()) {
            return String.format(Locale.ROOT, "%.4g", value.asDouble());
        }
        if (value.isArray()) {
            StringBuilder text = new StringBuilder();
            value.forEach(one -> text.append(text.isEmpty() ? "" : ", ").append(plain(one)));
            return text.toString();
        }
        return value.asText();
    }
}

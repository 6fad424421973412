package org.comneck.model;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;

/**
 * What a user names as one set of weights: a checkpoint, a folder as Hugging Face's hub has them, or an index of shards. The shards' tensors
 * appear together.
 */
final class WeightFiles implements AutoCloseable {
    /** Tried in this order in a folder. */
    private static final List<String> IN_FOLDER = List.of(
            "model.safetensors.index.json",
            "model.safetensors",
            "open_clip_model.safetensors",
            "pytorch_model.bin.index.json",
            "pytorch_model.bin",
            "open_clip_pytorch_model.bin");

    private static final int MAX_JSON_BYTES = 64 << 20;
    private static final int MAX_SHARDS = 1024;
    private static final JsonMapper JSON = new JsonMapper();

    /** Groups in order of preference where a training script saved several copies. */
    private static final List<String> PREFERRED = List.of("state_dict", "model_state_dict", "model", "adapter", "");

    private final Path path;
    private final Path folder;
    private final List<Path> files = new ArrayList<>();
    private final List<Checkpoint> checkpoints = new ArrayList<>();
    private final Map<String, Map<String, TensorSource>> groups = new LinkedHashMap<>();

    /**
     * Tensors whose names share a beginning, which is cut off.
     *
     * @param prefix what was cut off: {@code module.}
     */
    record Found(String prefix, Map<String, TensorSource> tensors) {}

    private WeightFiles(Path path) {
        this.path = path;
        this.folder = Files.isDirectory(path) ? path : path.toAbsolutePath().getParent();
    }

    /**
     * @throws UsageException when there is nothing to open
     * @throws DamagedDataException when a file is damaged
     */
    static WeightFiles open(Path path) {
        WeightFiles weights = new WeightFiles(path);
        try {
            for (Path file : files(path)) {
                Checkpoint checkpoint = Checkpoint.open(file);
                weights.files.add(file);
                weights.checkpoints.add(checkpoint);
                checkpoint.groups().forEach((group, tensors) -> {
                    Map<String, TensorSource> all = weights.groups.computeIfAbsent(group, g -> new LinkedHashMap<>());
                    tensors.forEach((name, tensor) -> {
                        if (all.put(name, tensor) != null) {
                            throw new DamagedDataException(file + ": tensor '" + SafetensorsFile.printable(name)
                                    + "' is in another shard too");
                        }
                    });
                });
            }
            return weights;
        } catch (Throwable e) {
            weights.close();
            throw e;
        }
    }

    private static List<Path> files(Path path) {
        Path file = path;
        if (Files.isDirectory(path)) {
            file = IN_FOLDER.stream()
                    .map(path::resolve)
                    .filter(Files::isRegularFile)
                    .findFirst()
                    .orElseThrow(() ->
                            new UsageException(path + " is a folder without any of " + String.join(", ", IN_FOLDER)));
        }
        if (!file.getFileName().toString().endsWith(".index.json")) {
            return List.of(file);
        }
        JsonNode map = readJson(file).path("weight_map");
        Set<String> shards = new LinkedHashSet<>();
        for (JsonNode shard : map) {
            String name = shard.asText();
            if (!shard.isTextual()
                    || name.isEmpty()
                    || name.contains("/")
                    || name.contains("\\")
                    || name.contains("..")) {
                throw new DamagedDataException(file + ": names the shard '" + SafetensorsFile.printable(name) + "'");
            }
            shards.add(name);
        }
        if (shards.isEmpty() || shards.size() > MAX_SHARDS) {
            throw new DamagedDataException(file + ": names " + shards.size() + " shards");
        }
        Path folder = file.toAbsolutePath().getParent();
        return shards.stream().map(folder::resolve).toList();
    }

    private static JsonNode readJson(Path file) {
        try (InputStream in = Files.newInputStream(file)) {
            byte[] bytes = in.readNBytes(MAX_JSON_BYTES + 1);
            if (bytes.length > MAX_JSON_BYTES) {
                throw new DamagedDataException(file + ": is larger than " + MAX_JSON_BYTES + " bytes");
            }
            return JSON.readTree(bytes);
        } catch (JsonProcessingException e) {
            throw new DamagedDataException(file + ": is not valid JSON: " + e.getOriginalMessage(), -1, e);
        } catch (IOException e) {
            throw new UsageException(file + ": cannot be read: " + e.getMessage(), e);
        }
    }

    /** A JSON file that lies beside the weights, or an empty node. */
    JsonNode beside(String name) {
        Path file = folder.resolve(name);
        return Files.isRegularFile(file) ? readJson(file) : JSON.missingNode();
    }

    /** As the user named it. */
    Path path() {
        return path;
    }

    /** All files that were opened. */
    List<Path> files() {
        return files;
    }

    Checkpoint.Container container() {
        return checkpoints.getFirst().container();
    }

    /** The manifest, when this is a model file of ours. */
    Optional<Manifest> manifest() {
        String json = checkpoints.getFirst().metadata().get(Manifest.KEY);
        return Optional.ofNullable(json).map(text -> Manifest.parse(path.toString(), text));
    }

    /**
     * Looks for a tensor of this name, as it is or behind a prefix that ends in a dot ({@code module.}, {@code model.vision_tower.}), and returns
     * all tensors with the same prefix.
     */
    Optional<Found> find(String marker) {
        return find(marker, "state_dict");
    }

    /** {@link #find(String)}, looking in this group first. */
    Optional<Found> find(String marker, String first) {
        List<String> order = new ArrayList<>(PREFERRED);
        order.remove(first);
        order.addFirst(first);
        order.retainAll(groups.keySet());
        groups.keySet().stream().filter(group -> !order.contains(group)).forEach(order::add);
        for (String group : order) {
            Map<String, TensorSource> tensors = groups.get(group);
            String prefix = null;
            for (String name : tensors.keySet()) {
                if (name.equals(marker) || name.endsWith("." + marker)) {
                    String candidate = name.substring(0, name.length() - marker.length());
                    prefix = prefix == null || candidate.length() < prefix.length() ? candidate : prefix;
                }
            }
            if (prefix != null) {
                return Optional.of(new Found(prefix, strip(tensors, prefix)));
            }
        }
        return Optional.empty();
    }

    private static Map<String, TensorSource> strip(Map<String, TensorSource> tensors, String prefix) {
        Map<String, TensorSource> stripped = new LinkedHashMap<>();
        tensors.forEach((name, tensor) -> {
            if (name.startsWith(prefix)) {
                stripped.put(name.substring(prefix.length()), tensor);
            }
        });
        return stripped;
    }

    /** A few names, for errors. */
    String examples() {
        List<String> names = groups.values().stream()
                .flatMap(group -> group.keySet().stream())
                .limit(4)
                .map(SafetensorsFile::printable)
                .toList();
        return names.isEmpty() ? "it holds no tensors" : "it holds " + String.join(", ", names) + ", ...";
    }

    @Override
    public void close() {
        checkpoints.forEach(Checkpoint::close);
    }
}

package org.comneck.model;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.math.BigInteger;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.tensor.ElementType;

/**
 * A file of weights that somebody else's training wrote, opened as data: names and tensors, nothing is ever run. The file is mapped;
 * opening reads its directory, and a tensor's bytes are touched only when it is read. Thread-safe.
 *
 * <p>Tensors come in groups, as training scripts save them side by side: {@code state_dict} and {@code adapter} in the published ComNeck
 * checkpoints. A file that is just tensors has one group with an empty name. The state of optimizers is no group and is never read.
 */
public final class Checkpoint implements AutoCloseable {
    /** What kind of file it is. */
    public enum Container {
        SAFETENSORS("safetensors"),
        TORCH_ZIP("PyTorch checkpoint"),
        TORCH_LEGACY("PyTorch checkpoint in the format before 1.6"),
        TORCHSCRIPT("TorchScript archive");

        private final String words;

        Container(String words) {
            this.words = words;
        }

        /** For people. */
        @Override
        public String toString() {
            return words;
        }
    }

    private static final int MAX_DEPTH = 64;
    private static final int MAX_NODES = 1 << 20;
    private static final BigInteger LEGACY_MAGIC = new BigInteger("1950a86a20f9469cfc6c", 16);
    private static final ValueLayout.OfLong I64 = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final String file;
    private final Container container;
    private final Arena arena;
    private final Map<String, Map<String, TensorSource>> groups;
    private final Map<String, String> metadata;

    private Checkpoint(
            String file,
            Container container,
            Arena arena,
            Map<String, Map<String, TensorSource>> groups,
            Map<String, String> metadata) {
        this.file = file;
        this.container = container;
        this.arena = arena;
        this.groups = groups;
        this.metadata = metadata;
    }

    /**
     * Opens a checkpoint of any known container.
     *
     * @throws UsageException when the file is not there, cannot be read, or is none of these
     * @throws DamagedDataException when it is damaged, or its pickle names anything beyond what a checkpoint needs; with file and offset
     */
    public static Checkpoint open(Path path) {
        Arena arena = Arena.ofShared();
        try {
            return parse(path.toString(), MappedFile.map(path, arena), arena);
        } catch (Throwable e) {
            arena.close();
            throw e;
        }
    }

    static Checkpoint parse(String file, MemorySegment bytes, Arena arena) {
        if (ZipArchive.looksLike(bytes)) {
            return zip(file, bytes, arena);
        }
        if (bytes.byteSize() >= 2 && bytes.get(ValueLayout.JAVA_BYTE, 0) == (byte) 0x80) {
            return legacy(file, bytes, arena);
        }
        if (SafetensorsFile.looksLike(bytes)) {
            SafetensorsFile tensors = SafetensorsFile.parse(file, bytes, arena);
            Map<String, TensorSource> group = new LinkedHashMap<>();
            tensors.tensors().forEach((name, tensor) -> group.put(name, TensorSource.of(tensor)));
            return new Checkpoint(file, Container.SAFETENSORS, arena, Map.of("", group), tensors.metadata());
        }
        if (bytes.byteSize() > 262
                && new String(bytes.asSlice(257, 5).toArray(ValueLayout.JAVA_BYTE), StandardCharsets.ISO_8859_1)
                        .equals("ustar")) {
            throw new UsageException(
                    file + " is a tar archive, as PyTorch wrote before 0.2: load and save it with a newer PyTorch");
        }
        throw new UsageException(file + " is no checkpoint: neither safetensors nor a PyTorch file");
    }

    private static Checkpoint zip(String file, MemorySegment bytes, Arena arena) {
        ZipArchive zip = ZipArchive.read(file, bytes);
        ZipArchive.Entry data = null;
        for (ZipArchive.Entry entry : zip.entries().values()) {
            String name = entry.name();
            int slash = name.indexOf('/');
            if (name.substring(slash + 1).equals("data.pkl")) {
                data = entry;
                break;
            }
        }
        if (data == null) {
            throw new UsageException(file + " is a zip archive without data.pkl: no PyTorch checkpoint");
        }
        String root = data.name().substring(0, data.name().length() - "data.pkl".length());
        ZipArchive.Entry order = zip.entries().get(root + "byteorder");
        if (order != null && order.size() < 16) {
            byte[] text = zip.data(order).toArray(ValueLayout.JAVA_BYTE);
            if (!new String(text, StandardCharsets.ISO_8859_1).equals("little")) {
                throw new DamagedDataException(
                        file + ": was saved on a big-endian machine, which is not supported", order.offset());
            }
        }
        boolean script = zip.entries().containsKey(root + "constants.pkl");
        MemorySegment pickle = zip.data(data);
        zip.verify(data);
        Map<String, TorchStorage> storages = new HashMap<>();
        Unpickler unpickler = new Unpickler(file, pickle, data.offset(), script, (id, at) -> {
            TorchStorage storage = declare(file, id, at, storages);
            if (!storage.isPlaced()) {
                ZipArchive.Entry entry = zip.entries().get(root + "data/" + storage.key);
                if (entry == null) {
                    throw new DamagedDataException(
                            file + ": storage '" + SafetensorsFile.printable(storage.key) + "' is missing", at);
                }
                if (storage.bytes() < 0 || storage.bytes() > entry.size()) {
                    throw new DamagedDataException(
                            file + ": storage '" + SafetensorsFile.printable(storage.key) + "' has " + entry.size()
                                    + " bytes, too few for " + storage.elements + " elements of " + storage.type,
                            entry.offset());
                }
                storage.place(zip.data(entry), () -> zip.verify(entry));
            }
            return storage;
        });
        Object root0 = unpickler.load();
        return new Checkpoint(
                file, script ? Container.TORCHSCRIPT : Container.TORCH_ZIP, arena, groups(file, root0), Map.of());
    }

    /**
     * {@code magic, protocol 1001, system information, object, [storage keys]}, one pickle each, then for each key an i64 number of elements
     * and the elements.
     */
    private static Checkpoint legacy(String file, MemorySegment bytes, Arena arena) {
        Unpickler magic = new Unpickler(file, bytes, 0, false, null);
        if (!LEGACY_MAGIC.equals(magic.load())) {
            throw new UsageException(file + " is a bare Python pickle, no PyTorch checkpoint");
        }
        long at = magic.consumed();
        Unpickler protocol = new Unpickler(file, bytes.asSlice(at), at, false, null);
        if (!Long.valueOf(1001).equals(protocol.load())) {
            throw new DamagedDataException(file + ": PyTorch protocol other than 1001", at);
        }
        at += protocol.consumed();
        Unpickler system = new Unpickler(file, bytes.asSlice(at), at, false, null);
        if (system.load() instanceof Map<?, ?> information && Boolean.FALSE.equals(information.get("little_endian"))) {
            throw new DamagedDataException(file + ": was saved on a big-endian machine, which is not supported", at);
        }
        at += system.consumed();
        Map<String, TorchStorage> storages = new HashMap<>();
        Unpickler object =
                new Unpickler(file, bytes.asSlice(at), at, false, (id, offset) -> declare(file, id, offset, storages));
        Object root = object.load();
        at += object.consumed();
        Unpickler keys = new Unpickler(file, bytes.asSlice(at), at, false, null);
        if (!(keys.load() instanceof List<?> list)) {
            throw new DamagedDataException(file + ": list of storages is missing", at);
        }
        at += keys.consumed();
        for (Object key : list) {
            TorchStorage storage = key instanceof String text ? storages.get(text) : null;
            if (storage == null || storage.isPlaced()) {
                throw new DamagedDataException(file + ": list of storages names one that no tensor uses", at);
            }
            String name = "storage '" + SafetensorsFile.printable(storage.key) + "' ";
            if (bytes.byteSize() - at < 8) {
                throw new DamagedDataException(file + ": " + name + "is missing: truncated?", at);
            }
            long elements = bytes.get(I64, at);
            at += 8;
            if (elements != storage.elements) {
                throw new DamagedDataException(
                        file + ": " + name + "has " + elements + " elements instead of " + storage.elements, at - 8);
            }
            if (storage.bytes() < 0 || storage.bytes() > bytes.byteSize() - at) {
                throw new DamagedDataException(file + ": " + name + "runs past the end: truncated?", at);
            }
            storage.place(bytes.asSlice(at, storage.bytes()), null);
            at += storage.bytes();
        }
        for (TorchStorage storage : storages.values()) {
            if (!storage.isPlaced()) {
                throw new DamagedDataException(
                        file + ": storage '" + SafetensorsFile.printable(storage.key) + "' is missing", at);
            }
        }
        return new Checkpoint(file, Container.TORCH_LEGACY, arena, groups(file, root), Map.of());
    }

    /** {@code ("storage", class, key, location, elements)}; the legacy format adds a view of another storage, or None. */
    private static TorchStorage declare(String file, List<Object> id, long at, Map<String, TorchStorage> storages) {
        if (id.size() < 5
                || id.size() > 6
                || !"storage".equals(id.get(0))
                || !(id.get(2) instanceof String key)
                || !(id.get(4) instanceof Long elements)
                || elements < 0) {
            throw new DamagedDataException(file + ": pickle has a persistent id that is no storage", at);
        }
        if (id.size() == 6 && id.get(5) != Unpickler.NONE) {
            throw new DamagedDataException(
                    file + ": storage '" + SafetensorsFile.printable(key)
                            + "' is a view of another one, as PyTorch wrote before 0.4: load and save it with a newer PyTorch",
                    at);
        }
        ElementType type = Unpickler.storageType(id.get(1));
        if (type == null) {
            throw new DamagedDataException(
                    file + ": storage '" + SafetensorsFile.printable(key) + "' has no readable element type", at);
        }
        TorchStorage known = storages.get(key);
        if (known == null) {
            known = new TorchStorage(type, key, elements);
            storages.put(key, known);
        } else if (known.type != type || known.elements != elements) {
            throw new DamagedDataException(
                    file + ": storage '" + SafetensorsFile.printable(key) + "' is declared twice, differently", at);
        }
        return known;
    }

    private static Map<String, Map<String, TensorSource>> groups(String file, Object root) {
        Map<String, Map<String, TensorSource>> groups = new LinkedHashMap<>();
        Map<String, TensorSource> top = new LinkedHashMap<>();
        int[] nodes = {0};
        if (root instanceof Unpickler.ScriptObject) {
            flatten(file, "", root, top, 0, nodes);
        } else if (root instanceof Map<?, ?> map) {
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                if (!(entry.getKey() instanceof String name)) {
                    continue;
                }
                if (entry.getValue() instanceof TorchTensor tensor) {
                    top.put(name, tensor);
                } else if (!name.contains("optimizer")) {
                    Map<String, TensorSource> group = new LinkedHashMap<>();
                    flatten(file, "", entry.getValue(), group, 0, nodes);
                    if (!group.isEmpty()) {
                        groups.put(name, Collections.unmodifiableMap(group));
                    }
                }
            }
        } else {
            throw new DamagedDataException(file + ": is a PyTorch file, but holds no dictionary of tensors");
        }
        if (!top.isEmpty() || groups.isEmpty()) {
            groups.put("", Collections.unmodifiableMap(top));
        }
        return groups;
    }

    /** Joins nested names with dots. Only dictionaries with text keys and TorchScript objects are entered. */
    private static void flatten(
            String file, String prefix, Object value, Map<String, TensorSource> tensors, int depth, int[] nodes) {
        if (depth > MAX_DEPTH || ++nodes[0] > MAX_NODES) {
            throw new DamagedDataException(file + ": nests its tensors too deeply or too often");
        }
        Map<?, ?> entries = switch (value) {
            case Unpickler.ScriptObject object -> object.attributes;
            case Map<?, ?> map -> map;
            default -> Map.of();
        };
        for (Map.Entry<?, ?> entry : entries.entrySet()) {
            if (entry.getKey() instanceof String name) {
                String path = prefix + name;
                if (entry.getValue() instanceof TorchTensor tensor) {
                    if (++nodes[0] > MAX_NODES || path.length() > 4096) {
                        throw new DamagedDataException(file + ": nests its tensors too deeply or too often");
                    }
                    if (tensors.put(path, tensor) != null) {
                        throw new DamagedDataException(
                                file + ": holds two tensors named '" + SafetensorsFile.printable(path) + "'");
                    }
                } else {
                    flatten(file, path + ".", entry.getValue(), tensors, depth + 1, nodes);
                }
            }
        }
    }

    /** Path as given to {@link #open}. */
    public String file() {
        return file;
    }

    public Container container() {
        return container;
    }

    /** The text entries of a safetensors file's metadata; empty for the other containers. */
    public Map<String, String> metadata() {
        return metadata;
    }

    /** Group to name to tensor, in the file's order; valid until {@link #close}. */
    public Map<String, Map<String, TensorSource>> groups() {
        return Collections.unmodifiableMap(groups);
    }

    /**
     * The tensors of one group.
     *
     * @throws UsageException when there is none of this name; lists those that are there
     */
    public Map<String, TensorSource> group(String name) {
        Map<String, TensorSource> group = groups.get(name);
        if (group == null) {
            throw new UsageException(file + " holds no '" + name + "'; it holds " + new ArrayList<>(groups.keySet()));
        }
        return group;
    }

    /** Unmaps the file. Idempotent; no tensor may be read afterwards. */
    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
    }
}

package org.comneck.model;

import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Collections;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * A model: its {@link Manifest} and its tensors. Opening checks the manifest and the place of every tensor and reads nothing else; the
 * tensors are views of the mapped file, valid until {@link #close}. Thread-safe.
 */
public final class ModelFile implements AutoCloseable {
    /** Class-path resource of the model that comes with the program. */
    static final String EMBEDDED = "comneck-tiny.safetensors";

    private static final int MAX_EMBEDDED_BYTES = 32 << 20;

    private final String file;
    private final Arena arena;
    private final Manifest manifest;
    private final Map<String, String> metadata;
    private final Map<String, Tensor> tensors;
    private byte[] identity;

    private ModelFile(
            String file, Arena arena, Manifest manifest, Map<String, String> metadata, Map<String, Tensor> tensors) {
        this.file = file;
        this.arena = arena;
        this.manifest = manifest;
        this.metadata = metadata;
        this.tensors = tensors;
    }

    /**
     * Maps a model file.
     *
     * @throws UsageException when it is not there, cannot be read, or is no model file; says what to do
     * @throws DamagedDataException when it is damaged; names file, tensor and offset
     */
    public static ModelFile open(Path path) {
        Arena arena = Arena.ofShared();
        try {
            return parse(path.toString(), MappedFile.map(path, arena), arena);
        } catch (Throwable e) {
            arena.close();
            throw e;
        }
    }

    /**
     * The model that comes with the program.
     *
     * @throws UsageException when this build has none
     */
    public static ModelFile openEmbedded() {
        Arena arena = Arena.ofShared();
        try (InputStream in = ModelFile.class.getResourceAsStream(EMBEDDED)) {
            if (in == null) {
                throw new UsageException(
                        "this build has no embedded model; name one with --model, made by 'comneck import'");
            }
            byte[] bytes = in.readNBytes(MAX_EMBEDDED_BYTES + 1);
            if (bytes.length > MAX_EMBEDDED_BYTES) {
                throw new DamagedDataException("the embedded model is larger than " + MAX_EMBEDDED_BYTES + " bytes");
            }
            MemorySegment memory = arena.allocate(bytes.length, ModelWriter.ALIGNMENT_BYTES);
            memory.copyFrom(MemorySegment.ofArray(bytes));
            return parse("embedded model", memory, arena);
        } catch (IOException e) {
            arena.close();
            throw new UsageException("the embedded model cannot be read: " + e.getMessage(), e);
        } catch (Throwable e) {
            arena.close();
            throw e;
        }
    }

    /** True when this build comes with a model. */
    public static boolean hasEmbedded() {
        return ModelFile.class.getResource(EMBEDDED) != null;
    }

    /** A model that exists in memory only: for tests and training. The sources are read once, here. */
    public static ModelFile inMemory(Manifest manifest, Map<String, ? extends TensorSource> sources) {
        Arena arena = Arena.ofShared();
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        sources.forEach((name, source) -> {
            Shape shape = source.shape();
            MemorySegment data = arena.allocate(
                    Math.multiplyExact(shape.elements(), source.type().bytes()), ModelWriter.ALIGNMENT_BYTES);
            if (data.byteSize() > 0) {
                source.read(0, data);
            }
            tensors.put(name, new Tensor(source.type(), shape, data.asReadOnly()));
        });
        return new ModelFile(manifest.name() + " (in memory)", arena, manifest, Map.of(), tensors);
    }

    /** Parses mapped bytes; the arena is closed with the result. */
    static ModelFile parse(String file, MemorySegment bytes, Arena arena) {
        if (!SafetensorsFile.looksLike(bytes)) {
            throw new UsageException(file + " is no model file; make one from checkpoints with 'comneck import'");
        }
        SafetensorsFile tensors = SafetensorsFile.parse(file, bytes, arena);
        String json = tensors.metadata().get(Manifest.KEY);
        if (json == null) {
            throw new UsageException(file
                    + " is a safetensors file without ComNeck manifest; turn it into a model with 'comneck import'");
        }
        return new ModelFile(file, arena, Manifest.parse(file, json), tensors.metadata(), tensors.tensors());
    }

    /** Path as given to {@link #open}, or words. */
    public String file() {
        return file;
    }

    public Manifest manifest() {
        return manifest;
    }

    /** All text entries of the file's metadata, among them the hashes of the checkpoints it was made from. */
    public Map<String, String> metadata() {
        return metadata;
    }

    /**
     * A tensor by name.
     *
     * @throws DamagedDataException when the file lacks it
     */
    public Tensor tensor(String name) {
        Tensor tensor = tensors.get(name);
        if (tensor == null) {
            throw new DamagedDataException(file + ": tensor '" + name + "' is missing");
        }
        return tensor;
    }

    /**
     * A tensor by name and shape.
     *
     * @param sizes expected shape
     * @throws DamagedDataException when the file lacks it, or with both shapes when it has another
     */
    public Tensor tensor(String name, long... sizes) {
        Tensor tensor = tensor(name);
        Shape expected = Shape.of(sizes);
        if (!tensor.shape().equals(expected)) {
            throw new DamagedDataException(
                    file + ": tensor '" + name + "' has shape " + tensor.shape() + " instead of " + expected);
        }
        return tensor;
    }

    public boolean has(String name) {
        return tensors.containsKey(name);
    }

    public Set<String> names() {
        return Collections.unmodifiableSet(tensors.keySet());
    }

    /**
     * The 16 bytes by which a bitstream names this model: a hash of everything that decoded symbols depend on. Stored in the file when it
     * was written; a file without it is hashed once, here.
     */
    public synchronized byte[] identity() {
        if (identity == null) {
            String stored = metadata.get(ModelWriter.IDENTITY_KEY);
            if (stored == null) {
                identity = computeIdentity();
            } else {
                try {
                    identity = HexFormat.of().parseHex(stored);
                } catch (IllegalArgumentException e) {
                    throw new DamagedDataException(
                            file + ": metadata '" + ModelWriter.IDENTITY_KEY + "' is no hash", -1, e);
                }
                if (identity.length != 16) {
                    identity = null;
                    throw new DamagedDataException(file + ": metadata '" + ModelWriter.IDENTITY_KEY + "' is no hash");
                }
            }
        }
        return identity.clone();
    }

    /** The identity hashed anew from the tensors, whatever the file says of itself. Reads all symbol-relevant tensors. */
    public byte[] computeIdentity() {
        Identity hash = new Identity();
        tensors.forEach((name, tensor) -> hash.add(name, TensorSource.of(tensor)));
        return hash.digest(manifest.profile());
    }

    /** Unmaps the file. Idempotent; no tensor may be used afterwards. */
    @Override
    public void close() {
        if (arena.scope().isAlive()) {
            arena.close();
        }
    }
}

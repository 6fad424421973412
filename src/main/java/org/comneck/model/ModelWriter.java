package org.comneck.model;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import org.comneck.UsageException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * Writes a model file, or any safetensors file: tensors are declared first and read a few megabytes at a time when {@link #write} runs, so
 * that a file of any size needs little memory. The bytes go to a temporary name beside the target and are moved into place at the end:
 * a reader never sees half a file, and a failure leaves nothing behind.
 *
 * <p>The data starts at a multiple of {@value #ALIGNMENT_BYTES} bytes and tensors are ordered so that those whose size is a multiple
 * of it (nearly all) start at one too; the format allows no holes between them.
 */
public final class ModelWriter {
    /** Alignment of the data and of nearly all tensors. */
    public static final int ALIGNMENT_BYTES = 64;

    /** Metadata key of the identity, 32 hexadecimal digits. */
    static final String IDENTITY_KEY = "comneck.identity";

    private static final String NO_IDENTITY = "0".repeat(32);
    private static final int PIECE_BYTES = 4 << 20;
    private static final JsonMapper JSON = new JsonMapper();

    private final Manifest manifest;
    private final Map<String, String> metadata = new LinkedHashMap<>();
    private final Map<String, TensorSource> tensors = new LinkedHashMap<>();

    /** A writer of a model file. */
    public static ModelWriter of(Manifest manifest) {
        ModelWriter writer = new ModelWriter(manifest);
        writer.metadata("format", "pt");
        writer.metadata(Manifest.KEY, manifest.toJson());
        writer.metadata(IDENTITY_KEY, NO_IDENTITY);
        return writer;
    }

    /** A writer of a plain safetensors file, without manifest. */
    public static ModelWriter plain() {
        return new ModelWriter(null);
    }

    private ModelWriter(Manifest manifest) {
        this.manifest = manifest;
    }

    /** Adds a text to the file's metadata; a key used before gets the new text. */
    public ModelWriter metadata(String key, String value) {
        metadata.put(key, value);
        return this;
    }

    /** Adds a tensor whose memory stays valid until {@link #write} returns. */
    public ModelWriter add(String name, Tensor tensor) {
        return add(name, TensorSource.of(tensor));
    }

    /**
     * Adds a tensor that is read when {@link #write} runs.
     *
     * @throws IllegalArgumentException when the name is taken
     */
    public ModelWriter add(String name, TensorSource source) {
        if (tensors.putIfAbsent(name, source) != null || name.equals("__metadata__")) {
            throw new IllegalArgumentException("tensor '" + name + "' is added twice");
        }
        return this;
    }

    /** Names added so far. */
    public Set<String> names() {
        return Collections.unmodifiableSet(tensors.keySet());
    }

    /** Size of the tensors added so far, in bytes: that of the file but for its header. */
    long estimatedBytes() {
        return tensors.values().stream().mapToLong(ModelWriter::bytes).sum();
    }

    /** {@link #write(Path, Progress)} in silence. */
    public void write(Path target) {
        write(target, Progress.NONE);
    }

    /**
     * Writes the file.
     *
     * @param target replaced if it is there
     * @param progress told the bytes written; may cancel by throwing, which leaves nothing behind
     * @throws UsageException when the target cannot be written
     */
    public void write(Path target, Progress progress) {
        List<Map.Entry<String, TensorSource>> order = order();
        byte[] header = header(order, metadata);
        long total = 8L + header.length;
        for (Map.Entry<String, TensorSource> entry : order) {
            total = Math.addExact(total, bytes(entry.getValue()));
        }
        Path absolute = target.toAbsolutePath();
        if (Files.isDirectory(absolute)) {
            throw new UsageException(target + " is a folder; name a file to write");
        }
        Path temporary = absolute.resolveSibling("." + absolute.getFileName() + "."
                + Long.toHexString(ThreadLocalRandom.current().nextLong()) + ".tmp");
        temporary.toFile().deleteOnExit();
        try {
            try (FileChannel channel =
                    FileChannel.open(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
                writeTo(channel, order, header, total, progress);
            }
            move(temporary, absolute);
        } catch (NoSuchFileException e) {
            throw new UsageException(target + ": its folder does not exist", e);
        } catch (IOException e) {
            throw new UsageException(target + ": cannot be written: " + e.getMessage(), e);
        } finally {
            try {
                Files.deleteIfExists(temporary);
            } catch (IOException e) {
                // The first error is the one to report; deleteOnExit tries again.
            }
        }
    }

    private void writeTo(
            FileChannel channel,
            List<Map.Entry<String, TensorSource>> order,
            byte[] header,
            long total,
            Progress progress)
            throws IOException {
        Identity identity = new Identity();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(PIECE_BYTES, ALIGNMENT_BYTES);
            writeHeader(channel, header);
            long done = 8L + header.length;
            for (Map.Entry<String, TensorSource> entry : order) {
                TensorSource source = entry.getValue();
                int width = source.type().bytes();
                long bytes = bytes(source);
                if (manifest != null) {
                    identity.add(entry.getKey(), source);
                }
                for (long at = 0; at < bytes; at += PIECE_BYTES) {
                    MemorySegment piece = buffer.asSlice(0, Math.min(PIECE_BYTES, bytes - at));
                    source.read(at / width, piece);
                    ByteBuffer out = piece.asByteBuffer();
                    while (out.hasRemaining()) {
                        channel.write(out);
                    }
                    done += piece.byteSize();
                    progress.report(entry.getKey(), done, total);
                }
            }
        }
        if (manifest != null) {
            Map<String, String> known = new LinkedHashMap<>(metadata);
            known.put(IDENTITY_KEY, Identity.hex(identity.digest(manifest.profile())));
            channel.position(0);
            writeHeader(channel, header(order, known));
        }
    }

    private static void writeHeader(FileChannel channel, byte[] header) throws IOException {
        ByteBuffer out = ByteBuffer.allocate(8 + header.length).order(ByteOrder.LITTLE_ENDIAN);
        out.putLong(header.length).put(header).flip();
        while (out.hasRemaining()) {
            channel.write(out);
        }
    }

    private static void move(Path from, Path to) throws IOException {
        try {
            Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);
        } catch (AtomicMoveNotSupportedException e) {
            Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
        }
    }

    /** Sizes with the most trailing zero bits first: everything before a tensor is then a multiple of what it wants to be aligned to. */
    private List<Map.Entry<String, TensorSource>> order() {
        List<Map.Entry<String, TensorSource>> order = new ArrayList<>(tensors.entrySet());
        order.sort(Comparator.comparingInt(entry -> {
            long bytes = bytes(entry.getValue());
            return bytes == 0 ? 0 : -Math.min(Long.numberOfTrailingZeros(bytes), 6);
        }));
        return order;
    }

    private static long bytes(TensorSource source) {
        return Math.multiplyExact(source.shape().elements(), source.type().bytes());
    }

    private static byte[] header(List<Map.Entry<String, TensorSource>> order, Map<String, String> metadata) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (JsonGenerator json = JSON.createGenerator(out)) {
            json.writeStartObject();
            if (!metadata.isEmpty()) {
                json.writeObjectFieldStart("__metadata__");
                for (Map.Entry<String, String> entry : metadata.entrySet()) {
                    json.writeStringField(entry.getKey(), entry.getValue());
                }
                json.writeEndObject();
            }
            long begin = 0;
            for (Map.Entry<String, TensorSource> entry : order) {
                ElementType type = entry.getValue().type();
                Shape shape = entry.getValue().shape();
                long end = begin + bytes(entry.getValue());
                json.writeObjectFieldStart(entry.getKey());
                json.writeStringField("dtype", type.name());
                json.writeFieldName("shape");
                json.writeArray(shape.toArray(), 0, shape.rank());
                json.writeFieldName("data_offsets");
                json.writeArray(new long[] {begin, end}, 0, 2);
                json.writeEndObject();
                begin = end;
            }
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        byte[] bytes = out.toByteArray();
        int padded = (8 + bytes.length + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES - 8;
        byte[] header = Arrays.copyOf(bytes, padded);
        Arrays.fill(header, bytes.length, padded, (byte) ' ');
        return header;
    }
}

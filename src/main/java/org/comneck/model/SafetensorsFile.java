package org.comneck.model;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.comneck.DamagedDataException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * A memory-mapped safetensors file.
 *
 * <pre>
 *   bytes 0..7        u64 LE: header length L, at most 100,000,000
 *   bytes 8..8+L-1    JSON, starts with '{', may end in spaces:
 *                     {"__metadata__": {text: text}, name: {"dtype", "shape": [..], "data_offsets": [begin, end]}, ...}
 *   bytes 8+L..end    the tensors, little-endian; offsets count from here and cover it without holes or overlap
 * </pre>
 *
 * Everything is checked when the file is opened, before any tensor can be asked for; tensors are views of the mapping. Source: the format
 * description of huggingface/safetensors.
 */
public final class SafetensorsFile implements AutoCloseable {
    /** Longest header accepted, the same as in the format's own library. */
    public static final long MAX_HEADER_BYTES = 100_000_000;

    /** Most tensors accepted in one file. */
    public static final int MAX_TENSORS = 1 << 18;

    private static final int MAX_RANK = 32;
    private static final ValueLayout.OfLong I64 = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private static final JsonFactory JSON = JsonFactory.builder()
            .streamReadConstraints(StreamReadConstraints.builder()
                    .maxNestingDepth(8)
                    .maxStringLength((int) MAX_HEADER_BYTES)
                    .build())
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .disable(JsonFactory.Feature.CHARSET_DETECTION)
            .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
            .build();

    private final String file;
    private final Arena arena;
    private final Map<String, String> metadata;
    private final Map<String, Tensor> tensors;
    private final Map<String, Long> offsets;

    private SafetensorsFile(
            String file,
            Arena arena,
            Map<String, String> metadata,
            Map<String, Tensor> tensors,
            Map<String, Long> offsets) {
        this.file = file;
        this.arena = arena;
        this.metadata = Collections.unmodifiableMap(metadata);
        this.tensors = Collections.unmodifiableMap(tensors);
        this.offsets = offsets;
    }

    /**
     * Maps a file and checks all of its header.
     *
     * @throws org.comneck.UsageException when the file is not there or cannot be read
     * @throws DamagedDataException when it is not a sound safetensors file; names file, tensor and byte offset
     */
    public static SafetensorsFile open(Path path) {
        Arena arena = Arena.ofShared();
        try {
            return parse(path.toString(), MappedFile.map(path, arena), arena);
        } catch (Throwable e) {
            arena.close();
            throw e;
        }
    }

    /** True when these first bytes of a file can be a safetensors header: a length, then an opening brace. */
    static boolean looksLike(MemorySegment file) {
        return file.byteSize() >= 9 && file.get(ValueLayout.JAVA_BYTE, 8) == '{';
    }

    /** Parses mapped bytes; the arena is closed with the result. */
    static SafetensorsFile parse(String file, MemorySegment bytes, Arena arena) {
        if (bytes.byteSize() < 8) {
            throw damaged(file, "is too short for a safetensors header: " + bytes.byteSize() + " bytes", 0);
        }
        long length = bytes.get(I64, 0);
        if (length < 0 || length > MAX_HEADER_BYTES) {
            throw damaged(
                    file,
                    "claims a safetensors header of " + Long.toUnsignedString(length) + " bytes; the limit is "
                            + MAX_HEADER_BYTES,
                    0);
        }
        if (length > bytes.byteSize() - 8) {
            throw damaged(
                    file,
                    "claims a safetensors header of " + length + " bytes, but only " + (bytes.byteSize() - 8)
                            + " follow: truncated?",
                    0);
        }
        if (length == 0 || bytes.get(ValueLayout.JAVA_BYTE, 8) != '{') {
            throw damaged(file, "is no safetensors file: its header does not start with '{'", 8);
        }
        byte[] header = bytes.asSlice(8, length).toArray(ValueLayout.JAVA_BYTE);
        Map<String, String> metadata = new LinkedHashMap<>();
        List<Entry> entries = new ArrayList<>();
        try (JsonParser json = JSON.createParser(header)) {
            json.nextToken();
            while (json.nextToken() != JsonToken.END_OBJECT) {
                String name = json.currentName();
                long at = 8 + json.currentTokenLocation().getByteOffset();
                if (name.equals("__metadata__")) {
                    readMetadata(file, json, metadata);
                } else {
                    if (entries.size() == MAX_TENSORS) {
                        throw damaged(file, "holds more than " + MAX_TENSORS + " tensors", at);
                    }
                    entries.add(readEntry(file, json, name, at));
                }
            }
            if (json.nextToken() != null) {
                throw damaged(
                        file,
                        "has text after its safetensors header",
                        8 + json.currentTokenLocation().getByteOffset());
            }
        } catch (JsonProcessingException e) {
            long at = e.getLocation() == null ? 0 : Math.max(0, e.getLocation().getByteOffset());
            throw new DamagedDataException(
                    file + ": safetensors header is not valid: " + e.getOriginalMessage(), 8 + at, e);
        } catch (IOException e) {
            throw new DamagedDataException(file + ": safetensors header is not valid: " + e.getMessage(), 8, e);
        }
        return build(file, bytes, arena, 8 + length, metadata, entries);
    }

    private static SafetensorsFile build(
            String file,
            MemorySegment bytes,
            Arena arena,
            long start,
            Map<String, String> metadata,
            List<Entry> entries) {
        long available = bytes.byteSize() - start;
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        Map<String, Long> offsets = new LinkedHashMap<>();
        List<Entry> sorted = new ArrayList<>(entries);
        sorted.sort(Comparator.comparingLong(Entry::begin).thenComparingLong(Entry::end));
        long expected = 0;
        for (Entry entry : sorted) {
            String tensor = "tensor '" + printable(entry.name) + "' ";
            if (entry.begin < 0 || entry.end < entry.begin) {
                throw damaged(
                        file,
                        tensor + "has data_offsets [" + entry.begin + "," + entry.end + "], which are not in order",
                        entry.at);
            }
            if (entry.end > available) {
                throw damaged(
                        file,
                        tensor + "ends at byte " + entry.end + " of the data, but only " + available
                                + " bytes are there: truncated?",
                        entry.at);
            }
            if (entry.begin != expected) {
                throw damaged(
                        file,
                        tensor + (entry.begin < expected ? "overlaps the one before it" : "leaves a hole before it")
                                + ": begins at " + entry.begin + " instead of " + expected,
                        entry.at);
            }
            long size;
            try {
                size = Math.multiplyExact(Shape.of(entry.shape).elements(), (long) entry.type.bytes());
            } catch (ArithmeticException e) {
                throw damaged(file, tensor + "is larger than any memory", entry.at);
            }
            if (size != entry.end - entry.begin) {
                throw damaged(
                        file,
                        tensor + entry.type + " " + Shape.of(entry.shape) + " takes " + size
                                + " bytes, but its data_offsets span " + (entry.end - entry.begin),
                        entry.at);
            }
            expected = entry.end;
        }
        if (expected != available) {
            throw damaged(file, "has " + (available - expected) + " bytes after its last tensor", start + expected);
        }
        for (Entry entry : entries) {
            tensors.put(
                    entry.name,
                    new Tensor(
                            entry.type,
                            Shape.of(entry.shape),
                            bytes.asSlice(start + entry.begin, entry.end - entry.begin)));
            offsets.put(entry.name, start + entry.begin);
        }
        return new SafetensorsFile(file, arena, metadata, tensors, offsets);
    }

    private static void readMetadata(String file, JsonParser json, Map<String, String> metadata) throws IOException {
        if (json.nextToken() != JsonToken.START_OBJECT) {
            throw damaged(
                    file,
                    "has __metadata__ that is not an object",
                    8 + json.currentTokenLocation().getByteOffset());
        }
        while (json.nextToken() != JsonToken.END_OBJECT) {
            String key = json.currentName();
            if (json.nextToken() != JsonToken.VALUE_STRING) {
                throw damaged(
                        file,
                        "has __metadata__ '" + printable(key) + "' that is not text",
                        8 + json.currentTokenLocation().getByteOffset());
            }
            metadata.put(key, json.getText());
        }
    }

    private static Entry readEntry(String file, JsonParser json, String name, long at) throws IOException {
        String tensor = "tensor '" + printable(name) + "' ";
        if (json.nextToken() != JsonToken.START_OBJECT) {
            throw damaged(file, tensor + "is not described by an object", at);
        }
        ElementType type = null;
        long[] shape = null;
        long[] offsets = null;
        while (json.nextToken() != JsonToken.END_OBJECT) {
            String field = json.currentName();
            JsonToken value = json.nextToken();
            switch (field) {
                case "dtype" -> {
                    if (value != JsonToken.VALUE_STRING) {
                        throw damaged(file, tensor + "has a dtype that is not text", at);
                    }
                    type = elementType(json.getText());
                    if (type == null) {
                        throw damaged(
                                file,
                                tensor + "has element type '" + printable(json.getText())
                                        + "'; readable are F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL",
                                at);
                    }
                }
                case "shape" -> shape = readNumbers(file, json, tensor + "has a shape", MAX_RANK, at);
                case "data_offsets" -> offsets = readNumbers(file, json, tensor + "has data_offsets", 2, at);
                default -> throw damaged(file, tensor + "has an unknown field '" + printable(field) + "'", at);
            }
        }
        if (type == null || shape == null || offsets == null || offsets.length != 2) {
            throw damaged(file, tensor + "needs dtype, shape and two data_offsets", at);
        }
        return new Entry(name, type, shape, offsets[0], offsets[1], at);
    }

    private static long[] readNumbers(String file, JsonParser json, String what, int limit, long at)
            throws IOException {
        if (json.currentToken() != JsonToken.START_ARRAY) {
            throw damaged(file, what + " that is not a list", at);
        }
        long[] numbers = new long[limit];
        int count = 0;
        while (json.nextToken() != JsonToken.END_ARRAY) {
            if (json.currentToken() != JsonToken.VALUE_NUMBER_INT) {
                throw damaged(file, what + " with an entry that is not a whole number", at);
            }
            if (count == limit) {
                throw damaged(file, what + " of more than " + limit + " entries", at);
            }
            long number = json.getLongValue();
            if (number < 0) {
                throw damaged(file, what + " with a negative entry, " + number, at);
            }
            numbers[count++] = number;
        }
        return Arrays.copyOf(numbers, count);
    }

    private static ElementType elementType(String dtype) {
        for (ElementType type : ElementType.values()) {
            if (type.name().equals(dtype)) {
                return type;
            }
        }
        return null;
    }

    private static DamagedDataException damaged(String file, String message, long offset) {
        return new DamagedDataException(file + ": " + message, offset);
    }

    /** Text from a file made fit for one line of an error message. */
    static String printable(String text) {
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < text.length() && i < 120; i++) {
            char c = text.charAt(i);
            out.append(c < ' ' || c == 0x7F || Character.isISOControl(c) || Character.isSurrogate(c) ? '?' : c);
        }
        return text.length() > 120 ? out + "..." : out.toString();
    }

    /** Path as given to {@link #open}. */
    public String file() {
        return file;
    }

    /** The text entries of {@code __metadata__}, in the file's order. */
    public Map<String, String> metadata() {
        return metadata;
    }

    /** All tensors, in the order of the header; views of the mapping, valid until {@link #close}. */
    public Map<String, Tensor> tensors() {
        return tensors;
    }

    /** Byte offset of a tensor's first byte in the file. */
    public long offset(String name) {
        return offsets.get(name);
    }

    @Override
    public void close() {
        if (arena != null && arena.scope().isAlive()) {
            arena.close();
        }
    }

    /** Begin and end count from the start of the data; at is the offset of the entry in the file's header. */
    private record Entry(String name, ElementType type, long[] shape, long begin, long end, long at) {}
}

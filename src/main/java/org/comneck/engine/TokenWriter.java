package org.comneck.engine;

import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;
import org.comneck.UsageException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Rounding;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/** Writes tensors for other programs: NumPy arrays, safetensors, bare elements. */
public final class TokenWriter {
    private static final int PIECE_ELEMENTS = 1 << 14;
    private static final int ALIGNMENT_BYTES = 64;

    private TokenWriter() {}

    /**
     * Writes one tensor to a file whose name says the format; whole or not at all.
     *
     * @param name of the tensor in a safetensors file
     * @param tensor F32, or any type when it is written as it is
     * @param type F32, F16 or BF16 (rounded to nearest even), or the tensor's own type
     * @param metadata texts for a safetensors file
     * @throws UsageException when the file cannot be written, or the format cannot hold the type
     */
    public static void write(
            Path target,
            TokenFormat format,
            String name,
            Tensor tensor,
            ElementType type,
            Map<String, String> metadata) {
        check(format, type);
        AtomicOutput.write(target, out -> write(out, format, name, tensor, type, metadata));
    }

    /** Throws when the format cannot hold the type: before anything expensive is done. */
    public static void check(TokenFormat format, ElementType type) {
        if (format == TokenFormat.NPY && type == ElementType.BF16) {
            throw new UsageException("NumPy files have no bf16: choose f16 or f32, or write .safetensors or .bin");
        }
    }

    /** {@link #write(Path, TokenFormat, String, Tensor, ElementType, Map)} to a stream that stays open. */
    public static void write(
            OutputStream out,
            TokenFormat format,
            String name,
            Tensor tensor,
            ElementType type,
            Map<String, String> metadata)
            throws IOException {
        out.write(header(format, name, tensor.shape(), type, metadata));
        elements(out, tensor, type);
    }

    /**
     * What stands before the elements in a file of one tensor; nothing for {@link TokenFormat#BIN}.
     *
     * @throws UsageException when the format cannot hold the type
     */
    public static byte[] header(
            TokenFormat format, String name, Shape shape, ElementType type, Map<String, String> metadata) {
        check(format, type);
        return switch (format) {
            case NPY -> npyHeader(shape, type);
            case SAFETENSORS -> safetensorsHeader(Map.of(name, new Declared(type, shape)), metadata);
            case BIN -> new byte[0];
        };
    }

    /** Several tensors in one safetensors file, in this order. */
    public static void writeSafetensors(OutputStream out, Map<String, Tensor> tensors, Map<String, String> metadata)
            throws IOException {
        Map<String, Declared> declared = new LinkedHashMap<>();
        tensors.forEach((name, tensor) -> declared.put(name, new Declared(tensor.type(), tensor.shape())));
        out.write(safetensorsHeader(declared, metadata));
        for (Tensor tensor : tensors.values()) {
            elements(out, tensor, tensor.type());
        }
    }

    private record Declared(ElementType type, Shape shape) {}

    /** Length of the text, the text padded with spaces to a multiple of 64 with it. */
    private static byte[] safetensorsHeader(Map<String, Declared> tensors, Map<String, String> metadata) {
        ObjectNode root = new JsonMapper().createObjectNode();
        if (!metadata.isEmpty()) {
            ObjectNode texts = root.putObject("__metadata__");
            metadata.forEach(texts::put);
        }
        long at = 0;
        for (Map.Entry<String, Declared> entry : tensors.entrySet()) {
            Declared tensor = entry.getValue();
            ObjectNode node = root.putObject(entry.getKey()).put("dtype", tensor.type.name());
            for (long size : tensor.shape.toArray()) {
                node.withArray("/shape").add(size);
            }
            node.withArray("/shape");
            long end = at + tensor.shape.elements() * tensor.type.bytes();
            node.putArray("data_offsets").add(at).add(end);
            at = end;
        }
        byte[] json = root.toString().getBytes(StandardCharsets.UTF_8);
        int padded = Math.ceilDiv(8 + json.length, ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
        ByteBuffer header = ByteBuffer.allocate(padded).order(ByteOrder.LITTLE_ENDIAN);
        header.putLong(padded - 8L).put(json);
        Arrays.fill(header.array(), header.position(), padded, (byte) ' ');
        return header.array();
    }

    /** Magic, version 1.0, length of the text, the text padded with spaces to a multiple of 64. */
    private static byte[] npyHeader(Shape shape, ElementType type) {
        String descr = switch (type) {
            case F64 -> "<f8";
            case F32 -> "<f4";
            case F16 -> "<f2";
            case I64 -> "<i8";
            case I32 -> "<i4";
            case I16 -> "<i2";
            case I8 -> "|i1";
            case U8 -> "|u1";
            case BOOL -> "|b1";
            case BF16 -> throw new IllegalArgumentException("NumPy has no bf16");
        };
        String sizes = Arrays.stream(shape.toArray()).mapToObj(Long::toString).collect(Collectors.joining(", "));
        String text = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + sizes
                + (shape.rank() == 1 ? ",), }" : "), }");
        int length = Math.ceilDiv(10 + text.length() + 1, ALIGNMENT_BYTES) * ALIGNMENT_BYTES - 10;
        ByteBuffer header = ByteBuffer.allocate(10 + length).order(ByteOrder.LITTLE_ENDIAN);
        header.put((byte) 0x93).put("NUMPY".getBytes(StandardCharsets.US_ASCII));
        header.put((byte) 1).put((byte) 0).putShort((short) length);
        header.put((text + " ".repeat(length - 1 - text.length()) + "\n").getBytes(StandardCharsets.US_ASCII));
        return header.array();
    }

    private static void elements(OutputStream out, Tensor tensor, ElementType type) throws IOException {
        long elements = tensor.shape().elements();
        if (type != tensor.type() && tensor.type() != ElementType.F32) {
            throw new IllegalArgumentException(tensor + " cannot be written as " + type);
        }
        byte[] piece = new byte[PIECE_ELEMENTS * type.bytes()];
        MemorySegment bytes = MemorySegment.ofArray(piece);
        for (long at = 0; at < elements; at += PIECE_ELEMENTS) {
            int count = (int) Math.min(PIECE_ELEMENTS, elements - at);
            if (type == tensor.type()) {
                MemorySegment.copy(tensor.data(), at * type.bytes(), bytes, 0, (long) count * type.bytes());
            } else {
                Rounding.round(tensor.data().asSlice(4 * at, 4L * count), type, bytes);
            }
            out.write(piece, 0, count * type.bytes());
        }
    }
}

package org.comneck.engine;

import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;
import org.comneck.UsageException;
import org.comneck.tensor.Bfloat16;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/** Writes tensors for other programs: NumPy arrays, safetensors, bare elements. */
public final class TokenWriter {
    private static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
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
        check(format, type);
        switch (format) {
            case NPY -> out.write(npyHeader(tensor.shape(), type));
            case SAFETENSORS -> {
                Map<String, Tensor> one = new LinkedHashMap<>();
                one.put(name, tensor);
                writeSafetensors(out, one, type, metadata);
                return;
            }
            case BIN -> {}
        }
        elements(out, tensor, type);
    }

    /** Several tensors in one safetensors file, in this order. */
    public static void writeSafetensors(OutputStream out, Map<String, Tensor> tensors, Map<String, String> metadata)
            throws IOException {
        writeSafetensors(out, tensors, null, metadata);
    }

    /** @param type of all tensors, or null for each one's own */
    private static void writeSafetensors(
            OutputStream out, Map<String, Tensor> tensors, ElementType type, Map<String, String> metadata)
            throws IOException {
        ObjectNode root = new JsonMapper().createObjectNode();
        if (!metadata.isEmpty()) {
            ObjectNode texts = root.putObject("__metadata__");
            metadata.forEach(texts::put);
        }
        long at = 0;
        for (Map.Entry<String, Tensor> entry : tensors.entrySet()) {
            Tensor tensor = entry.getValue();
            ElementType stored = type == null ? tensor.type() : type;
            ObjectNode node = root.putObject(entry.getKey()).put("dtype", stored.name());
            for (long size : tensor.shape().toArray()) {
                node.withArray("/shape").add(size);
            }
            node.withArray("/shape");
            long end = at + tensor.shape().elements() * stored.bytes();
            node.putArray("data_offsets").add(at).add(end);
            at = end;
        }
        byte[] json = root.toString().getBytes(StandardCharsets.UTF_8);
        int padded = Math.ceilDiv(8 + json.length, ALIGNMENT_BYTES) * ALIGNMENT_BYTES - 8;
        byte[] header = Arrays.copyOf(json, padded);
        Arrays.fill(header, json.length, padded, (byte) ' ');
        out.write(ByteBuffer.allocate(8)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(padded)
                .array());
        out.write(header);
        for (Tensor tensor : tensors.values()) {
            elements(out, tensor, type == null ? tensor.type() : type);
        }
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
        ByteBuffer values = ByteBuffer.wrap(piece).order(ByteOrder.LITTLE_ENDIAN);
        for (long at = 0; at < elements; at += PIECE_ELEMENTS) {
            int count = (int) Math.min(PIECE_ELEMENTS, elements - at);
            if (type == tensor.type()) {
                MemorySegment.copy(tensor.data(), at * type.bytes(), bytes, 0, (long) count * type.bytes());
            } else {
                values.clear();
                for (int i = 0; i < count; i++) {
                    float value = tensor.data().getAtIndex(F32, at + i);
                    switch (type) {
                        case F16 -> values.putShort(Float.floatToFloat16(value));
                        case BF16 -> values.putShort(Bfloat16.toBits(value));
                        default -> throw new IllegalArgumentException("tokens cannot be written as " + type);
                    }
                }
            }
            out.write(piece, 0, count * type.bytes());
        }
    }
}

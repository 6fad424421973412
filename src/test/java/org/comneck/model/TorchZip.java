package org.comneck.model;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.comneck.tensor.ElementType;

/** Writes what {@code torch.save} writes, for tests: nested dictionaries of tensors, one storage each. */
final class TorchZip {
    private static final Map<ElementType, String> STORAGES =
            Map.of(ElementType.F32, "FloatStorage", ElementType.F16, "HalfStorage", ElementType.I64, "LongStorage");

    private final ByteArrayOutputStream pickle = new ByteArrayOutputStream();
    private final List<byte[]> storages = new ArrayList<>();

    private TorchZip() {}

    /** Values are maps, tensors, Integers and Strings. */
    static void write(Path file, Map<String, ?> root) {
        TorchZip zip = new TorchZip();
        zip.text("\u0080\u0002");
        zip.value(root);
        zip.text(".");
        try (OutputStream raw = Files.newOutputStream(file);
                ZipOutputStream out = new ZipOutputStream(raw)) {
            entry(out, "archive/data.pkl", zip.pickle.toByteArray());
            entry(out, "archive/byteorder", "little".getBytes(StandardCharsets.US_ASCII));
            for (int i = 0; i < zip.storages.size(); i++) {
                entry(out, "archive/data/" + i, zip.storages.get(i));
            }
            entry(out, "archive/version", "3\n".getBytes(StandardCharsets.US_ASCII));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void entry(ZipOutputStream out, String name, byte[] bytes) throws IOException {
        ZipEntry entry = new ZipEntry(name);
        entry.setMethod(ZipEntry.STORED);
        entry.setSize(bytes.length);
        CRC32 crc = new CRC32();
        crc.update(bytes);
        entry.setCrc(crc.getValue());
        out.putNextEntry(entry);
        out.write(bytes);
        out.closeEntry();
    }

    private void text(String latin1) {
        pickle.writeBytes(latin1.getBytes(StandardCharsets.ISO_8859_1));
    }

    private void unicode(String value) {
        byte[] utf8 = value.getBytes(StandardCharsets.UTF_8);
        text("X");
        number(utf8.length);
        pickle.writeBytes(utf8);
    }

    private void number(int value) {
        pickle.writeBytes(ByteBuffer.allocate(4)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putInt(value)
                .array());
    }

    private void integer(long value) {
        text("J");
        number(Math.toIntExact(value));
    }

    private void value(Object value) {
        switch (value) {
            case Integer integer -> integer(integer);
            case String string -> unicode(string);
            case Map<?, ?> map -> {
                text("ccollections\nOrderedDict\n)R(");
                map.forEach((key, inner) -> {
                    value(key);
                    value(inner);
                });
                text("u");
            }
            case TensorSource tensor -> tensor(tensor);
            default -> throw new IllegalArgumentException(value.toString());
        }
    }

    private void tensor(TensorSource tensor) {
        text("ctorch._utils\n_rebuild_tensor_v2\n((");
        unicode("storage");
        text("ctorch\n" + STORAGES.get(tensor.type()) + "\n");
        unicode(Integer.toString(storages.size()));
        unicode("cuda:0");
        integer(tensor.shape().elements());
        text("tQ");
        integer(0);
        long[] sizes = tensor.shape().toArray();
        text("(");
        for (long size : sizes) {
            integer(size);
        }
        text("t(");
        for (int d = 0; d < sizes.length; d++) {
            long stride = 1;
            for (int inner = d + 1; inner < sizes.length; inner++) {
                stride *= sizes[inner];
            }
            integer(stride);
        }
        text("t\u0089ccollections\nOrderedDict\n)RtR");
        byte[] bytes = new byte
                [Math.toIntExact(tensor.shape().elements() * tensor.type().bytes())];
        tensor.read(0, MemorySegment.ofArray(bytes));
        storages.add(bytes);
    }
}

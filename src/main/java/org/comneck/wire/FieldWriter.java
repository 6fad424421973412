package org.comneck.wire;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Writes a frame's fields in the order of their tags. */
final class FieldWriter {
    private ByteBuffer out = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN);
    private int previous = -1;

    private ByteBuffer field(Field field, int bytes) {
        if (field.tag() < previous) {
            throw new IllegalStateException(field + " after " + previous);
        }
        previous = field.tag();
        int needed = out.position() + 4 + bytes;
        if (needed > FrameHead.MAX_FIELD_BYTES) {
            throw new IllegalArgumentException("fields of " + needed + " bytes");
        }
        if (needed > out.capacity()) {
            out = ByteBuffer.wrap(Arrays.copyOf(out.array(), Math.max(needed, 2 * out.capacity())))
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .position(out.position());
        }
        return out.putShort((short) field.tag()).putShort((short) bytes);
    }

    FieldWriter u8(Field field, int value) {
        field(field, 1).put((byte) value);
        return this;
    }

    FieldWriter u16(Field field, int value) {
        field(field, 2).putShort((short) value);
        return this;
    }

    FieldWriter u32(Field field, long value) {
        field(field, 4).putInt((int) value);
        return this;
    }

    FieldWriter u64(Field field, long value) {
        field(field, 8).putLong(value);
        return this;
    }

    FieldWriter bytes(Field field, byte[]... parts) {
        field(field, Arrays.stream(parts).mapToInt(part -> part.length).sum());
        for (byte[] part : parts) {
            out.put(part);
        }
        return this;
    }

    /** @param mostBytes where a longer text is cut, between characters */
    FieldWriter text(Field field, String text, int mostBytes) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        int length = Math.min(bytes.length, mostBytes);
        while (length < bytes.length && length > 0 && (bytes[length] & 0xC0) == 0x80) {
            length--;
        }
        return bytes(field, Arrays.copyOf(bytes, length));
    }

    /** The fields, ready to be read. */
    ByteBuffer end() {
        return out.flip();
    }
}

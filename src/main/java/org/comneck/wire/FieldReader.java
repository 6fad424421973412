package org.comneck.wire;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;

/**
 * Takes a frame's fields in the order of their tags, which is the only order there is. A frame that is not exactly so is damaged; one with
 * a field that its type does not have asks for something unknown, which is misuse.
 */
final class FieldReader {
    private static final int HEADER_BYTES = 4;

    private final ByteBuffer in;
    private int tag = -1; // of the next field; -1 at the end
    private int previous = -1;

    FieldReader(ByteBuffer fields) {
        this.in = fields.slice().order(ByteOrder.LITTLE_ENDIAN);
        peek();
    }

    private void peek() {
        if (!in.hasRemaining()) {
            tag = -1;
            return;
        }
        int at = in.position();
        if (in.remaining() < HEADER_BYTES || in.remaining() - HEADER_BYTES < (in.getShort(at + 2) & 0xFFFF)) {
            throw new DamagedDataException("a field goes beyond the frame's fields", FrameHead.BYTES + at);
        }
        tag = in.getShort(at) & 0xFFFF;
        if (tag < previous) {
            throw new DamagedDataException("field " + tag + " after field " + previous, FrameHead.BYTES + at);
        }
        previous = tag;
    }

    boolean has(Field field) {
        return tag == field.tag();
    }

    /** The bytes of a field that is there. */
    private ByteBuffer take(Field field, int least, int most) {
        int at = in.position();
        if (!has(field)) {
            throw new DamagedDataException("field " + field + " is missing", FrameHead.BYTES + at);
        }
        int length = in.getShort(at + 2) & 0xFFFF;
        if (length < least || length > most) {
            throw new DamagedDataException(
                    "field " + field + " has " + length + " bytes, not "
                            + (least == most ? least : least + " to " + most),
                    FrameHead.BYTES + at);
        }
        ByteBuffer value = in.slice(at + HEADER_BYTES, length).order(ByteOrder.LITTLE_ENDIAN);
        in.position(at + HEADER_BYTES + length);
        peek();
        return value;
    }

    int u8(Field field) {
        return take(field, 1, 1).get() & 0xFF;
    }

    /** @param most largest value that has a meaning */
    int u8(Field field, int most) {
        int value = u8(field);
        if (value > most) {
            throw new UsageException("field " + field + " is " + value + ", which is not known");
        }
        return value;
    }

    int u16(Field field) {
        return take(field, 2, 2).getShort() & 0xFFFF;
    }

    int i16(Field field) {
        return take(field, 2, 2).getShort();
    }

    long u32(Field field) {
        return take(field, 4, 4).getInt() & 0xFFFF_FFFFL;
    }

    long u64(Field field) {
        return take(field, 8, 8).getLong();
    }

    ByteBuffer bytes(Field field, int least, int most) {
        return take(field, least, most);
    }

    String text(Field field, int mostBytes) {
        return text(field, take(field, 0, mostBytes));
    }

    static String text(Field field, ByteBuffer value) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(value).toString();
        } catch (CharacterCodingException e) {
            throw new DamagedDataException("field " + field + " is no UTF-8", -1, e);
        }
    }

    Reason reason() {
        int code = u16(Field.REASON);
        Reason reason = Reason.of(code);
        if (reason == null) {
            throw new UsageException("reason " + code + " is not known");
        }
        return reason;
    }

    /** Makes sure that nothing is left but what may be passed over. */
    void end() {
        while (tag >= Field.OPTIONAL) {
            int at = in.position();
            in.position(at + HEADER_BYTES + (in.getShort(at + 2) & 0xFFFF));
            peek();
        }
        if (tag >= 0) {
            throw new UsageException("field " + tag + " is not known here");
        }
    }
}

package org.comneck.bitstream;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import org.comneck.DamagedDataException;

/** Reads little-endian fields one after the other and never beyond the end; every failure names the field and its offset. */
final class Cursor {
    private static final ValueLayout.OfShort U16 = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt U32 = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final MemorySegment bytes;
    private long at;

    Cursor(MemorySegment bytes) {
        this.bytes = bytes;
    }

    /** Offset of the next field. */
    long offset() {
        return at;
    }

    /** Bytes that are left. */
    long left() {
        return bytes.byteSize() - at;
    }

    int u8(String field) {
        return bytes.get(ValueLayout.JAVA_BYTE, take(1, field)) & 0xFF;
    }

    int u16(String field) {
        return bytes.get(U16, take(2, field)) & 0xFFFF;
    }

    long u32(String field) {
        return bytes.get(U32, take(4, field)) & 0xFFFFFFFFL;
    }

    /** The next bytes, not copied. */
    MemorySegment bytes(long count, String field) {
        return bytes.asSlice(take(count, field), count);
    }

    private long take(long count, String field) {
        if (count > left()) {
            throw new DamagedDataException(
                    "the file ends within " + field + ": " + (count - left()) + " bytes are missing", bytes.byteSize());
        }
        long from = at;
        at += count;
        return from;
    }
}

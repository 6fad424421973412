package org.comneck.wire;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.zip.CRC32C;
import org.comneck.DamagedDataException;

/**
 * The first {@value #BYTES} bytes of a frame. Its own checksum is checked before anything it says is believed.
 *
 * @param version of the protocol, 1 to 255
 * @param type what kind of frame
 * @param credits how many more requests the client may send, 0 to 65,535; 0 in frames of a client
 * @param id of a request, unsigned and not 0; 0 in frames about the connection
 * @param deadlineMicros microseconds from the frame's arrival, 0 for none, at most {@link #MAX_DEADLINE_MICROS}
 * @param fieldBytes 0 to 65,535
 * @param bodyBytes 0 to 2^32 - 1
 */
public record FrameHead(
        int version, FrameType type, int credits, long id, long deadlineMicros, int fieldBytes, long bodyBytes) {
    /** Length of a head. */
    public static final int BYTES = 32;

    /** Length of the checksum that ends a frame. */
    public static final int TRAILER_BYTES = 4;

    /** The version that this package speaks, and the only one there is. */
    public static final int VERSION = 1;

    /** Longest deadline, a good hour. */
    public static final long MAX_DEADLINE_MICROS = 0xFFFF_FFFFL;

    /** Most bytes of fields. */
    public static final int MAX_FIELD_BYTES = 0xFFFF;

    /** Longest body that a frame can say. */
    public static final long MAX_BODY_BYTES = 0xFFFF_FFFFL;

    /** Most credits that a frame can grant. */
    public static final int MAX_CREDITS = 0xFFFF;

    private static final int MAGIC = 0x1A574E43; // "CNW", 1A
    private static final int CHECKSUM_AT = 28;

    public FrameHead {
        check("version", version, 1, 255);
        check("credits", credits, 0, MAX_CREDITS);
        check("deadline", deadlineMicros, 0, MAX_DEADLINE_MICROS);
        check("field bytes", fieldBytes, 0, MAX_FIELD_BYTES);
        check("body bytes", bodyBytes, 0, MAX_BODY_BYTES);
    }

    private static void check(String name, long value, long least, long most) {
        if (value < least || value > most) {
            throw new IllegalArgumentException(name + " " + value + " is not within " + least + " to " + most);
        }
    }

    /** Bytes from the head's first to the trailer's last. */
    public long frameBytes() {
        return BYTES + fieldBytes + bodyBytes + TRAILER_BYTES;
    }

    /**
     * Reads a head, which is all that is left of the buffer.
     *
     * @param start where in the stream it begins, for messages
     * @throws DamagedDataException when it is none, damaged, or from a later version
     */
    static FrameHead read(ByteBuffer bytes, long start) {
        ByteBuffer in = bytes.duplicate().order(ByteOrder.LITTLE_ENDIAN);
        if (in.getInt(0) != MAGIC) {
            throw new DamagedDataException("not a frame: it does not begin with \"CNW\"", start);
        }
        int found = checksum(in.duplicate().limit(CHECKSUM_AT));
        int said = in.getInt(CHECKSUM_AT);
        if (found != said) {
            throw new DamagedDataException(
                    "the head of a frame is damaged: its bytes have the checksum %08x, not %08x".formatted(found, said),
                    start);
        }
        FrameType type = FrameType.of(in.get(5) & 0xFF);
        if (type == null) {
            throw new DamagedDataException("frames of type " + (in.get(5) & 0xFF) + " are not known", start + 5);
        }
        int version = in.get(4) & 0xFF;
        if (version == 0 || version != VERSION && type != FrameType.HELLO && type != FrameType.GOAWAY) {
            throw new DamagedDataException("version " + version + " of the protocol is not known", start + 4);
        }
        if (in.getShort(22) != 0) {
            throw new DamagedDataException("the reserved bytes of a frame are not 0", start + 22);
        }
        return new FrameHead(
                version,
                type,
                in.getShort(6) & 0xFFFF,
                in.getLong(8),
                in.getInt(16) & 0xFFFF_FFFFL,
                in.getShort(20) & 0xFFFF,
                in.getInt(24) & 0xFFFF_FFFFL);
    }

    /** Writes the head at the buffer's position. */
    void write(ByteBuffer bytes) {
        ByteBuffer head = bytes.slice(bytes.position(), BYTES).order(ByteOrder.LITTLE_ENDIAN);
        head.putInt(MAGIC).put((byte) version).put((byte) type.code()).putShort((short) credits);
        head.putLong(id).putInt((int) deadlineMicros);
        head.putShort((short) fieldBytes).putShort((short) 0).putInt((int) bodyBytes);
        head.putInt(checksum(head.duplicate().flip()));
        bytes.position(bytes.position() + BYTES);
    }

    private static int checksum(ByteBuffer bytes) {
        CRC32C checksum = new CRC32C();
        checksum.update(bytes);
        return (int) checksum.getValue();
    }
}

package org.comneck.wire;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.zip.CRC32C;

/**
 * A frame that was read, or is to be written.
 *
 * @param head what it says of itself
 * @param fields its fields, exactly {@code head.fieldBytes()}
 * @param body its body in one piece or several, together {@code head.bodyBytes()}; null when its reader's owner did not want it
 * @param intact whether its checksum holds; unknown, and said to be true, of a frame without its body
 */
public record Frame(FrameHead head, ByteBuffer fields, List<ByteBuffer> body, boolean intact) {
    public Frame {
        if (fields.remaining() != head.fieldBytes()) {
            throw new IllegalArgumentException(fields.remaining() + " bytes of fields, not " + head.fieldBytes());
        }
        if (body != null && remaining(body) != head.bodyBytes()) {
            throw new IllegalArgumentException(remaining(body) + " bytes of body, not " + head.bodyBytes());
        }
    }

    private static long remaining(List<ByteBuffer> parts) {
        long sum = 0;
        for (ByteBuffer part : parts) {
            sum += part.remaining();
        }
        return sum;
    }

    /**
     * The bytes of this frame: head and fields, the pieces of the body (not copied), the checksum.
     *
     * @return buffers to be written one after the other
     */
    public ByteBuffer[] bytes() {
        ByteBuffer front = ByteBuffer.allocate(FrameHead.BYTES + head.fieldBytes());
        head.write(front);
        front.put(fields.duplicate()).flip();
        ByteBuffer[] all = new ByteBuffer[body.size() + 2];
        all[0] = front;
        CRC32C checksum = new CRC32C();
        checksum.update(front.duplicate());
        for (int i = 0; i < body.size(); i++) {
            all[i + 1] = body.get(i).duplicate();
            checksum.update(all[i + 1].duplicate());
        }
        all[all.length - 1] = ByteBuffer.allocate(FrameHead.TRAILER_BYTES)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putInt((int) checksum.getValue())
                .flip();
        return all;
    }

    /** {@link #bytes} in one array. */
    public byte[] toByteArray() {
        ByteBuffer whole = ByteBuffer.allocate(Math.toIntExact(head.frameBytes()));
        for (ByteBuffer part : bytes()) {
            whole.put(part);
        }
        return whole.array();
    }
}

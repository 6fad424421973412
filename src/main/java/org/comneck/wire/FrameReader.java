package org.comneck.wire;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.zip.CRC32C;
import org.comneck.DamagedDataException;

/**
 * Bytes of a stream, cut anywhere, to frames. Holds one frame at most; takes memory for fields (65,535 bytes at most) and body only after the
 * head's checksum held, and for a body only what its owner gives. For one thread at a time.
 *
 * <p>Either the owner brings bytes ({@link #read}), or it fills {@link #wanted} itself and then asks {@link #advance}, which saves a copy.
 */
public final class FrameReader {
    private static final int SCRATCH_BYTES = 8192;
    private static final ByteBuffer NOTHING = ByteBuffer.allocate(0);

    /** What a reader's owner thinks of a frame whose head was read. */
    @FunctionalInterface
    public interface Admission {
        /**
         * Gives memory for a body.
         *
         * @return a buffer with exactly {@code head.bodyBytes()} bytes remaining, or null to have them thrown away as they come
         * @throws DamagedDataException when the stream is not to be read any further
         */
        ByteBuffer body(FrameHead head);
    }

    private enum Part {
        HEAD,
        FIELDS,
        BODY,
        SKIPPED,
        TRAILER
    }

    private final Admission admission;
    private final ByteBuffer start = ByteBuffer.allocate(FrameHead.BYTES); // the head, later the trailer
    private final CRC32C checksum = new CRC32C();
    private Part part = Part.HEAD;
    private ByteBuffer wanted = start;
    private FrameHead head;
    private ByteBuffer fields;
    private ByteBuffer body;
    private long left; // bytes of a skipped body
    private long offset; // of the frame in the stream

    public FrameReader(Admission admission) {
        this.admission = admission;
    }

    /** True between frames: a stream that ends here ends well. */
    public boolean isIdle() {
        return part == Part.HEAD && start.position() == 0;
    }

    /** Where the next bytes of the stream go; there is always room for at least one. */
    public ByteBuffer wanted() {
        return wanted;
    }

    /**
     * Takes bytes from a buffer until a frame is complete or the buffer is empty.
     *
     * @return the frame, or null when the buffer was not enough
     * @throws DamagedDataException when this is no stream of frames, or a head is damaged; the stream cannot be read on
     */
    public Frame read(ByteBuffer in) {
        while (in.hasRemaining()) {
            int count = Math.min(in.remaining(), wanted.remaining());
            wanted.put(in.slice(in.position(), count));
            in.position(in.position() + count);
            Frame frame = advance();
            if (frame != null) {
                return frame;
            }
        }
        return null;
    }

    /**
     * Looks at what was put into {@link #wanted}.
     *
     * @return a frame that is now complete, or null
     * @throws DamagedDataException as {@link #read} does
     */
    public Frame advance() {
        while (!wanted.hasRemaining()) {
            switch (part) {
                case HEAD -> {
                    head = FrameHead.read(start.flip(), offset);
                    checksum.reset();
                    checksum.update(start.duplicate().limit(FrameHead.BYTES).position(0));
                    fields = head.fieldBytes() == 0 ? NOTHING : ByteBuffer.allocate(head.fieldBytes());
                    go(Part.FIELDS, fields);
                }
                case FIELDS -> {
                    checksum.update(fields.flip().duplicate());
                    body = head.bodyBytes() == 0 ? NOTHING : admission.body(head);
                    if (body == null) {
                        left = head.bodyBytes();
                        skip();
                    } else if (body.remaining() != head.bodyBytes()) {
                        throw new IllegalStateException(body + " for " + head);
                    } else {
                        body = body.slice();
                        go(Part.BODY, body);
                    }
                }
                case BODY -> {
                    checksum.update(body.flip().duplicate());
                    go(Part.TRAILER, start.clear().limit(FrameHead.TRAILER_BYTES));
                }
                case SKIPPED -> {
                    left -= wanted.limit();
                    if (left > 0) {
                        skip();
                    } else {
                        go(Part.TRAILER, start.clear().limit(FrameHead.TRAILER_BYTES));
                    }
                }
                case TRAILER -> {
                    int said = start.flip().order(ByteOrder.LITTLE_ENDIAN).getInt();
                    boolean intact = body == null || said == (int) checksum.getValue();
                    Frame frame = new Frame(head, fields, body == null ? null : List.of(body), intact);
                    offset += head.frameBytes();
                    head = null;
                    fields = null;
                    body = null;
                    go(Part.HEAD, start.clear());
                    return frame;
                }
            }
        }
        return null;
    }

    private void skip() {
        go(Part.SKIPPED, ByteBuffer.allocate((int) Math.min(left, SCRATCH_BYTES)));
    }

    private void go(Part next, ByteBuffer memory) {
        part = next;
        wanted = memory;
    }
}

package org.comneck.wire;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.zip.CRC32C;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;

/**
 * Arbitrary bytes as a stream of frames: they are frames, damage, or misuse; nothing else may happen, and memory stays bounded. What a run
 * finds lands in src/test/resources beside this class and is tried first from then on.
 */
class FrameFuzzTest {
    private static final int MOST_BODY = 1 << 16;

    /** The first byte chooses how the others are cut, and whether their checksums are made right. */
    @FuzzTest(maxDuration = "30s")
    void bytes(byte[] data) {
        if (data.length == 0) {
            return;
        }
        byte[] stream = Arrays.copyOfRange(data, 1, data.length);
        if ((data[0] & 0x80) != 0) {
            repair(stream);
        }
        int piece = Math.max(1, data[0] & 0x7F);
        FrameReader reader = new FrameReader(
                head -> head.bodyBytes() > MOST_BODY ? null : ByteBuffer.allocate((int) head.bodyBytes()));
        try {
            for (int at = 0; at < stream.length; at += piece) {
                ByteBuffer in = ByteBuffer.wrap(stream, at, Math.min(piece, stream.length - at));
                while (in.hasRemaining()) {
                    Frame frame = reader.read(in);
                    if (frame != null && frame.body() != null && frame.intact()) {
                        said(frame);
                    }
                }
            }
        } catch (DamagedDataException e) {
            if (e.getMessage().isBlank()) {
                throw new AssertionError(e);
            }
        }
    }

    /** Gives the first frame the magic, version and checksums that fuzzing would not find. */
    private static void repair(byte[] stream) {
        if (stream.length < FrameHead.BYTES + FrameHead.TRAILER_BYTES) {
            return;
        }
        ByteBuffer bytes = ByteBuffer.wrap(stream).order(ByteOrder.LITTLE_ENDIAN);
        bytes.putInt(0, 0x1A574E43);
        bytes.put(4, (byte) 1);
        bytes.putShort(22, (short) 0);
        int room = stream.length - FrameHead.BYTES - FrameHead.TRAILER_BYTES;
        int fields = Math.min(bytes.getShort(20) & 0xFFFF, room);
        bytes.putShort(20, (short) fields);
        int body = Math.min(bytes.getInt(24) & 0xFF, room - fields);
        bytes.putInt(24, body);
        bytes.putInt(28, checksum(stream, 28));
        int end = FrameHead.BYTES + fields + body;
        bytes.putInt(end, checksum(stream, end));
    }

    private static int checksum(byte[] bytes, int end) {
        CRC32C checksum = new CRC32C();
        checksum.update(bytes, 0, end);
        return (int) checksum.getValue();
    }

    private static void said(Frame frame) {
        for (boolean client : new boolean[] {true, false}) {
            Message message;
            try {
                message = client ? Message.ofClient(frame) : Message.ofServer(frame);
            } catch (DamagedDataException | UsageException e) {
                continue;
            }
            // What is read can be written, and is then read the same. Fields that are passed over are lost.
            byte[] once = message.toFrame().toByteArray();
            Frame again =
                    Samples.frames(Samples.reader(), ByteBuffer.wrap(once)).getFirst();
            Message second = client ? Message.ofClient(again) : Message.ofServer(again);
            if (!Arrays.equals(once, second.toFrame().toByteArray())) {
                throw new AssertionError(message + " became " + second);
            }
        }
    }
}

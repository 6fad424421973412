package org.comneck.wire;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Stream;
import java.util.zip.CRC32C;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.junit.jupiter.api.Test;

class FrameTest {

    @Test
    void everyMessageIsReadAsItWasWritten() {
        for (Message message : Samples.ofClient()) {
            assertEquals(Samples.text(message), Samples.text(Message.ofClient(read(message))), message.toString());
        }
        for (Message message : Samples.ofServer()) {
            assertEquals(Samples.text(message), Samples.text(Message.ofServer(read(message))), message.toString());
        }
    }

    private static Frame read(Message message) {
        List<Frame> frames = Samples.frames(
                Samples.reader(), ByteBuffer.wrap(message.toFrame().toByteArray()));
        assertEquals(1, frames.size());
        assertTrue(frames.getFirst().intact());
        return frames.getFirst();
    }

    private static List<Message> all() {
        return Stream.concat(Samples.ofClient().stream(), Samples.ofServer().stream())
                .toList();
    }

    private static byte[] stream() {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        all().forEach(message -> out.writeBytes(message.toFrame().toByteArray()));
        return out.toByteArray();
    }

    @Test
    void theSameBytesCutAtEveryLengthAreTheSameFrames() {
        byte[] stream = stream();
        List<String> expected = new ArrayList<>();
        all().forEach(message -> expected.add(Samples.text(message)));
        for (int cut = 0; cut <= stream.length; cut++) {
            FrameReader reader = Samples.reader();
            List<Frame> frames = Samples.frames(reader, ByteBuffer.wrap(stream, 0, cut));
            frames.addAll(Samples.frames(reader, ByteBuffer.wrap(stream, cut, stream.length - cut)));
            assertEquals(expected, texts(frames), "cut at " + cut);
            assertTrue(reader.isIdle());
        }
        for (int piece = 1; piece < 70; piece++) {
            FrameReader reader = Samples.reader();
            List<Frame> frames = new ArrayList<>();
            for (int at = 0; at < stream.length; at += piece) {
                frames.addAll(Samples.frames(reader, ByteBuffer.wrap(stream, at, Math.min(piece, stream.length - at))));
            }
            assertEquals(expected, texts(frames), "pieces of " + piece);
        }
    }

    private static List<String> texts(List<Frame> frames) {
        return frames.stream()
                .map(frame -> HexFormat.of().formatHex(frame.toByteArray()))
                .toList();
    }

    @Test
    void aTruncatedFrameIsNoFrame() {
        for (Message message : all()) {
            byte[] whole = message.toFrame().toByteArray();
            for (int length = 0; length < whole.length; length++) {
                FrameReader reader = Samples.reader();
                assertNull(reader.read(ByteBuffer.wrap(whole, 0, length)));
                assertEquals(length == 0, reader.isIdle());
            }
        }
    }

    @Test
    void aFlippedBitAnywhereIsNoticed() {
        for (Message message : all()) {
            byte[] whole = message.toFrame().toByteArray();
            for (int bit = 0; bit < 8 * whole.length; bit++) {
                byte[] flipped = whole.clone();
                flipped[bit >> 3] ^= (byte) (1 << (bit & 7));
                FrameReader reader = Samples.reader();
                String what = "bit " + bit + " of " + message;
                if (bit < 8 * FrameHead.BYTES) {
                    assertThrows(
                            DamagedDataException.class,
                            () -> reader.read(ByteBuffer.wrap(flipped, 0, FrameHead.BYTES)),
                            what);
                } else {
                    assertFalse(reader.read(ByteBuffer.wrap(flipped)).intact(), what);
                }
            }
        }
    }

    @Test
    void nothingIsTakenBeforeItsOwnerAgrees() {
        FrameHead absurd = new FrameHead(1, FrameType.REQUEST, 0, 5, 0, 0, FrameHead.MAX_BODY_BYTES);
        ByteBuffer head = ByteBuffer.allocate(FrameHead.BYTES);
        absurd.write(head);
        List<FrameHead> asked = new ArrayList<>();
        FrameReader refusing = new FrameReader(said -> {
            asked.add(said);
            throw new DamagedDataException("too much");
        });
        assertThrows(DamagedDataException.class, () -> refusing.read(head.flip()));
        assertEquals(List.of(absurd), asked);
    }

    @Test
    void anUnwantedBodyIsPassedOver() {
        Frame big = new Message.Request(3, 0, RequestOptions.DEFAULT, null, ByteBuffer.allocate(100_000)).toFrame();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes(big.toByteArray());
        out.writeBytes(new Message.Ping(4).toFrame().toByteArray());
        FrameReader reader = new FrameReader(head -> null);
        List<Frame> frames = new ArrayList<>();
        byte[] stream = out.toByteArray();
        for (int at = 0; at < stream.length; at += 999) {
            frames.addAll(Samples.frames(reader, ByteBuffer.wrap(stream, at, Math.min(999, stream.length - at))));
        }
        assertEquals(2, frames.size());
        assertEquals(3, frames.getFirst().head().id());
        assertNull(frames.getFirst().body());
        assertEquals(new Message.Ping(4), Message.ofClient(frames.getLast()));
    }

    @Test
    void whatIsNoFrameIsSaidSo() {
        assertDamaged("not a frame", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".getBytes());
        assertDamaged("version 2 of the protocol", head(head -> head.put(4, (byte) 2)));
        assertDamaged("frames of type 0", head(head -> head.put(5, (byte) 0)));
        assertDamaged("frames of type 11", head(head -> head.put(5, (byte) 11)));
        assertDamaged("reserved bytes", head(head -> head.put(22, (byte) 1)));
        assertDamaged("head of a frame is damaged", head(head -> head).clone(), 30);
    }

    private static byte[] head(Function<ByteBuffer, ByteBuffer> change) {
        ByteBuffer head = ByteBuffer.wrap(
                        Arrays.copyOf(new Message.Ping(1).toFrame().toByteArray(), FrameHead.BYTES))
                .order(ByteOrder.LITTLE_ENDIAN);
        change.apply(head);
        CRC32C checksum = new CRC32C();
        checksum.update(head.array(), 0, 28);
        return head.putInt(28, (int) checksum.getValue()).array();
    }

    private static void assertDamaged(String message, byte[] bytes, int... flipped) {
        for (int at : flipped) {
            bytes[at] ^= 1;
        }
        DamagedDataException e =
                assertThrows(DamagedDataException.class, () -> Samples.reader().read(ByteBuffer.wrap(bytes)));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void fieldsAreAsTheProtocolSaysOrAnError() {
        // A field goes beyond, comes twice where it may not, is out of order, has another length, is not UTF-8.
        assertFields(DamagedDataException.class, "goes beyond", 0x15, 0, 2, 0, 1);
        assertFields(DamagedDataException.class, "goes beyond", 0x15, 0, 1);
        assertFields(DamagedDataException.class, "field 17 after field 21", 0x15, 0, 1, 0, 0, 0x11, 0, 2, 0, 0, 0);
        assertFields(DamagedDataException.class, "ELEMENT_TYPE has 2 bytes, not 1", 0x15, 0, 2, 0, 0, 0);
        assertFields(DamagedDataException.class, "no UTF-8", 0x10, 0, 1, 0, 0xFF);
        assertFields(UsageException.class, "ELEMENT_TYPE is 3", 0x15, 0, 1, 0, 3);
        assertFields(UsageException.class, "field 21 is not known here", 0x15, 0, 1, 0, 0, 0x15, 0, 1, 0, 0);
        assertFields(UsageException.class, "field 100 is not known here", 100, 0, 0, 0);
        // One that may be passed over is passed over, before and behind one that is known.
        Message.Request request = (Message.Request) request(0x00, 0x90, 2, 0, 1, 2, 0x01, 0x90, 0, 0);
        assertEquals(RequestOptions.DEFAULT, request.options());
    }

    private static Message request(int... fields) {
        ByteBuffer bytes = Samples.bytes(fields);
        FrameHead head = new FrameHead(1, FrameType.REQUEST, 0, 1, 0, fields.length, 0);
        return Message.ofClient(new Frame(head, bytes, List.of(), true));
    }

    private static void assertFields(Class<? extends Exception> type, String message, int... fields) {
        Exception e = assertThrows(type, () -> request(fields));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void framesFromTheWrongSideAreDamage() {
        for (Message message : Samples.ofClient()) {
            if (message instanceof Message.Request || message instanceof Message.Cancel) {
                assertThrows(DamagedDataException.class, () -> Message.ofServer(message.toFrame()));
            }
        }
        for (Message message : Samples.ofServer()) {
            if (message.toFrame().head().type().isFinal() || message instanceof Message.Credit) {
                assertThrows(DamagedDataException.class, () -> Message.ofClient(message.toFrame()));
            }
        }
    }

    @Test
    void anAnswerHasAllOfItsTokensAndNoMore() {
        Frame answer = Samples.ofServer().get(1).toFrame();
        for (int bytes : new int[] {0, 11, 13}) {
            FrameHead head =
                    new FrameHead(1, FrameType.ANSWER, 1, 1, 0, answer.fields().remaining(), bytes);
            Frame other = new Frame(head, answer.fields().duplicate(), List.of(ByteBuffer.allocate(bytes)), true);
            assertThrows(DamagedDataException.class, () -> Message.ofServer(other), bytes + " bytes");
        }
        byte[] huge = answer.fields().array().clone();
        int sizes = 4 + 2 + 4 + 1 + 4; // behind the layer, the type and the tag
        Arrays.fill(huge, sizes, sizes + 4, (byte) 0xFF);
        Arrays.fill(huge, sizes + 8, sizes + 12, (byte) 0xFF);
        ByteBuffer fields = ByteBuffer.wrap(huge, 0, answer.fields().limit());
        assertThrows(
                DamagedDataException.class,
                () -> Message.ofServer(new Frame(answer.head(), fields, answer.body(), true)));
    }
}

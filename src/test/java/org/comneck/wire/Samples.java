package org.comneck.wire;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.vision.VisionEncoder;

/** One message of every kind, and then some. */
final class Samples {
    static final byte[] IDENTITY = HexFormat.of().parseHex("101112131415161718191a1b1c1d1e1f");
    static final Message.Model MODEL = new Message.Model(IDENTITY, "comneck-tiny/1");

    private Samples() {}

    static List<Message> ofClient() {
        return List.of(
                new Message.ClientHello(1, 1, "test", null),
                new Message.ClientHello(1, 255, "näme", "let-me-in"),
                new Message.Request(1, 0, RequestOptions.DEFAULT, null, bytes(1, 2, 3)),
                new Message.Request(
                        -1,
                        0xFFFF_FFFFL,
                        new RequestOptions(
                                "comneck-tiny",
                                -2,
                                VisionEncoder.Tokens.ALL,
                                VisionEncoder.PostNorm.TWICE,
                                true,
                                ElementType.BF16),
                        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                        bytes(9, 8, 7, 6, 5, 4, 3, 2, 1)),
                new Message.Request(7, 20_000, RequestOptions.DEFAULT, null, bytes()),
                new Message.Cancel(77),
                new Message.Ping(0),
                new Message.Pong(0x0102030405060708L),
                new Message.GoAway(Reason.IDLE, "good bye"));
    }

    static List<Message> ofServer() {
        return List.of(
                new Message.ServerHello(
                        1,
                        64,
                        "comneck 1",
                        1 << 26,
                        4096,
                        1L << 33,
                        300_000,
                        List.of(MODEL, new Message.Model(new byte[16], "other/2"))),
                new Message.Answer(
                        1,
                        1,
                        ElementType.F16,
                        Shape.of(2, 3),
                        -2,
                        IDENTITY,
                        120,
                        1500,
                        List.of(bytes(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))),
                new Message.Answer(
                        -1,
                        0,
                        ElementType.F32,
                        Shape.of(3, 1, 1),
                        12,
                        IDENTITY,
                        0,
                        0xFFFF_FFFFL,
                        List.of(bytes(1, 2, 3, 4), bytes(5, 6, 7, 8, 9, 10, 11, 12))),
                new Message.Refusal(2, 1, Reason.QUEUE_FULL, 250, "the queue of 64 requests is full"),
                new Message.Failure(3, 1, Reason.DAMAGED_DATA, 24, "the image is damaged"),
                new Message.Failure(4, 2, Reason.UNKNOWN_MODEL, -1, "no model 'x'"),
                new Message.Credit(65_535),
                new Message.Ping(5),
                new Message.Pong(5),
                new Message.GoAway(Reason.DRAINING, ""));
    }

    static ByteBuffer bytes(int... values) {
        byte[] bytes = new byte[values.length];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) values[i];
        }
        return ByteBuffer.wrap(bytes);
    }

    /** A reader that takes every body. */
    static FrameReader reader() {
        return new FrameReader(head -> ByteBuffer.allocate((int) head.bodyBytes()));
    }

    /** All frames of bytes that end with one. */
    static List<Frame> frames(FrameReader reader, ByteBuffer bytes) {
        List<Frame> frames = new ArrayList<>();
        while (bytes.hasRemaining()) {
            Frame frame = reader.read(bytes);
            if (frame != null) {
                frames.add(frame);
            }
        }
        return frames;
    }

    /** A message in words that differ when anything in it does. */
    static String text(Message message) {
        return HexFormat.of().formatHex(message.toFrame().toByteArray());
    }
}

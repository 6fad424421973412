package org.comneck.wire;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.bitstream.Container;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.vision.VisionEncoder;

/**
 * What a frame says. {@link #ofClient} and {@link #ofServer} read it, {@link #toFrame} writes it. docs/protocol.md is the reference.
 *
 * <p>Reading throws {@link DamagedDataException} when a frame is not as the protocol says, and {@link UsageException} when it is, but asks for
 * something that this version does not have.
 */
public sealed interface Message {
    /** Longest name of a model, of a program, and access token, bytes of UTF-8. */
    int MAX_NAME_BYTES = 200;

    /** Longest explanation, bytes of UTF-8. */
    int MAX_TEXT_BYTES = 1024;

    /** Most models that a hello names. */
    int MAX_MODELS = 256;

    /** The frame that says so. */
    Frame toFrame();

    // ---------------------------------------------------------------- both

    /** Are you there? {@code id} comes back in the {@link Pong}. */
    record Ping(long id) implements Message {
        @Override
        public Frame toFrame() {
            return bare(FrameType.PING, 0, id);
        }
    }

    /** Yes. */
    record Pong(long id) implements Message {
        @Override
        public Frame toFrame() {
            return bare(FrameType.PONG, 0, id);
        }
    }

    /** No new requests on this connection. A server still answers what it has accepted, unless the reason is the client's fault. */
    record GoAway(Reason reason, String text) implements Message {
        @Override
        public Frame toFrame() {
            FieldWriter fields =
                    new FieldWriter().u16(Field.REASON, reason.code()).text(Field.TEXT, text, MAX_TEXT_BYTES);
            return frame(FrameType.GOAWAY, 0, 0, 0, fields, List.of());
        }

        private static GoAway read(FieldReader fields) {
            GoAway goAway = new GoAway(fields.reason(), fields.text(Field.TEXT, MAX_TEXT_BYTES));
            fields.end();
            return goAway;
        }
    }

    // ---------------------------------------------------------------- client

    /**
     * The first frame of a client.
     *
     * @param lowestVersion lowest version that it speaks
     * @param highestVersion highest
     * @param agent its name, for people
     * @param accessToken what lets it in, or null
     */
    record ClientHello(int lowestVersion, int highestVersion, String agent, String accessToken) implements Message {
        @Override
        public Frame toFrame() {
            FieldWriter fields =
                    new FieldWriter().u8(Field.LOWEST_VERSION, lowestVersion).text(Field.AGENT, agent, MAX_NAME_BYTES);
            if (accessToken != null) {
                fields.bytes(Field.ACCESS_TOKEN, accessToken.getBytes(StandardCharsets.UTF_8));
            }
            ByteBuffer end = fields.end();
            return new Frame(
                    new FrameHead(highestVersion, FrameType.HELLO, 0, 0, 0, end.remaining(), 0), end, List.of(), true);
        }

        private static ClientHello read(FrameHead head, FieldReader fields) {
            ClientHello hello = new ClientHello(
                    fields.u8(Field.LOWEST_VERSION),
                    head.version(),
                    fields.text(Field.AGENT, MAX_NAME_BYTES),
                    fields.has(Field.ACCESS_TOKEN) ? fields.text(Field.ACCESS_TOKEN, MAX_NAME_BYTES) : null);
            // A later version's hello may hold fields that this one does not know.
            if (head.version() == FrameHead.VERSION) {
                fields.end();
            }
            return hello;
        }
    }

    /**
     * Bytes that want to be tokens.
     *
     * @param id not 0, and no other request's that is not answered yet
     * @param deadlineMicros from its arrival; 0 for none
     * @param traceParent W3C trace context, or null
     * @param bitstream a bitstream, or a photo that the server encodes first
     */
    record Request(long id, long deadlineMicros, RequestOptions options, String traceParent, ByteBuffer bitstream)
            implements Message {
        @Override
        public Frame toFrame() {
            FieldWriter fields = new FieldWriter();
            if (options.model() != null) {
                fields.text(Field.MODEL_NAME, options.model(), MAX_NAME_BYTES);
            }
            if (options.layer() != null) {
                fields.u16(Field.LAYER, options.layer());
            }
            if (options.select() != null) {
                fields.u8(Field.SELECT, options.select().ordinal());
            }
            if (options.postNorm() != null) {
                fields.u8(Field.POST_NORM, options.postNorm().ordinal());
            }
            if (options.projected() != null) {
                fields.u8(Field.PROJECTED, options.projected() ? 1 : 0);
            }
            fields.u8(Field.ELEMENT_TYPE, code(options.type()));
            if (traceParent != null) {
                fields.text(Field.TRACE_PARENT, traceParent, MAX_NAME_BYTES);
            }
            return frame(FrameType.REQUEST, 0, id, deadlineMicros, fields, List.of(bitstream));
        }

        private static Request read(Frame frame, FieldReader fields) {
            RequestOptions options = new RequestOptions(
                    fields.has(Field.MODEL_NAME) ? fields.text(Field.MODEL_NAME, MAX_NAME_BYTES) : null,
                    fields.has(Field.LAYER) ? (Integer) fields.i16(Field.LAYER) : null,
                    fields.has(Field.SELECT) ? VisionEncoder.Tokens.values()[fields.u8(Field.SELECT, 2)] : null,
                    fields.has(Field.POST_NORM) ? VisionEncoder.PostNorm.values()[fields.u8(Field.POST_NORM, 2)] : null,
                    fields.has(Field.PROJECTED) ? (Boolean) (fields.u8(Field.PROJECTED, 1) == 1) : null,
                    fields.has(Field.ELEMENT_TYPE) ? elementType(fields) : ElementType.F16);
            String traceParent =
                    fields.has(Field.TRACE_PARENT) ? fields.text(Field.TRACE_PARENT, MAX_NAME_BYTES) : null;
            fields.end();
            return new Request(
                    frame.head().id(),
                    frame.head().deadlineMicros(),
                    options,
                    traceParent,
                    frame.body().isEmpty()
                            ? ByteBuffer.allocate(0)
                            : frame.body().getFirst());
        }
    }

    /** The answer is not needed any more; one still comes. */
    record Cancel(long id) implements Message {
        @Override
        public Frame toFrame() {
            return bare(FrameType.CANCEL, 0, id);
        }
    }

    // ---------------------------------------------------------------- server

    /**
     * A model that a server has.
     *
     * @param identity the 16 bytes by which bitstreams name it
     * @param name {@code name/version}
     */
    record Model(byte[] identity, String name) {}

    /**
     * The first frame of a server.
     *
     * @param version what both speak from now on
     * @param credits how many requests may be sent before one is answered
     * @param agent its name, for people
     * @param maxBody longest bitstream, bytes
     * @param maxImages most images in one
     * @param maxPixels most padded pixels of an image
     * @param idleMillis after how long without a frame the server ends the connection; 0 for never
     * @param models at most {@value #MAX_MODELS}
     */
    record ServerHello(
            int version,
            int credits,
            String agent,
            long maxBody,
            long maxImages,
            long maxPixels,
            long idleMillis,
            List<Model> models)
            implements Message {
        @Override
        public Frame toFrame() {
            FieldWriter fields = new FieldWriter()
                    .u8(Field.LOWEST_VERSION, FrameHead.VERSION)
                    .text(Field.AGENT, agent, MAX_NAME_BYTES)
                    .u32(Field.MAX_BODY, maxBody)
                    .u32(Field.MAX_IMAGES, maxImages)
                    .u64(Field.MAX_PIXELS, maxPixels)
                    .u32(Field.IDLE_MILLIS, idleMillis);
            for (Model model : models.subList(0, Math.min(models.size(), MAX_MODELS))) {
                fields.bytes(Field.MODEL, model.identity(), model.name().getBytes(StandardCharsets.UTF_8));
            }
            ByteBuffer end = fields.end();
            return new Frame(
                    new FrameHead(version, FrameType.HELLO, credits, 0, 0, end.remaining(), 0), end, List.of(), true);
        }

        private static ServerHello read(FrameHead head, FieldReader fields) {
            fields.u8(Field.LOWEST_VERSION);
            String agent = fields.text(Field.AGENT, MAX_NAME_BYTES);
            long maxBody = fields.u32(Field.MAX_BODY);
            long maxImages = fields.u32(Field.MAX_IMAGES);
            long maxPixels = fields.u64(Field.MAX_PIXELS);
            long idleMillis = fields.u32(Field.IDLE_MILLIS);
            List<Model> models = new ArrayList<>();
            while (fields.has(Field.MODEL)) {
                ByteBuffer value =
                        fields.bytes(Field.MODEL, Container.IDENTITY_BYTES, Container.IDENTITY_BYTES + MAX_NAME_BYTES);
                byte[] identity = new byte[Container.IDENTITY_BYTES];
                value.get(identity);
                models.add(new Model(identity, FieldReader.text(Field.MODEL, value)));
            }
            fields.end();
            return new ServerHello(
                    head.version(),
                    head.credits(),
                    agent,
                    maxBody,
                    maxImages,
                    maxPixels,
                    idleMillis,
                    List.copyOf(models));
        }
    }

    /**
     * Tokens.
     *
     * @param credits how many more requests may be sent
     * @param type of the elements, little-endian
     * @param shape [tokens, D], or [images, tokens, D] of a bitstream of several images
     * @param layer output of which block they are
     * @param identity of the model that computed them, 16 bytes
     * @param queueMicros from the request's arrival to the start of computing
     * @param totalMicros from the request's arrival to this answer
     * @param tokens elements, row-major; one piece or several
     */
    record Answer(
            long id,
            int credits,
            ElementType type,
            Shape shape,
            int layer,
            byte[] identity,
            long queueMicros,
            long totalMicros,
            List<ByteBuffer> tokens)
            implements Message {
        @Override
        public Frame toFrame() {
            FieldWriter fields = new FieldWriter().u16(Field.LAYER, layer).u8(Field.ELEMENT_TYPE, code(type));
            for (long size : shape.toArray()) {
                fields.u32(Field.SIZE, size);
            }
            fields.bytes(Field.IDENTITY, identity)
                    .u32(Field.QUEUE_MICROS, Math.min(queueMicros, 0xFFFF_FFFFL))
                    .u32(Field.TOTAL_MICROS, Math.min(totalMicros, 0xFFFF_FFFFL));
            return frame(FrameType.ANSWER, credits, id, 0, fields, tokens);
        }

        private static Answer read(Frame frame, FieldReader fields) {
            int layer = fields.i16(Field.LAYER);
            ElementType type = elementType(fields);
            List<Long> sizes = new ArrayList<>();
            // The product stays below 2^63: it is compared with the body before it grows.
            long bytes = type.bytes();
            while (fields.has(Field.SIZE)) {
                long size = fields.u32(Field.SIZE);
                bytes *= size;
                check(size > 0 && bytes <= frame.head().bodyBytes(), "the tokens go beyond the body", 24);
                sizes.add(size);
            }
            check(sizes.size() == 2 || sizes.size() == 3, "tokens with " + sizes.size() + " sizes", 20);
            check(bytes == frame.head().bodyBytes(), "bytes follow the tokens", 24);
            byte[] identity = new byte[Container.IDENTITY_BYTES];
            fields.bytes(Field.IDENTITY, identity.length, identity.length).get(identity);
            Answer answer = new Answer(
                    frame.head().id(),
                    frame.head().credits(),
                    type,
                    Shape.of(sizes.stream().mapToLong(Long::longValue).toArray()),
                    layer,
                    identity,
                    fields.u32(Field.QUEUE_MICROS),
                    fields.u32(Field.TOTAL_MICROS),
                    frame.body());
            fields.end();
            return answer;
        }
    }

    /**
     * Nothing was begun.
     *
     * @param retryAfterMillis when it may be worth to ask again; 0 when the server cannot say
     */
    record Refusal(long id, int credits, Reason reason, long retryAfterMillis, String text) implements Message {
        @Override
        public Frame toFrame() {
            FieldWriter fields = new FieldWriter()
                    .u16(Field.REASON, reason.code())
                    .u32(Field.RETRY_AFTER, Math.min(retryAfterMillis, 0xFFFF_FFFFL))
                    .text(Field.TEXT, text, MAX_TEXT_BYTES);
            return frame(FrameType.REFUSAL, credits, id, 0, fields, List.of());
        }

        private static Refusal read(FrameHead head, FieldReader fields) {
            Refusal refusal = new Refusal(
                    head.id(),
                    head.credits(),
                    fields.reason(),
                    fields.u32(Field.RETRY_AFTER),
                    fields.text(Field.TEXT, MAX_TEXT_BYTES));
            fields.end();
            return refusal;
        }
    }

    /**
     * The request failed.
     *
     * @param offset byte of the bitstream where damage was found, or -1
     */
    record Failure(long id, int credits, Reason reason, long offset, String text) implements Message {
        @Override
        public Frame toFrame() {
            FieldWriter fields = new FieldWriter().u16(Field.REASON, reason.code());
            if (offset >= 0) {
                fields.u64(Field.OFFSET, offset);
            }
            fields.text(Field.TEXT, text, MAX_TEXT_BYTES);
            return frame(FrameType.ERROR, credits, id, 0, fields, List.of());
        }

        private static Failure read(FrameHead head, FieldReader fields) {
            Failure failure = new Failure(
                    head.id(),
                    head.credits(),
                    fields.reason(),
                    fields.has(Field.OFFSET) ? Math.max(fields.u64(Field.OFFSET), -1) : -1,
                    fields.text(Field.TEXT, MAX_TEXT_BYTES));
            fields.end();
            return failure;
        }
    }

    /** More requests may be sent, beyond those that final frames allowed. */
    record Credit(int credits) implements Message {
        @Override
        public Frame toFrame() {
            return bare(FrameType.CREDIT, credits, 0);
        }
    }

    // ---------------------------------------------------------------- reading

    /** What a frame from a client says; its body is there. */
    static Message ofClient(Frame frame) {
        FrameHead head = frame.head();
        FieldReader fields = new FieldReader(frame.fields());
        check(head.credits() == 0, "a client grants credits", 6);
        return switch (head.type()) {
            case HELLO -> {
                only(head, false, false);
                yield ClientHello.read(head, fields);
            }
            case REQUEST -> {
                check(head.id() != 0, "a request has the id 0", 8);
                yield Request.read(frame, fields);
            }
            case CANCEL -> {
                only(head, true, false);
                fields.end();
                yield new Cancel(head.id());
            }
            default -> ofEither(head, fields);
        };
    }

    /** What a frame from a server says; its body is there. */
    static Message ofServer(Frame frame) {
        FrameHead head = frame.head();
        FieldReader fields = new FieldReader(frame.fields());
        return switch (head.type()) {
            case HELLO -> {
                only(head, false, false);
                yield ServerHello.read(head, fields);
            }
            case ANSWER -> {
                only(head, true, true);
                yield Answer.read(frame, fields);
            }
            case REFUSAL -> {
                only(head, true, false);
                yield Refusal.read(head, fields);
            }
            case ERROR -> {
                only(head, true, false);
                yield Failure.read(head, fields);
            }
            case CREDIT -> {
                only(head, false, false);
                fields.end();
                yield new Credit(head.credits());
            }
            default -> {
                check(head.credits() == 0, "a frame of type " + head.type() + " grants credits", 6);
                yield ofEither(head, fields);
            }
        };
    }

    private static Message ofEither(FrameHead head, FieldReader fields) {
        return switch (head.type()) {
            case PING -> {
                only(head, true, false);
                fields.end();
                yield new Ping(head.id());
            }
            case PONG -> {
                only(head, true, false);
                fields.end();
                yield new Pong(head.id());
            }
            case GOAWAY -> {
                only(head, false, false);
                yield GoAway.read(fields);
            }
            default ->
                throw new DamagedDataException("a frame of type " + head.type() + " comes from the wrong side", 5);
        };
    }

    /** What the head of a frame other than a request may say. */
    private static void only(FrameHead head, boolean id, boolean body) {
        check(id || head.id() == 0, "a frame of type " + head.type() + " has an id", 8);
        check(head.deadlineMicros() == 0, "a frame of type " + head.type() + " has a deadline", 16);
        check(body || head.bodyBytes() == 0, "a frame of type " + head.type() + " has a body", 24);
    }

    private static void check(boolean holds, String otherwise, int offset) {
        if (!holds) {
            throw new DamagedDataException(otherwise, offset);
        }
    }

    private static ElementType elementType(FieldReader fields) {
        return switch (fields.u8(Field.ELEMENT_TYPE, 2)) {
            case 0 -> ElementType.F32;
            case 1 -> ElementType.F16;
            default -> ElementType.BF16;
        };
    }

    private static int code(ElementType type) {
        return switch (type) {
            case F32 -> 0;
            case F16 -> 1;
            case BF16 -> 2;
            default -> throw new IllegalArgumentException("tokens as " + type);
        };
    }

    // ---------------------------------------------------------------- writing

    private static Frame bare(FrameType type, int credits, long id) {
        return frame(type, credits, id, 0, new FieldWriter(), List.of());
    }

    private static Frame frame(
            FrameType type, int credits, long id, long deadlineMicros, FieldWriter fields, List<ByteBuffer> body) {
        ByteBuffer end = fields.end();
        long bytes = 0;
        for (ByteBuffer part : body) {
            bytes += part.remaining();
        }
        return new Frame(
                new FrameHead(FrameHead.VERSION, type, credits, id, deadlineMicros, end.remaining(), bytes),
                end,
                body,
                true);
    }
}

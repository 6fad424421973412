package org.comneck.server;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelOutboundBuffer;
import io.netty.handler.ssl.SslHandshakeCompletionEvent;
import io.netty.util.collection.LongObjectHashMap;
import io.netty.util.collection.LongObjectMap;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.engine.EncodeOptions;
import org.comneck.wire.Frame;
import org.comneck.wire.FrameHead;
import org.comneck.wire.FrameType;
import org.comneck.wire.Message;
import org.comneck.wire.Reason;
import org.comneck.wire.RequestOptions;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.spi.LoggingEventBuilder;

/**
 * A connection of the binary protocol: its hello, its requests, its end. All of it on the connection's event loop, except that answers are
 * made into frames on the thread that computed them.
 */
final class TcpRequests extends ChannelInboundHandlerAdapter {
    private static final Logger LOG = LoggerFactory.getLogger(TcpRequests.class);
    private static final Logger REQUESTS = LoggerFactory.getLogger("org.comneck.server.tcp");
    private static final String AGENT = "comneck";
    private static final int NAME_BYTES = 200;

    private enum State {
        NEW,
        OPEN,
        DRAINING,
        ENDED
    }

    /** A request that has no final frame yet. */
    private static final class Pending {
        private Submission.Accepted accepted; // null until submit has returned
    }

    private final Core core;
    private final TcpCounts counts;
    private final LongObjectMap<Pending> pending = new LongObjectHashMap<>(4);
    private ChannelHandlerContext context;
    private State state = State.NEW;
    private long lastFrame = System.nanoTime();
    private Future<?> timer; // for the hello, then for idleness
    private boolean stalled;
    private long given; // bytes of final frames so far

    TcpRequests(Core core, TcpCounts counts) {
        this.core = core;
        this.counts = counts;
    }

    // ---------------------------------------------------------------- beginning and end

    @Override
    public void handlerAdded(ChannelHandlerContext ctx) {
        context = ctx;
        timer = after(core.limits().headerMillis(), () -> {
            if (state == State.NEW) {
                goAway(Reason.IDLE, "no hello within " + core.limits().headerMillis() + " ms");
            }
        });
    }

    private Future<?> after(long millis, Runnable what) {
        return context.executor().schedule(what, millis, TimeUnit.MILLISECONDS);
    }

    private void endWhenIdle(long millis) {
        timer.cancel(false);
        timer = after(millis, () -> {
            long idle = core.limits().idleMillis();
            long left = idle - TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - lastFrame);
            if (state != State.OPEN) {
                return;
            }
            if (pending.isEmpty() && left <= 0) {
                goAway(Reason.IDLE, "nothing was asked for " + idle + " ms");
            } else {
                endWhenIdle(Math.max(left, 1 + idle / 4));
            }
        });
    }

    /** Says why, and ends the connection with all that is under way. */
    private void goAway(Reason reason, String text) {
        if (state == State.ENDED) {
            return;
        }
        counts.end(reason);
        LOG.debug("{} ended: {} {}", context.channel().id(), reason, text);
        cancelAll();
        context.writeAndFlush(new Message.GoAway(reason, text)).addListener(ChannelFutureListener.CLOSE);
        timer = after(core.limits().bodyMillis(), context::close); // it may never read the goodbye
    }

    private void cancelAll() {
        state = State.ENDED;
        timer.cancel(false);
        List<Pending> all = new ArrayList<>(pending.values());
        pending.clear();
        for (Pending one : all) {
            if (one.accepted != null) {
                one.accepted.cancel();
            }
        }
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) {
        cancelAll();
        ctx.fireChannelInactive();
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext ctx, Throwable error) {
        if (error instanceof DamagedDataException) {
            goAway(Reason.PROTOCOL, error.getMessage());
        } else {
            LOG.debug("{} broke", ctx.channel().id(), error); // reset by peer, mostly
            ctx.close();
        }
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext ctx, Object event) {
        if (event == Endpoint.DRAIN) {
            if (state == State.OPEN) {
                state = State.DRAINING;
                counts.end(Reason.DRAINING);
                ctx.writeAndFlush(new Message.GoAway(Reason.DRAINING, "the server is about to stop"));
                closeWhenDone();
            } else if (state == State.NEW) {
                goAway(Reason.DRAINING, "the server is about to stop");
            }
        }
        if (event instanceof SslHandshakeCompletionEvent handshake && !handshake.isSuccess()) {
            counts.handshakeFailed();
        }
        ctx.fireUserEventTriggered(event);
    }

    private void closeWhenDone() {
        if (state == State.DRAINING && pending.isEmpty()) {
            context.writeAndFlush(Unpooled.EMPTY_BUFFER).addListener(ChannelFutureListener.CLOSE);
        }
    }

    @Override
    public void channelWritabilityChanged(ChannelHandlerContext ctx) {
        if (!ctx.channel().isWritable() && !stalled) {
            stalled = true;
            watchReader(taken());
        }
        ctx.fireChannelWritabilityChanged();
    }

    /** Looks after the body time whether the client has taken anything. A slow reader, or one of a long answer, is no stalled one. */
    private void watchReader(long before) {
        after(core.limits().bodyMillis(), () -> {
            stalled = !context.channel().isWritable();
            if (!stalled) {
                return;
            }
            long now = taken();
            if (now > before) {
                watchReader(now);
            } else if (context.channel().isOpen()) {
                // It reads nothing, so there is no use in telling it why.
                counts.end(Reason.SLOW_READER);
                context.close();
            }
        });
    }

    /** Bytes of final frames that have gone to the network; a little less under TLS. */
    private long taken() {
        ChannelOutboundBuffer waiting = context.channel().unsafe().outboundBuffer();
        return waiting == null ? Long.MAX_VALUE : given - waiting.totalPendingWriteBytes() + waiting.currentProgress();
    }

    // ---------------------------------------------------------------- frames

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object message) {
        TcpFrames.Received received = (TcpFrames.Received) message;
        ByteBuf body = received.body();
        core.unreserve(received.reserved());
        counts.frame();
        lastFrame = System.nanoTime();
        try {
            if (state == State.ENDED) {
                return;
            }
            Frame frame = received.frame();
            if (state == State.NEW) {
                hello(frame);
            } else if (frame.head().type() == FrameType.REQUEST) {
                if (request(frame, body, received.unwanted())) {
                    body = null;
                }
            } else if (!frame.intact()) {
                goAway(Reason.PROTOCOL, "a frame of type " + frame.head().type() + " is damaged");
            } else {
                other(Message.ofClient(frame));
            }
        } catch (DamagedDataException | UsageException e) {
            goAway(Reason.PROTOCOL, e.getMessage());
        } finally {
            if (body != null) {
                body.release();
            }
        }
    }

    private void hello(Frame frame) {
        if (!frame.intact() || !(Message.ofClient(frame) instanceof Message.ClientHello hello)) {
            goAway(Reason.PROTOCOL, "the first frame is no intact hello");
        } else if (hello.lowestVersion() > FrameHead.VERSION) {
            goAway(Reason.VERSION, "this server speaks version " + FrameHead.VERSION + " only");
        } else if (core.tokens() != null
                && (hello.accessToken() == null || !core.tokens().allowsToken(hello.accessToken()))) {
            core.scheduler().countRefusal(org.comneck.server.Reason.UNAUTHORIZED);
            goAway(Reason.UNAUTHORIZED, "a token is needed");
        } else {
            state = State.OPEN;
            Limits limits = core.limits();
            LOG.debug("{} is {}", context.channel().id(), HttpCall.shown(hello.agent()));
            context.writeAndFlush(new Message.ServerHello(
                    FrameHead.VERSION,
                    limits.streams(),
                    AGENT,
                    limits.bodyBytes(),
                    limits.images(),
                    limits.pixels(),
                    limits.idleMillis(),
                    models()));
            endWhenIdle(limits.idleMillis());
        }
    }

    private List<Message.Model> models() {
        List<Message.Model> models = new ArrayList<>();
        for (Model model : core.models().current()) {
            String name = model.name() + "/" + model.version();
            if (model.engine() != null && name.getBytes(StandardCharsets.UTF_8).length <= NAME_BYTES) {
                models.add(new Message.Model(model.engine().identity(), name));
            }
        }
        return models;
    }

    private void other(Message message) {
        switch (message) {
            case Message.Cancel cancel -> {
                Pending one = pending.get(cancel.id());
                if (one != null && one.accepted != null) {
                    one.accepted.cancel();
                }
            }
            case Message.Ping ping -> {
                if (context.channel().isWritable()) {
                    context.writeAndFlush(new Message.Pong(ping.id()));
                }
            }
            case Message.Pong pong -> {}
            case Message.GoAway goAway -> {
                // The client is about to leave: it gets what it still waits for.
                state = State.DRAINING;
                closeWhenDone();
            }
            default -> goAway(Reason.PROTOCOL, "a second hello");
        }
    }

    // ---------------------------------------------------------------- requests

    /** @return true when the body belongs to the scheduler now */
    private boolean request(Frame frame, ByteBuf body, Reason unwanted) {
        long id = frame.head().id();
        if (id == 0) {
            goAway(Reason.PROTOCOL, "a request has the id 0");
            return false;
        }
        if (pending.containsKey(id)) {
            goAway(Reason.PROTOCOL, "request " + Long.toUnsignedString(id) + " is under way already");
            return false;
        }
        if (pending.size() >= core.limits().streams()) {
            goAway(Reason.PROTOCOL, "a request without a credit");
            return false;
        }
        if (unwanted != null) {
            return refuse(
                    id,
                    unwanted,
                    switch (unwanted) {
                        case TOO_LARGE ->
                            "a body of " + frame.head().bodyBytes() + " bytes is more than the limit of "
                                    + core.limits().bodyBytes();
                        case DRAINING -> "the server is about to stop";
                        case SLOW_READER -> "answers wait to be read: read them first";
                        default -> "bodies that are on their way take all the memory they may: come back later";
                    });
        }
        if (!frame.intact()) {
            return refuse(id, Reason.DAMAGED_FRAME, "the frame's checksum does not hold: send it again");
        }
        if (!context.channel().isWritable()) {
            return refuse(id, Reason.SLOW_READER, "answers wait to be read: read them first");
        }
        if (core.readersStall()) {
            return refuse(
                    id, Reason.TOO_MANY, "too many answers, of all connections, wait to be read: come back later");
        }
        Message.Request request;
        try {
            request = (Message.Request) Message.ofClient(frame);
        } catch (UsageException | DamagedDataException e) {
            return refuse(id, Reason.USAGE, e.getMessage());
        }
        Pending one = new Pending();
        pending.put(id, one);
        TokenRequest asked = tokens(request, body == null ? Unpooled.EMPTY_BUFFER : body);
        Submission submission = core.scheduler().submit(asked, responder(asked, id, one));
        switch (submission) {
            case Submission.Accepted accepted -> one.accepted = accepted;
            case Submission.Refused refused -> {
                pending.remove(id);
                context.writeAndFlush(refusal(id, refused));
                closeWhenDone();
            }
        }
        return true;
    }

    /** Refuses what did not reach the scheduler. */
    private boolean refuse(long id, Reason reason, String text) {
        counts.unwanted(reason);
        context.writeAndFlush(
                reason.isRefusal()
                        ? new Message.Refusal(id, 1, reason, 0, text)
                        : new Message.Failure(id, 1, reason, -1, text));
        return false;
    }

    private TokenRequest tokens(Message.Request request, ByteBuf body) {
        RequestOptions options = request.options();
        String name = options.model();
        int slash = name == null ? -1 : name.indexOf('/');
        return new TokenRequest(
                TokenRequest.Kind.TOKENS,
                context.channel().id().asShortText() + "-" + Long.toUnsignedString(request.id()),
                request.traceParent(),
                slash < 0 ? name : name.substring(0, slash),
                slash < 0 ? null : name.substring(slash + 1),
                new TokenChoice(
                        options.layer(), options.select(), options.postNorm(), options.projected(), options.type()),
                EncodeOptions.DEFAULT,
                0,
                request.deadlineMicros() == 0
                        ? TokenRequest.NO_DEADLINE
                        : lastFrame + TimeUnit.MICROSECONDS.toNanos(request.deadlineMicros()),
                body);
    }

    private static Message refusal(long id, Submission.Refused refused) {
        Reason reason = reason(refused.reason());
        return reason.isRefusal()
                ? new Message.Refusal(id, 1, reason, 1000L * refused.retryAfterSeconds(), refused.message())
                : new Message.Failure(id, 1, reason, -1, refused.message());
    }

    private Responder responder(TokenRequest request, long id, Pending one) {
        return (answer, timing) -> {
            log(request, answer, timing);
            ByteBuf frame = frame(id, answer, timing);
            try {
                context.executor().execute(() -> finish(id, one, frame));
            } catch (RejectedExecutionException e) { // the server has stopped
                frame.release();
            }
        };
    }

    private static void log(TokenRequest request, Answer answer, Responder.Timing timing) {
        Answer.Failure failure = answer instanceof Answer.Failure failed ? failed : null;
        boolean bug = failure != null && failure.reason() == org.comneck.server.Reason.INTERNAL;
        LoggingEventBuilder line = bug ? REQUESTS.atWarn() : REQUESTS.atDebug();
        line = line.addKeyValue("request_id", request.id())
                .addKeyValue(
                        "end", failure == null ? "answer" : failure.reason().label())
                .addKeyValue("micros", timing.total() / 1000);
        if (request.traceparent() != null) {
            line = line.addKeyValue("traceparent", HttpCall.shown(request.traceparent()));
        }
        line.log("request");
    }

    private void finish(long id, Pending one, ByteBuf frame) {
        if (pending.get(id) != one) {
            counts.dropped();
            frame.release();
            return;
        }
        pending.remove(id);
        int bytes = frame.readableBytes();
        given += bytes;
        core.unsent(bytes);
        context.writeAndFlush(frame).addListener(future -> core.unsent(-bytes));
        closeWhenDone();
    }

    /** The final frame of a request; owns the answer's buffers. */
    private static ByteBuf frame(long id, Answer answer, Responder.Timing timing) {
        if (!(answer instanceof Answer.Tokens tokens)) {
            Message message = answer instanceof Answer.Failure failure
                    ? new Message.Failure(id, 1, reason(failure.reason()), failure.offset(), failure.message())
                    : new Message.Failure(id, 1, Reason.INTERNAL, -1, "an answer of another kind");
            answer.release();
            return Unpooled.wrappedBuffer(message.toFrame().bytes());
        }
        Message.Answer message = new Message.Answer(
                id,
                1,
                tokens.type(),
                tokens.shape(),
                tokens.layer(),
                tokens.identity(),
                timing.queued() / 1000,
                timing.total() / 1000,
                List.of(tokens.data().nioBuffers()));
        ByteBuffer[] bytes = message.toFrame().bytes();
        return Unpooled.wrappedBuffer(
                Unpooled.wrappedBuffer(bytes[0]), tokens.data(), Unpooled.wrappedBuffer(bytes[bytes.length - 1]));
    }

    private static Reason reason(org.comneck.server.Reason reason) {
        return switch (reason) {
            case QUEUE_FULL -> Reason.QUEUE_FULL;
            case DRAINING -> Reason.DRAINING;
            case MODEL_UNAVAILABLE -> Reason.MODEL_UNAVAILABLE;
            case TOO_MANY -> Reason.TOO_MANY;
            case DEADLINE -> Reason.DEADLINE;
            case CANCELLED -> Reason.CANCELLED;
            case UNKNOWN_MODEL, NOT_FOUND -> Reason.UNKNOWN_MODEL;
            case TOO_LARGE, HEADERS_TOO_LARGE -> Reason.TOO_LARGE;
            case BAD_REQUEST, METHOD_NOT_ALLOWED, NOT_ACCEPTABLE, TIMEOUT -> Reason.USAGE;
            case OTHER_MODEL -> Reason.OTHER_MODEL;
            case DAMAGED -> Reason.DAMAGED_DATA;
            case UNAUTHORIZED, FORBIDDEN -> Reason.UNAUTHORIZED;
            case INTERNAL -> Reason.INTERNAL;
        };
    }
}

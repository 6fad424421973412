package org.comneck.server;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.TooLongFrameException;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.DefaultHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpContent;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpObject;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.Attribute;
import io.netty.util.AttributeKey;
import io.netty.util.ReferenceCountUtil;
import io.netty.util.concurrent.ScheduledFuture;
import java.util.ArrayDeque;
import java.util.Map;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import org.comneck.UsageException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Requests of one connection of HTTP/1.1, one after the other, or the one request of a stream of HTTP/2: collects the body into one pooled
 * buffer that grows as bytes come, never beyond the route's limit; hands the whole to the route; writes the answer.
 *
 * <p>While a request is being answered, what the client sends ahead is kept, and reading stops when that is more than a little. A client
 * that goes away is noticed at once and its request is cancelled.
 */
final class HttpExchanges extends ChannelInboundHandlerAdapter {
    private static final Logger LOG = LoggerFactory.getLogger(HttpExchanges.class);
    private static final int FIRST_BODY_BYTES = 64 << 10;
    private static final int AHEAD_BYTES = 64 << 10;
    private static final int AHEAD_OBJECTS = 64;
    private static final long LEAST_BYTES_PER_SECOND = 8 << 10;
    private static final int UNSENT_MARKS = 16; // many streams of one connection make more than one answer wait
    private static final AttributeKey<long[]> UNSENT = AttributeKey.valueOf(HttpExchanges.class, "unsent");
    private static final long LINGER_MILLIS = 1000;
    private static final long TICKS_OF_A_LIMIT = 4;

    private enum State {
        /** Between requests. */
        IDLE,
        /** A header has begun. */
        HEADER,
        /** The body is coming. */
        BODY,
        /** The request is whole; its answer is not written. */
        BUSY,
        /** Nothing more is read but the client's end. */
        CLOSING
    }

    private final Core core;
    private final HttpRoutes routes;
    private final boolean stream;
    private final Metrics.Counter badRequests;
    private final ArrayDeque<HttpObject> ahead = new ArrayDeque<>();
    private int aheadBytes;

    private ChannelHandlerContext context;
    private ScheduledFuture<?> tick;
    private State state = State.IDLE;
    private long since = System.nanoTime(); // of the state
    private long lastByte;
    private boolean draining;

    // Of the request in progress.
    private HttpCall call;
    private Route route;
    private ByteBuf body;
    private long received;
    private int reserved; // of the server's memory for bodies, by this one
    private long declared; // length of the body, or -1
    private boolean dropping; // the rest of the body is of no use
    private boolean keepAlive;
    private boolean written; // the answer was given to the channel
    private int answerBytes;
    private boolean flushed; // and the channel to the network
    private boolean replaying; // what was sent ahead

    /** @param stream true on a stream of HTTP/2 */
    HttpExchanges(Core core, HttpRoutes routes, boolean stream) {
        this.core = core;
        this.routes = routes;
        this.stream = stream;
        this.badRequests = core.metrics()
                .counter("comneck_malformed_requests_total", "Requests that no parser understands.", "port", "http");
    }

    @Override
    public void handlerAdded(ChannelHandlerContext ctx) {
        context = ctx;
        draining = core.draining();
        Limits limits = core.limits();
        long shortest = Math.min(limits.headerMillis(), Math.min(limits.bodyMillis(), limits.idleMillis()));
        long period = Math.max(shortest / TICKS_OF_A_LIMIT, 1);
        tick = ctx.executor().scheduleWithFixedDelay(this::tick, period, period, TimeUnit.MILLISECONDS);
    }

    @Override
    public void handlerRemoved(ChannelHandlerContext ctx) {
        tick.cancel(false);
        forget();
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) {
        forget();
        ctx.fireChannelInactive();
    }

    /** The connection is no more. */
    private void forget() {
        state = State.CLOSING;
        tick.cancel(false);
        dropBody();
        if (call != null) {
            call.gone();
            call = null;
        }
        ahead.forEach(ReferenceCountUtil::release);
        ahead.clear();
    }

    private void enter(State next) {
        state = next;
        since = System.nanoTime();
    }

    // ---------------------------------------------------------------- time

    /** Closes what is too slow. */
    private void tick() {
        long now = System.nanoTime();
        long millis = TimeUnit.NANOSECONDS.toMillis(now - since);
        Limits limits = core.limits();
        switch (state) {
            case IDLE -> {
                if (!stream && millis > limits.idleMillis()) {
                    context.close();
                }
            }
            case HEADER -> {
                if (millis > limits.headerMillis()) {
                    core.scheduler().countRefusal(Reason.TIMEOUT);
                    context.close();
                }
            }
            case BODY -> {
                long silent = TimeUnit.NANOSECONDS.toMillis(now - lastByte);
                boolean slow = millis > limits.bodyMillis() + 1000 * received / LEAST_BYTES_PER_SECOND;
                if (silent > limits.bodyMillis() || slow) {
                    if (dropping) {
                        context.close();
                    } else {
                        refuse(Reason.TIMEOUT, "the body came too slowly", true);
                    }
                }
            }
            case BUSY -> {
                if (written && millis > limits.idleMillis() + 1000L * answerBytes / LEAST_BYTES_PER_SECOND) {
                    LOG.debug("an answer was not read");
                    context.close();
                }
            }
            case CLOSING -> {
                if (millis > LINGER_MILLIS) {
                    context.close();
                }
            }
        }
    }

    /** Bytes have come that may be the beginning of a header: from the handler before the codec. */
    void bytesArrived() {
        if (state == State.IDLE) {
            enter(State.HEADER);
        }
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext ctx, Object event) {
        if (event == Endpoint.DRAIN) {
            draining = true;
            if (!stream && (state == State.IDLE || state == State.HEADER)) {
                ctx.close();
            }
        }
        ctx.fireUserEventTriggered(event);
    }

    // ---------------------------------------------------------------- requests

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object message) {
        if (!(message instanceof HttpObject object)) {
            ctx.fireChannelRead(message);
            return;
        }
        if (state == State.CLOSING) {
            ReferenceCountUtil.release(object);
        } else if (state == State.BUSY) {
            if (stream) {
                ReferenceCountUtil.release(object); // trailers of nothing
                return;
            }
            ahead.add(object);
            aheadBytes +=
                    object instanceof HttpContent content ? content.content().readableBytes() : 0;
            if (aheadBytes > AHEAD_BYTES || ahead.size() > AHEAD_OBJECTS) {
                ctx.channel().config().setAutoRead(false);
            }
        } else {
            accept(object);
        }
    }

    private void accept(HttpObject object) {
        try {
            if (object.decoderResult().isFailure()) {
                malformed(object.decoderResult().cause());
                return;
            }
            if (object instanceof HttpRequest request) {
                begin(request);
            }
            if (object instanceof HttpContent content && state == State.BODY) {
                collect(content.content());
                if (object instanceof LastHttpContent && state == State.BODY) {
                    end();
                }
            }
        } finally {
            ReferenceCountUtil.release(object);
        }
    }

    private void malformed(Throwable cause) {
        badRequests.add(1);
        Reason reason = cause instanceof TooLongFrameException ? Reason.HEADERS_TOO_LARGE : Reason.BAD_REQUEST;
        if (call == null) {
            enter(State.BODY);
            lastByte = since;
            call = new HttpCall(core, new DefaultHttpRequest(HttpVersion.HTTP_1_1, HttpMethod.GET, "/"), this::send);
        }
        refuse(
                reason,
                reason == Reason.HEADERS_TOO_LARGE
                        ? "the request line or the headers are longer than "
                                + core.limits().headerBytes() + " bytes"
                        : "this is not HTTP as it should be",
                true);
    }

    private void begin(HttpRequest request) {
        enter(State.BODY);
        lastByte = since;
        received = 0;
        dropping = false;
        written = false;
        flushed = false;
        keepAlive = HttpUtil.isKeepAlive(request) && !draining;
        call = new HttpCall(core, request, this::send);
        try {
            declared = HttpUtil.getContentLength(request, -1L);
        } catch (NumberFormatException e) {
            malformed(e);
            return;
        }
        try {
            route = routes.find(call, request.method());
        } catch (UsageException e) {
            refuse(Reason.BAD_REQUEST, e.getMessage(), false);
            return;
        }
        if (route == null) {
            dropping = true; // it has been answered
            return;
        }
        if (declared > route.bodyBytes()) {
            tooLarge(declared);
        } else if (unsent()[0] > (long) UNSENT_MARKS * core.limits().highWaterBytes()) {
            refuse(Reason.TOO_MANY, "answers of this connection wait to be read: read them first", false);
        } else if (HttpUtil.is100ContinueExpected(request) && !stream) {
            context.writeAndFlush(new DefaultFullHttpResponse(
                    HttpVersion.HTTP_1_1, HttpResponseStatus.CONTINUE, Unpooled.EMPTY_BUFFER));
        }
    }

    private void tooLarge(long bytes) {
        refuse(
                Reason.TOO_LARGE,
                "a body of " + bytes + " bytes or more is over the limit of " + route.bodyBytes()
                        + (route.bodyBytes() == core.limits().bodyBytes() ? "; raise it with --max-body" : ""),
                true);
    }

    private void collect(ByteBuf part) {
        int bytes = part.readableBytes();
        if (bytes == 0) {
            return;
        }
        received += bytes;
        lastByte = System.nanoTime();
        if (dropping) {
            if (received > core.limits().bodyBytes()) {
                context.close();
            }
            return;
        }
        if (received > route.bodyBytes()) {
            tooLarge(received);
            return;
        }
        if (received > reserved && !grow((int) received)) {
            refuse(Reason.QUEUE_FULL, "too many bodies are being received: come back later", false);
            return;
        }
        body.writeBytes(part);
    }

    /** Makes room for the body so far and some of what comes. What counts is the memory that is taken, not what was sent to fill it. */
    private boolean grow(int needed) {
        int most = (int) route.bodyBytes();
        int capacity;
        if (body == null) {
            long expected = declared >= 0 ? declared : FIRST_BODY_BYTES;
            capacity = (int) Math.min(Math.max(needed, Math.min(expected, FIRST_BODY_BYTES)), most);
        } else {
            capacity = context.alloc().calculateNewCapacity(needed, most);
        }
        if (!core.reserve(capacity - reserved)) {
            return false;
        }
        reserved = capacity;
        if (body == null) {
            body = context.alloc().directBuffer(capacity, most);
        } else {
            body.capacity(capacity);
        }
        return true;
    }

    private void unreserve() {
        core.unreserve(reserved);
        reserved = 0;
    }

    /** Bytes of answers that the client of this connection has not taken, of all its streams; only its event loop counts. */
    private long[] unsent() {
        Channel connection = stream ? context.channel().parent() : context.channel();
        Attribute<long[]> attribute = connection.attr(UNSENT);
        long[] bytes = attribute.get();
        if (bytes == null) {
            bytes = new long[1];
            attribute.set(bytes);
        }
        return bytes;
    }

    private void dropBody() {
        dropping = true;
        unreserve();
        if (body != null) {
            body.release();
            body = null;
        }
    }

    private void end() {
        enter(State.BUSY);
        if (dropping) {
            if (flushed) {
                finish();
            }
            return;
        }
        if (body != null) {
            unreserve(); // from here on the queue counts it
            call.body(body);
            body = null;
        }
        HttpCall whole = call;
        try {
            route.handler().handle(whole);
        } catch (UsageException e) {
            whole.reject(Reason.BAD_REQUEST, e.getMessage());
        } catch (RuntimeException e) {
            whole.internal(e);
        } finally {
            whole.takeBody().release();
        }
    }

    /** Answers before the body has come; the rest of it is dropped, or the connection closed. */
    private void refuse(Reason reason, String message, boolean close) {
        dropBody();
        if (close) {
            keepAlive = false;
        }
        call.reject(reason, message);
    }

    // ---------------------------------------------------------------- answers

    /** From any thread. */
    private void send(HttpCall from, int status, String type, ByteBuf content, Map<String, String> headers) {
        if (context.executor().inEventLoop()) {
            write(from, status, type, content, headers);
            return;
        }
        try {
            context.executor().execute(() -> write(from, status, type, content, headers));
        } catch (RejectedExecutionException e) {
            content.release(); // the event loop has ended
        }
    }

    private void write(HttpCall from, int status, String type, ByteBuf content, Map<String, String> headers) {
        if (state == State.CLOSING || call != from) {
            content.release();
            return;
        }
        routes.count(status);
        FullHttpResponse response =
                new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.valueOf(status), content);
        headers.forEach((name, value) -> response.headers().set(name, value));
        response.headers().set(HttpHeaderNames.CONTENT_TYPE, type);
        response.headers().set(HttpHeaderNames.CONTENT_LENGTH, content.readableBytes());
        response.headers().set("x-request-id", call.id());
        if (draining) {
            keepAlive = false;
        }
        if (!stream) {
            HttpUtil.setKeepAlive(response, keepAlive);
        }
        written = true;
        since = System.nanoTime();
        int bytes = content.readableBytes();
        long[] ofConnection = unsent();
        answerBytes = bytes;
        ofConnection[0] += bytes;
        core.unsent(bytes);
        context.writeAndFlush(response).addListener((ChannelFutureListener) future -> {
            ofConnection[0] -= bytes;
            core.unsent(-bytes);
            if (!future.isSuccess()) {
                LOG.debug(
                        "{}: the answer was not sent: {}",
                        from.id(),
                        future.cause().toString());
                context.close();
                return;
            }
            flushed = true;
            if (state == State.BUSY) {
                finish();
            } else if (state == State.BODY && !keepAlive && !stream) {
                // Part of the request is on its way: closing now could take the answer away from the client.
                enter(State.CLOSING);
                call = null;
            }
        });
    }

    /** Request and answer are complete: on to the next. */
    private void finish() {
        call = null;
        if (stream) {
            return;
        }
        if (!keepAlive) {
            state = State.CLOSING;
            context.close();
            return;
        }
        enter(State.IDLE);
        if (!replaying) {
            replay();
        }
    }

    /** Goes on with what the client sent ahead; a loop, because each answer may be complete before the next request is looked at. */
    private void replay() {
        replaying = true;
        try {
            while (!ahead.isEmpty() && state != State.BUSY && state != State.CLOSING) {
                HttpObject next = ahead.poll();
                aheadBytes -=
                        next instanceof HttpContent content ? content.content().readableBytes() : 0;
                accept(next);
            }
        } finally {
            replaying = false;
        }
        if (ahead.isEmpty() && state != State.CLOSING) {
            context.channel().config().setAutoRead(true);
        }
    }

    @Override
    public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
        // Resets by the peer, TLS alerts, our own bugs: the connection is beyond repair.
        if (cause instanceof java.io.IOException || cause instanceof io.netty.handler.codec.DecoderException) {
            LOG.debug("connection lost: {}", cause.toString());
        } else {
            LOG.error("connection closed", cause);
        }
        ctx.close();
    }
}

package org.comneck.server;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import java.nio.ByteBuffer;
import java.util.concurrent.TimeUnit;
import org.comneck.DamagedDataException;
import org.comneck.wire.Frame;
import org.comneck.wire.FrameHead;
import org.comneck.wire.FrameReader;
import org.comneck.wire.FrameType;
import org.comneck.wire.Message;
import org.comneck.wire.Reason;

/**
 * Bytes to {@link Received} frames and {@link Message}s to bytes. Memory for a body is taken from the server's budget before it is allocated;
 * what the budget or the limits do not allow passes by unread. A frame that does not come on ends the connection, a damaged stream too:
 * both as a {@link DamagedDataException} through the pipeline.
 */
final class TcpFrames extends ChannelDuplexHandler {
    /** What a frame under way must bring over the body time, or end. */
    private static final long LEAST_BYTES_PER_SECOND = 8 << 10;

    /**
     * A frame.
     *
     * @param body its body, which belongs to the receiver, or null
     * @param reserved bytes of the budget that the receiver gives back
     * @param unwanted why a request's body was not read, or null
     */
    record Received(Frame frame, ByteBuf body, int reserved, Reason unwanted) {}

    private final Core core;
    private final FrameReader reader = new FrameReader(this::admit);
    private ChannelHandlerContext context;
    private ByteBuf body;
    private Reason unwanted;
    private long bytes; // received so far
    private long frames; // likewise
    private boolean watched;
    private boolean ended;

    TcpFrames(Core core) {
        this.core = core;
    }

    @Override
    public void handlerAdded(ChannelHandlerContext ctx) {
        context = ctx;
    }

    private ByteBuffer admit(FrameHead head) {
        if (head.type() != FrameType.REQUEST) {
            throw new DamagedDataException("a frame of type " + head.type() + " has a body", 24);
        }
        if (head.bodyBytes() > core.limits().bodyBytes()) {
            unwanted = Reason.TOO_LARGE;
        } else if (core.draining()) {
            unwanted = Reason.DRAINING;
        } else if (!context.channel().isWritable()) {
            unwanted = Reason.SLOW_READER;
        } else if (!core.reserve((int) head.bodyBytes())) {
            unwanted = Reason.TOO_MANY;
        }
        if (unwanted != null) {
            return null;
        }
        int size = (int) head.bodyBytes();
        try {
            body = context.alloc().directBuffer(size, size);
        } catch (OutOfMemoryError e) {
            core.unreserve(size);
            unwanted = Reason.TOO_MANY;
            return null;
        }
        body.writerIndex(size);
        return body.nioBuffer(0, size);
    }

    @Override
    public void channelRead(ChannelHandlerContext ctx, Object message) {
        ByteBuf in = (ByteBuf) message;
        bytes += in.readableBytes();
        try {
            for (ByteBuffer piece : in.nioBuffers()) {
                while (piece.hasRemaining() && !ended) {
                    Frame frame = reader.read(piece);
                    if (frame != null) {
                        ctx.fireChannelRead(received(frame));
                    }
                }
            }
        } catch (DamagedDataException e) {
            end(e);
        } finally {
            in.release();
        }
        if (!ended && !reader.isIdle() && !watched) {
            watch(bytes, frames);
        }
    }

    private Received received(Frame frame) {
        Received received = new Received(frame, body, body == null ? 0 : body.capacity(), unwanted);
        body = null;
        unwanted = null;
        frames++;
        return received;
    }

    /** Looks after the body time whether the frame that is under way now has ended or come on. */
    private void watch(long before, long frame) {
        watched = true;
        long millis = core.limits().bodyMillis();
        context.executor()
                .schedule(
                        () -> {
                            watched = false;
                            if (ended || reader.isIdle()) {
                                return;
                            }
                            if (frames == frame && bytes - before < LEAST_BYTES_PER_SECOND * millis / 1000) {
                                end(new DamagedDataException("a frame does not end"));
                            } else {
                                watch(bytes, frames);
                            }
                        },
                        millis,
                        TimeUnit.MILLISECONDS);
    }

    private void end(DamagedDataException why) {
        stop();
        context.fireExceptionCaught(why);
    }

    /** Nothing is read from here on. */
    private void stop() {
        ended = true;
        if (body != null) {
            core.unreserve(body.capacity());
            body.release();
            body = null;
        }
    }

    @Override
    public void channelInactive(ChannelHandlerContext ctx) {
        stop();
        ctx.fireChannelInactive();
    }

    @Override
    public void write(ChannelHandlerContext ctx, Object message, ChannelPromise promise) {
        ctx.write(
                message instanceof Message said
                        ? Unpooled.wrappedBuffer(said.toFrame().bytes())
                        : message,
                promise);
    }
}

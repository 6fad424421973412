package org.comneck.client;

import java.nio.ByteBuffer;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import org.comneck.wire.Message;
import org.comneck.wire.RequestOptions;

/** A request on its way, and the future that its caller holds. */
final class Exchange extends CompletableFuture<Tokens> {
    /** No deadline. */
    static final long NEVER = Long.MAX_VALUE;

    private final ByteBuffer bitstream;
    private final RequestOptions options;
    private final String traceParent;
    private final long deadlineNanos;
    private int attempts;
    private Future<?> timer;

    // Where it was sent last; guarded by this.
    private Connection connection;
    private long id;
    private boolean takenBack;

    Exchange(ByteBuffer bitstream, RequestOptions options, String traceParent, long deadlineNanos) {
        this.bitstream = bitstream;
        this.options = options;
        this.traceParent = traceParent;
        this.deadlineNanos = deadlineNanos;
    }

    /** The frame of the next attempt; null when the deadline has passed. */
    Message.Request request(long number) {
        long micros = 0;
        if (deadlineNanos != NEVER) {
            micros = Math.min((deadlineNanos - System.nanoTime()) / 1000, 0xFFFF_FFFFL);
            if (micros <= 0) {
                return null;
            }
        }
        return new Message.Request(number, micros, options, traceParent, bitstream.duplicate());
    }

    /** Counts attempts: true when one more is allowed. */
    synchronized boolean mayTry(int most) {
        if (attempts >= most) {
            return false;
        }
        attempts++;
        return true;
    }

    /** Attempts so far. */
    synchronized int tries() {
        return attempts;
    }

    /** Milliseconds until the deadline, or a day. */
    long leftMillis() {
        return deadlineNanos == NEVER ? 86_400_000 : (deadlineNanos - System.nanoTime()) / 1_000_000;
    }

    void timer(Future<?> deadline) {
        timer = deadline;
        whenComplete((tokens, error) -> timer.cancel(false));
    }

    synchronized void sentBy(Connection by, long number) {
        connection = by;
        id = number;
    }

    /** Notes that the server is being told; true the first time. */
    synchronized boolean takeBack() {
        boolean first = !takenBack;
        takenBack = true;
        return first;
    }

    /** Tells the server that nobody waits any more. */
    void abandon() {
        Connection by;
        long number;
        synchronized (this) {
            by = connection;
            number = id;
        }
        if (by != null) {
            by.cancel(number);
        }
    }

    @Override
    public boolean cancel(boolean mayInterrupt) {
        boolean cancelled = super.cancel(mayInterrupt);
        if (cancelled) {
            abandon();
        }
        return cancelled;
    }
}

package org.comneck.engine;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.function.Function;

/** Prepared runs that wait for their next use; the longest unused are closed when there are too many. Thread-safe. */
final class RunPool implements AutoCloseable {
    private static final int MAX_IDLE_RUNS = 32;
    private static final long MAX_IDLE_BYTES = 1L << 30;

    private final Function<PreparedRun.Key, PreparedRun> recorder;
    private final Deque<PreparedRun> idle = new ArrayDeque<>(); // latest first
    private long idleBytes;
    private int lent;
    private boolean closed;

    /** @param recorder makes a run that no waiting one matches */
    RunPool(Function<PreparedRun.Key, PreparedRun> recorder) {
        this.recorder = recorder;
    }

    /** A run for the caller alone, until {@link #giveBack}. */
    PreparedRun take(PreparedRun.Key key) {
        synchronized (this) {
            if (closed) {
                throw new IllegalStateException("the engine is closed");
            }
            lent++;
            for (Iterator<PreparedRun> runs = idle.iterator(); runs.hasNext(); ) {
                PreparedRun run = runs.next();
                if (run.key().equals(key)) {
                    runs.remove();
                    idleBytes -= run.run().bytes();
                    return run;
                }
            }
        }
        boolean recorded = false;
        try {
            PreparedRun run = recorder.apply(key);
            recorded = true;
            return run;
        } finally {
            if (!recorded) {
                returned();
            }
        }
    }

    synchronized void giveBack(PreparedRun run) {
        idle.addFirst(run);
        idleBytes += run.run().bytes();
        while (idle.size() > MAX_IDLE_RUNS || idle.size() > 1 && idleBytes > MAX_IDLE_BYTES) {
            PreparedRun oldest = idle.removeLast();
            idleBytes -= oldest.run().bytes();
            oldest.close();
        }
        returned();
    }

    private synchronized void returned() {
        lent--;
        notifyAll();
    }

    /** Waits for the lent runs, then closes all. Idempotent. */
    @Override
    public synchronized void close() {
        closed = true;
        boolean interrupted = false;
        while (lent > 0) {
            try {
                wait();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        idle.forEach(PreparedRun::close);
        idle.clear();
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}

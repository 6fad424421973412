package org.comneck.server;

import io.netty.buffer.ByteBuf;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.comneck.DamagedDataException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;

/**
 * Arithmetic for tests of everything around it: the f16 "tokens" [n/2, 1] of a body are its n bytes, {@code times} times over. A body that
 * begins with 'D' is damaged at byte 7, one that begins with 'B' meets a bug. Can be held up.
 */
final class StubCompute implements Compute {
    /** Permits to compute a batch. */
    final Semaphore turns;

    final AtomicInteger batches = new AtomicInteger();
    private final int times;

    private StubCompute(int permits, int times) {
        this.turns = new Semaphore(permits);
        this.times = times;
    }

    /** Computes at once. */
    static StubCompute free() {
        return repeating(1);
    }

    /** Computes at once; answers are so many times as long as bodies. */
    static StubCompute repeating(int times) {
        return new StubCompute(Integer.MAX_VALUE / 2, times);
    }

    /** Computes a batch for each permit that the test releases. */
    static StubCompute held() {
        return new StubCompute(0, 1);
    }

    /** Lets everything pass, at the end of a test. */
    void letGo() {
        turns.release(1_000_000);
    }

    @Override
    public void prepare(Work work) {}

    @Override
    public void compute(List<Work> batch) {
        batches.incrementAndGet();
        turns.acquireUninterruptibly();
        for (Work work : batch) {
            if (!work.goesOn()) {
                continue;
            }
            ByteBuf body = work.request().body();
            switch (body.isReadable() ? body.getByte(body.readerIndex()) : 0) {
                case 'D' -> Scheduler.fail(work, new DamagedDataException("damaged", 7));
                case 'B' -> Scheduler.fail(work, new IllegalStateException("a bug"));
                default -> {
                    int bytes = body.readableBytes() * times;
                    ByteBuf tokens = body.alloc().directBuffer(bytes, bytes);
                    for (int i = 0; i < times; i++) {
                        tokens.writeBytes(body, body.readerIndex(), body.readableBytes());
                    }
                    work.answer(
                            new Answer.Tokens(ElementType.F16, Shape.of(bytes / 2, 1), tokens, new byte[16], "1", -2));
                }
            }
        }
    }
}

package org.comneck.server;

import io.netty.buffer.ByteBuf;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;

/** Arithmetic for tests of everything around it: the "tokens" of a body are its bytes. Can be held up. */
final class StubCompute implements Compute {
    /** Permits to compute a batch. */
    final Semaphore turns;

    final AtomicInteger batches = new AtomicInteger();

    private StubCompute(int permits) {
        turns = new Semaphore(permits);
    }

    /** Computes at once. */
    static StubCompute free() {
        return new StubCompute(Integer.MAX_VALUE / 2);
    }

    /** Computes a batch for each permit that the test releases. */
    static StubCompute held() {
        return new StubCompute(0);
    }

    @Override
    public void prepare(Work work) {}

    @Override
    public void compute(List<Work> batch) {
        batches.incrementAndGet();
        turns.acquireUninterruptibly();
        for (Work work : batch) {
            if (work.goesOn()) {
                ByteBuf body = work.request().body().copy();
                work.answer(new Answer.Tokens(
                        ElementType.F16, Shape.of(1, body.readableBytes() / 2), body, new byte[16], -2));
            }
        }
    }
}

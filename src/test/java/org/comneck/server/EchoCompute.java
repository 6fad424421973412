package org.comneck.server;

import io.netty.buffer.ByteBuf;
import java.util.List;
import java.util.concurrent.Semaphore;
import org.comneck.DamagedDataException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;

/**
 * Arithmetic for tests of the protocol: the f16 "tokens" [n/2, 1] of a body are its n bytes, over and over {@code times} times. A body that
 * begins with 'D' is damaged, one that begins with 'B' meets a bug.
 */
final class EchoCompute implements Compute {
    /** Permits to compute a request. */
    final Semaphore turns;

    private final int times;

    EchoCompute(int permits, int times) {
        this.turns = new Semaphore(permits);
        this.times = times;
    }

    @Override
    public void prepare(Work work) {}

    @Override
    public void compute(List<Work> batch) {
        for (Work work : batch) {
            turns.acquireUninterruptibly();
            if (!work.goesOn()) {
                continue;
            }
            ByteBuf body = work.request().body();
            int first = body.isReadable() ? body.getByte(body.readerIndex()) : 0;
            if (first == 'D') {
                work.fail(Reason.DAMAGED, new DamagedDataException("damaged", 7).getMessage());
            } else if (first == 'B') {
                Scheduler.fail(work, new IllegalStateException("a bug"));
            } else {
                int bytes = body.readableBytes() * times;
                ByteBuf tokens = body.alloc().directBuffer(bytes, bytes);
                for (int i = 0; i < times; i++) {
                    tokens.writeBytes(body, body.readerIndex(), body.readableBytes());
                }
                work.answer(new Answer.Tokens(ElementType.F16, Shape.of(bytes / 2, 1), tokens, new byte[16], -2));
            }
        }
    }
}

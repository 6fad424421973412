package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.netty.buffer.ByteBuf;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.wire.Message;
import org.comneck.wire.RequestOptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * 100,000 requests over connections that are killed at random: every request that the scheduler accepted is answered once, no client gets
 * two final frames for a request or one that was not asked for, and what remains at the end is nothing.
 */
@ExtendWith(LeakCheck.class)
class TcpExactlyOnceTest {
    private static final int REQUESTS = 100_000;
    private static final int CLIENTS = 8;

    /** Answers with the body, and counts how often each was computed. */
    private static final class Counting implements Compute {
        private final Map<Long, AtomicInteger> computed = new ConcurrentHashMap<>();

        @Override
        public void prepare(Work work) {}

        @Override
        public void compute(List<Work> batch) {
            for (Work work : batch) {
                if (work.goesOn()) {
                    ByteBuf body = work.request().body();
                    computed.computeIfAbsent(body.getLong(body.readerIndex()), key -> new AtomicInteger())
                            .incrementAndGet();
                    ByteBuf tokens = body.copy();
                    work.answer(new Answer.Tokens(
                            ElementType.F16, Shape.of(tokens.readableBytes() / 2, 1), tokens, new byte[16], "1", -2));
                }
            }
        }
    }

    /** What one client saw. */
    private static final class Tally {
        private long answered;
        private long refused;
        private long failed;
        private long lost;
    }

    @Test
    void everyAcceptedRequestHasOneAnswer() throws Exception {
        Metrics metrics = new Metrics();
        Counting compute = new Counting();
        AtomicReference<Throwable> trouble = new AtomicReference<>();
        Tally[] tallies = new Tally[CLIENTS];
        try (ComneckServer server = ComneckServer.start(
                ServerOptions.DEFAULT.withPorts(-1, 0),
                Models.of(new Model("counting", "1", null)),
                metrics,
                compute)) {
            CountDownLatch done = new CountDownLatch(CLIENTS);
            for (int c = 0; c < CLIENTS; c++) {
                int client = c;
                tallies[c] = new Tally();
                Thread.ofPlatform().start(() -> {
                    try {
                        run(server.tcpPort(), client, tallies[client]);
                    } catch (Throwable e) {
                        trouble.compareAndSet(null, e);
                    } finally {
                        done.countDown();
                    }
                });
            }
            done.await();
            if (trouble.get() != null) {
                throw new AssertionError(trouble.get());
            }
            assertTrue(server.drain(), "something was not answered");
            assertEquals(0, server.core().scheduler().inFlight());
        }
        long accepted = metrics.counter("comneck_requests_accepted_total", "").value();
        long ended =
                metrics.counter("comneck_results_total", "", "kind", "tokens").value();
        for (Reason reason : Reason.values()) {
            ended += metrics.counter("comneck_failures_total", "", "reason", reason.label())
                    .value();
        }
        assertEquals(accepted, ended, "requests that were accepted, and answers");
        compute.computed.forEach((key, times) -> assertEquals(1, times.get(), "request " + key));
        long seen = 0;
        long lost = 0;
        for (Tally tally : tallies) {
            seen += tally.answered + tally.refused + tally.failed;
            lost += tally.lost;
        }
        assertEquals(REQUESTS, seen + lost);
        assertTrue(lost > REQUESTS / 100, lost + " requests went down with their connections: too few to tell");
        assertTrue(seen > REQUESTS / 2, seen + " answers were seen");
    }

    private static void run(int port, int client, Tally tally) throws Exception {
        Random random = new Random(client);
        int left = REQUESTS / CLIENTS;
        long key = (long) client << 32;
        while (left > 0) {
            int some = Math.min(left, 1 + random.nextInt(800));
            left -= some;
            connection(port, random, key, some, tally);
            key += some;
        }
    }

    /** Asks so many times, and then, or in between, kills the connection. */
    private static void connection(int port, Random random, long firstKey, int requests, Tally tally) throws Exception {
        int killAfter = random.nextBoolean() ? Integer.MAX_VALUE : random.nextInt(requests);
        boolean abruptly = random.nextBoolean();
        Map<Long, Long> open = new HashMap<>(); // key by id
        Semaphore credits = new Semaphore(0);
        AtomicReference<Throwable> trouble = new AtomicReference<>();
        try (TcpPeer peer = new TcpPeer(port, 0)) {
            credits.release(peer.hello().credits());
            Thread reader = Thread.ofPlatform().start(() -> {
                try {
                    while (true) {
                        Message message = peer.receive();
                        synchronized (open) {
                            take(message, open, tally);
                        }
                        credits.release(message.toFrame().head().credits());
                    }
                } catch (IOException e) {
                    // killed
                } catch (Throwable e) {
                    trouble.set(e);
                } finally {
                    credits.release(1 << 20);
                }
            });
            int sent = 0;
            try {
                while (sent < requests && sent < killAfter) {
                    credits.acquire();
                    long id = sent + 1;
                    long key = firstKey + sent;
                    synchronized (open) {
                        open.put(id, key);
                    }
                    sent++;
                    byte[] body = ByteBuffer.allocate(8 + random.nextInt(20) * 2)
                            .putLong(0, key)
                            .array();
                    peer.send(new Message.Request(id, 0, RequestOptions.DEFAULT, null, ByteBuffer.wrap(body)));
                    if (random.nextInt(50) == 0) {
                        peer.send(new Message.Cancel(1 + random.nextInt(sent)));
                    }
                }
                if (killAfter == Integer.MAX_VALUE) {
                    long end = System.nanoTime() + 30_000_000_000L;
                    while (System.nanoTime() < end && !isEmpty(open)) {
                        Thread.sleep(1);
                    }
                    assertTrue(isEmpty(open), "answers are missing");
                }
            } finally {
                if (abruptly) {
                    peer.socket.setSoLinger(true, 0); // RST
                }
                peer.socket.close();
                reader.join();
            }
            if (trouble.get() != null) {
                throw new AssertionError(trouble.get());
            }
            tally.lost += open.size() + (requests - sent);
        }
    }

    private static boolean isEmpty(Map<Long, Long> open) {
        synchronized (open) {
            return open.isEmpty();
        }
    }

    private static void take(Message message, Map<Long, Long> open, Tally tally) {
        switch (message) {
            case Message.Answer answer -> {
                Long key = open.remove(answer.id());
                assertTrue(key != null, "an answer that nobody waits for");
                assertEquals(key, answer.tokens().getFirst().getLong(0), "another request's answer");
                tally.answered++;
            }
            case Message.Refusal refusal -> {
                assertTrue(open.remove(refusal.id()) != null, "a refusal that nobody waits for");
                tally.refused++;
            }
            case Message.Failure failure -> {
                assertEquals(org.comneck.wire.Reason.CANCELLED, failure.reason(), failure.text());
                assertTrue(open.remove(failure.id()) != null, "an error that nobody waits for");
                tally.failed++;
            }
            default -> throw new AssertionError(message);
        }
    }
}

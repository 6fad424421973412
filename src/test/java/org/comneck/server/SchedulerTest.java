package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import org.comneck.engine.Photo;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Queueing without arithmetic: a computation that the tests hold up and let go. */
@ExtendWith(LeakCheck.class)
class SchedulerTest {
    private static final byte[] BITSTREAM = {'C', 'N', 'K', 0x1A};
    private static final byte[] PHOTO = {(byte) 0xFF, (byte) 0xD8, (byte) 0xFF, 0};

    private final Metrics metrics = new Metrics();
    private final List<Integer> batches = new CopyOnWriteArrayList<>();
    private final Semaphore turns = new Semaphore(0);
    private final Model model = new Model("m", "1", null);
    private final Models models = Models.of(model);
    private Scheduler scheduler;

    private Scheduler start(Batching batching, Consumer<List<Work>> body) {
        scheduler = new Scheduler(models, batching, Limits.DEFAULT, metrics, new Compute() {
            @Override
            public void prepare(Work work) {}

            @Override
            public void compute(List<Work> batch) {
                batches.add(batch.size());
                body.accept(batch);
            }
        });
        return scheduler;
    }

    /** Answers one batch for each permit. */
    private void inTurn(List<Work> batch) {
        turns.acquireUninterruptibly();
        echo(batch);
    }

    private static void echo(List<Work> batch) {
        batch.forEach(
                work -> work.answer(new Answer.Bitstream(work.request().body().copy())));
    }

    @AfterEach
    void stop() {
        turns.release(1_000_000);
        scheduler.close();
        models.close();
    }

    /** Everything that came back for one request. */
    private static final class Answers extends LinkedBlockingQueue<Answer> implements Responder {
        private static final long serialVersionUID = 1L;

        @Override
        public void answer(Answer answer, Timing timing) {
            add(answer);
        }

        Answer one() throws InterruptedException {
            Answer answer = poll(10, TimeUnit.SECONDS);
            assertTrue(answer != null, "no answer");
            answer.release();
            return answer;
        }
    }

    private static TokenRequest request(byte[] body) {
        return TokenRequest.tokens("r", TokenChoice.DEFAULT, Unpooled.copiedBuffer(body));
    }

    private Submission submit(Responder responder) {
        return scheduler.submit(request(BITSTREAM), responder);
    }

    private static Reason reason(Answer answer) {
        return assertInstanceOf(Answer.Failure.class, answer).reason();
    }

    private void awaitWaiting(int count) throws InterruptedException {
        for (int i = 0; i < 2000 && scheduler.waiting() != count; i++) {
            Thread.sleep(5);
        }
        assertEquals(count, scheduler.waiting());
    }

    @Test
    void fullQueueRefusesAtOnceAndReleasesTheBody() throws Exception {
        start(Batching.DEFAULT.withImages(1).withQueue(2), this::inTurn);
        List<Answers> answers = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            answers.add(new Answers());
            assertInstanceOf(Submission.Accepted.class, submit(answers.get(i)));
            awaitWaiting(i == 0 ? 0 : i); // the first is being computed
        }
        ByteBuf body = Unpooled.copiedBuffer(BITSTREAM);
        Submission refused = scheduler.submit(TokenRequest.tokens("r", TokenChoice.DEFAULT, body), new Answers());
        Submission.Refused refusal = assertInstanceOf(Submission.Refused.class, refused);
        assertEquals(Reason.QUEUE_FULL, refusal.reason());
        assertTrue(refusal.retryAfterSeconds() > 0);
        assertEquals(0, body.refCnt());
        turns.release(3);
        for (Answers each : answers) {
            assertInstanceOf(Answer.Bitstream.class, each.one());
        }
        assertTrue(metrics.text().contains("comneck_refusals_total{reason=\"queue_full\"} 1\n"), metrics.text());
    }

    @Test
    void queueIsBoundedInBytesToo() throws Exception {
        start(Batching.DEFAULT.withImages(1).withQueueBytes(6), this::inTurn);
        assertInstanceOf(Submission.Accepted.class, submit(new Answers()));
        awaitWaiting(0);
        assertInstanceOf(Submission.Accepted.class, submit(new Answers()));
        assertEquals(
                Reason.QUEUE_FULL,
                assertInstanceOf(Submission.Refused.class, submit(new Answers()))
                        .reason());
    }

    @Test
    void whatWaitsWhileAThreadIsBusyBecomesABatch() throws Exception {
        start(Batching.DEFAULT.withImages(4), this::inTurn);
        submit(new Answers());
        awaitWaiting(0);
        for (int i = 0; i < 6; i++) {
            submit(new Answers());
        }
        turns.release(3);
        assertTrue(scheduler.awaitAnswered(10_000));
        assertEquals(List.of(1, 4, 2), batches);
    }

    @Test
    void aRequestWaitsForOthersAsLongAsItMay() throws Exception {
        start(Batching.DEFAULT.withImages(3).withDelayMicros(5_000_000), SchedulerTest::echo);
        for (int i = 0; i < 3; i++) {
            submit(new Answers());
        }
        assertTrue(scheduler.awaitAnswered(4_000), "the batch was full and was not computed");
        assertEquals(List.of(3), batches);
    }

    @Test
    void cancellingFreesThePlace() throws Exception {
        start(Batching.DEFAULT.withImages(1).withQueue(1), this::inTurn);
        submit(new Answers());
        awaitWaiting(0);
        Answers cancelled = new Answers();
        Submission.Accepted second = assertInstanceOf(Submission.Accepted.class, submit(cancelled));
        assertInstanceOf(Submission.Refused.class, submit(new Answers()));
        second.cancel();
        second.cancel();
        assertEquals(Reason.CANCELLED, reason(cancelled.one()));
        assertInstanceOf(Submission.Accepted.class, submit(new Answers()));
        turns.release(2);
        assertTrue(scheduler.awaitAnswered(10_000));
        assertEquals(0, cancelled.size());
        assertEquals(List.of(1, 1), batches, "the cancelled one was computed");
    }

    @Test
    void cancellingDuringComputationEndsAtTheNextStage() throws Exception {
        CountDownLatch inside = new CountDownLatch(1);
        start(Batching.DEFAULT, batch -> {
            inside.countDown();
            turns.acquireUninterruptibly();
            if (batch.getFirst().goesOn()) {
                echo(batch);
            }
        });
        Answers answers = new Answers();
        Submission.Accepted work = assertInstanceOf(Submission.Accepted.class, submit(answers));
        inside.await();
        work.cancel();
        assertEquals(0, answers.size());
        turns.release();
        assertEquals(Reason.CANCELLED, reason(answers.one()));
    }

    @Test
    void deadlinesAreLookedAtOnTheWayInAndOut() throws Exception {
        start(Batching.DEFAULT.withImages(1), this::inTurn);
        Submission late = scheduler.submit(request(BITSTREAM).withDeadline(System.nanoTime() - 1), new Answers());
        assertEquals(
                Reason.DEADLINE,
                assertInstanceOf(Submission.Refused.class, late).reason());
        submit(new Answers());
        awaitWaiting(0);
        Answers answers = new Answers();
        long soon = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(20);
        scheduler.submit(request(BITSTREAM).withDeadline(soon), answers);
        Thread.sleep(30);
        turns.release(1);
        assertEquals(Reason.DEADLINE, reason(answers.one()));
        assertEquals(List.of(1), batches, "a request whose deadline had passed was computed");
    }

    @Test
    void unknownModelsAreNamed() {
        start(Batching.DEFAULT, SchedulerTest::echo);
        Submission refused = scheduler.submit(request(BITSTREAM).withModel("n", null), new Answers());
        Submission.Refused refusal = assertInstanceOf(Submission.Refused.class, refused);
        assertEquals(Reason.UNKNOWN_MODEL, refusal.reason());
        assertEquals("model 'n' is not loaded; there are: m", refusal.message());
    }

    @Test
    void exceptionsAndForgottenWorkAreAnsweredToo() throws Exception {
        start(Batching.DEFAULT.withImages(1), batch -> {
            if (batches.size() == 1) {
                throw new IllegalArgumentException("a bug");
            }
        });
        for (int i = 0; i < 2; i++) {
            Answers answers = new Answers();
            submit(answers);
            assertEquals(Reason.INTERNAL, reason(answers.one()));
        }
    }

    @Test
    void drainingAnswersWhatWasAcceptedAndRefusesTheRest() throws Exception {
        start(Batching.DEFAULT.withImages(1), this::inTurn);
        Answers first = new Answers();
        Answers second = new Answers();
        submit(first);
        scheduler.submit(request(PHOTO), second);
        scheduler.drain();
        Submission refused = submit(new Answers());
        assertEquals(
                Reason.DRAINING,
                assertInstanceOf(Submission.Refused.class, refused).reason());
        turns.release(2);
        assertInstanceOf(Answer.Bitstream.class, first.one());
        assertInstanceOf(Answer.Bitstream.class, second.one());
        assertTrue(scheduler.awaitAnswered(10_000));
    }

    @Test
    void everyAcceptedRequestGetsExactlyOneAnswer() throws Exception {
        int count = 100_000;
        AtomicIntegerArray answered = new AtomicIntegerArray(count);
        AtomicIntegerArray accepted = new AtomicIntegerArray(count);
        AtomicLong results = new AtomicLong();
        start(Batching.DEFAULT.withQueue(500).withThreads(2).withPhotoThreads(2), SchedulerTest::echo);
        List<Thread> clients = new ArrayList<>();
        for (int c = 0; c < 4; c++) {
            int client = c;
            clients.add(Thread.ofPlatform().start(() -> {
                var random = new java.util.Random(client);
                for (int id = client; id < count; id += 4) {
                    int number = id;
                    Submission submission =
                            scheduler.submit(request(random.nextInt(8) == 0 ? PHOTO : BITSTREAM), (answer, timing) -> {
                                answered.incrementAndGet(number);
                                if (answer instanceof Answer.Bitstream) {
                                    results.incrementAndGet();
                                }
                                answer.release();
                            });
                    if (submission instanceof Submission.Accepted work) {
                        accepted.set(number, 1);
                        if (random.nextInt(4) == 0) {
                            work.cancel();
                        }
                    }
                }
            }));
        }
        for (Thread client : clients) {
            client.join();
        }
        assertTrue(scheduler.awaitAnswered(20_000));
        for (int id = 0; id < count; id++) {
            assertEquals(accepted.get(id), answered.get(id), "answers of request " + id);
        }
        assertTrue(results.get() > 0);
        assertEquals(0, scheduler.waiting());
        scheduler.close();
        models.close();
        assertTrue(!model.use(), "a request kept its model");
    }

    @Test
    void photosAreDecodedAsTheyAreUsed() throws Exception {
        AtomicInteger decoded = new AtomicInteger();
        // 2,700 bytes of pixels from a body of a few: the queue's bytes hold one of them.
        Batching batching = Batching.DEFAULT.withImages(1).withPhotoThreads(2).withQueueBytes(2000);
        scheduler = new Scheduler(models, batching, Limits.DEFAULT, metrics, new Compute() {
            @Override
            public void prepare(Work work) {
                decoded.incrementAndGet();
                work.photo(Photo.of(30, 30, new byte[2700]));
            }

            @Override
            public void compute(List<Work> batch) {
                inTurn(batch);
            }
        });
        List<Answers> answers = new ArrayList<>();
        for (int i = 0; i < 8; i++) {
            answers.add(new Answers());
            assertInstanceOf(Submission.Accepted.class, scheduler.submit(request(PHOTO), answers.get(i)));
        }
        Thread.sleep(300);
        assertTrue(decoded.get() >= 1 && decoded.get() <= 2, decoded + " photos are in memory");
        turns.release(8);
        for (Answers each : answers) {
            assertInstanceOf(Answer.Bitstream.class, each.one());
        }
        assertEquals(8, decoded.get());
    }
}

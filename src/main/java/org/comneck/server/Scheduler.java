package org.comneck.server;

import io.netty.buffer.ByteBuf;
import io.netty.util.concurrent.DefaultThreadFactory;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.Iterator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import org.comneck.ComneckException;
import org.comneck.engine.Photo;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A bounded queue, the batches that are taken from it, and the threads that compute them.
 *
 * <p>{@link #submit} accepts or refuses at once and never waits for computation. What it accepts gets exactly one answer: the result, a
 * failure, or {@link Reason#CANCELLED}. Bodies that are photos pass through a thread that decodes them first, and wait in the same bounded
 * queue. Deadlines and cancellations are looked at when a request leaves the queue and between stages.
 */
public final class Scheduler implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Scheduler.class);
    private static final int HEAD_BYTES = 12;
    private static final int RETRY_SECONDS = 1;

    private final Models models;
    private final Batching batching;
    private final Limits limits;
    private final Metrics metrics;
    private final Compute compute;
    private final List<Thread> threads = new ArrayList<>();

    private final ReentrantLock lock = new ReentrantLock();
    // Each for those who can use what has changed: a request of one kind must not wake the threads that wait for the
    // other.
    private final Condition photosChanged = lock.newCondition();
    private final Condition readyChanged = lock.newCondition();
    private final Condition idle = lock.newCondition();
    // All guarded by lock.
    private final LinkedHashSet<Work> photos = new LinkedHashSet<>();
    private final LinkedHashSet<Work> ready = new LinkedHashSet<>();
    private int waiting; // in photos, in the hands of a photo thread, or in ready
    private long waitingBytes;
    private long photoBytes; // of pixels that were decoded and whose requests have no answer
    private int open; // accepted and not answered
    private boolean draining;
    private boolean closed;

    private final Metrics.Histogram queueSeconds;
    private final Metrics.Histogram photoSeconds;
    private final Metrics.Histogram computeSeconds;
    private final Metrics.Histogram requestSeconds;
    private final Metrics.Histogram batchSizes;
    private final Metrics.Counter accepted;
    private final Metrics.Counter bodyBytes;
    private final Metrics.Counter answerBytes;
    private final Map<Reason, Metrics.Counter> refusals = new EnumMap<>(Reason.class);
    private final Map<Reason, Metrics.Counter> failures = new EnumMap<>(Reason.class);
    private final Map<TokenRequest.Kind, Metrics.Counter> results = new EnumMap<>(TokenRequest.Kind.class);

    /** @param compute what is done with batches */
    Scheduler(Models models, Batching batching, Limits limits, Metrics metrics, Compute compute) {
        this.models = models;
        this.batching = batching;
        this.limits = limits;
        this.metrics = metrics;
        this.compute = compute;
        String stages = "Time that requests spend in each stage.";
        queueSeconds = metrics.seconds("comneck_stage_seconds", stages, "stage", "queue");
        photoSeconds = metrics.seconds("comneck_stage_seconds", stages, "stage", "photo");
        computeSeconds = metrics.seconds("comneck_stage_seconds", stages, "stage", "compute");
        requestSeconds = metrics.seconds("comneck_request_seconds", "Time from a request's submission to its answer.");
        batchSizes = metrics.histogram("comneck_batch_requests", "Requests in a batch.", Metrics.BATCH);
        accepted = metrics.counter("comneck_requests_accepted_total", "Requests that were accepted.");
        bodyBytes = metrics.counter("comneck_request_body_bytes_total", "Bytes of bodies of accepted requests.");
        answerBytes =
                metrics.counter("comneck_answer_bytes_total", "Bytes of tensors, bitstreams and pictures answered.");
        for (Reason reason : Reason.values()) {
            refusals.put(
                    reason,
                    metrics.counter(
                            "comneck_refusals_total", "Requests that were refused at once.", "reason", reason.label()));
            failures.put(
                    reason,
                    metrics.counter(
                            "comneck_failures_total",
                            "Accepted requests that were answered without a result.",
                            "reason",
                            reason.label()));
        }
        for (TokenRequest.Kind kind : TokenRequest.Kind.values()) {
            results.put(
                    kind,
                    metrics.counter(
                            "comneck_results_total",
                            "Requests that were answered with a result.",
                            "kind",
                            kind.name().toLowerCase(java.util.Locale.ROOT)));
        }
        metrics.gauge("comneck_queue_requests", "Requests that wait.", this::waiting);
        metrics.gauge("comneck_queue_bytes", "Bytes of bodies that wait.", this::waitingBytes);
        metrics.gauge("comneck_queue_capacity_requests", "Most requests that may wait.", batching::queue);
        metrics.gauge("comneck_requests_in_flight", "Requests accepted and not answered.", this::inFlight);
        start("comneck-photo", batching.photoThreads(), this::preparePhotos);
        start("comneck-compute", batching.threads(), this::computeBatches);
    }

    private void start(String name, int count, Runnable body) {
        ThreadFactory factory = new DefaultThreadFactory(name, true);
        for (int i = 0; i < count; i++) {
            Thread thread = factory.newThread(body);
            threads.add(thread);
            thread.start();
        }
    }

    /** Requests that wait to be computed. */
    public int waiting() {
        lock.lock();
        try {
            return waiting;
        } finally {
            lock.unlock();
        }
    }

    private long waitingBytes() {
        lock.lock();
        try {
            return waitingBytes;
        } finally {
            lock.unlock();
        }
    }

    /** Requests that were accepted and not answered yet. */
    public int inFlight() {
        lock.lock();
        try {
            return open;
        } finally {
            lock.unlock();
        }
    }

    /** The limits that bodies are held to. */
    public Limits limits() {
        return limits;
    }

    /**
     * Accepts or refuses a request at once.
     *
     * @param request its body is taken over, whatever becomes of it
     * @param responder called exactly once when the request is accepted, never when it is refused; possibly before this method returns
     */
    public Submission submit(TokenRequest request, Responder responder) {
        ByteBuf body = request.body();
        if (body.readableBytes() > limits.bodyBytes()) {
            return refuse(
                    request,
                    Reason.TOO_LARGE,
                    "a body of " + body.readableBytes() + " bytes is more than the limit of " + limits.bodyBytes());
        }
        if (request.late()) {
            return refuse(request, Reason.DEADLINE, "the deadline has passed");
        }
        Model model = models.use(request.model(), request.version());
        if (model == null) {
            return refuse(request, Reason.UNKNOWN_MODEL, models.unknown(request.model(), request.version()));
        }
        Work work = new Work(this, request, responder, model);
        Reason refusal = enqueue(work);
        if (refusal != null) {
            models.release(model);
            return refuse(
                    request,
                    refusal,
                    refusal == Reason.DRAINING
                            ? "the server is about to stop"
                            : "the queue is full (" + batching.queue() + " requests or " + batching.queueBytes()
                                    + " bytes): come back later");
        }
        return work;
    }

    private Reason enqueue(Work work) {
        boolean photo = isPhoto(work.request().body());
        lock.lock();
        try {
            if (draining || closed) {
                return Reason.DRAINING;
            }
            if (waiting >= batching.queue() || waiting > 0 && waitingBytes + work.bytes() > batching.queueBytes()) {
                return Reason.QUEUE_FULL;
            }
            accepted.add(1);
            bodyBytes.add(work.bytes());
            waiting++;
            waitingBytes += work.bytes();
            open++;
            (photo ? photos : ready).add(work);
            (photo ? photosChanged : readyChanged).signalAll();
            return null;
        } finally {
            lock.unlock();
        }
    }

    private static boolean isPhoto(ByteBuf body) {
        byte[] head = new byte[Math.min(HEAD_BYTES, body.readableBytes())];
        body.getBytes(body.readerIndex(), head);
        return Photo.formatOf(head) != null;
    }

    private Submission.Refused refuse(TokenRequest request, Reason reason, String message) {
        request.body().release();
        countRefusal(reason);
        LOG.debug("{} refused: {}", request.id(), reason);
        return new Submission.Refused(reason, message, reason.retryable() ? RETRY_SECONDS : 0);
    }

    /** Counts a request that a connection refused before it came here. */
    void countRefusal(Reason reason) {
        refusals.get(reason).add(1);
    }

    /** Requests that were answered with a result. */
    long results() {
        return results.values().stream().mapToLong(Metrics.Counter::value).sum();
    }

    /** Requests that were refused at once. */
    long refusals() {
        return refusals.values().stream().mapToLong(Metrics.Counter::value).sum();
    }

    // ---------------------------------------------------------------- threads

    private void preparePhotos() {
        for (Work work = takePhoto(); work != null; work = takePhoto()) {
            long start = System.nanoTime();
            boolean goesOn = false;
            try {
                if (work.goesOn()) {
                    compute.prepare(work);
                    decoded(work);
                    goesOn = work.goesOn();
                }
            } catch (Throwable e) {
                fail(work, e);
            }
            photoSeconds.recordNanos(System.nanoTime() - start);
            if (goesOn) {
                putReady(work);
            } else {
                left(work);
            }
        }
    }

    private Work takePhoto() {
        lock.lock();
        try {
            // Pixels take a hundred times the room of the body that the queue has counted: they are decoded as they are
            // used.
            while ((photos.isEmpty() || photoBytes >= batching.queueBytes()) && !closed) {
                photosChanged.awaitUninterruptibly();
            }
            if (photos.isEmpty()) {
                return null;
            }
            Iterator<Work> first = photos.iterator();
            Work work = first.next();
            first.remove();
            return work;
        } finally {
            lock.unlock();
        }
    }

    private void decoded(Work work) {
        lock.lock();
        try {
            photoBytes += work.photoBytes();
        } finally {
            lock.unlock();
        }
    }

    private void putReady(Work work) {
        lock.lock();
        try {
            ready.add(work);
            readyChanged.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** It no longer takes a place in the queue. */
    private void left(Work work) {
        lock.lock();
        try {
            waiting--;
            waitingBytes -= work.bytes();
            readyChanged.signalAll(); // when the scheduler closes it was perhaps the last
        } finally {
            lock.unlock();
        }
    }

    private void computeBatches() {
        for (List<Work> batch = takeBatch(); batch != null; batch = takeBatch()) {
            for (Work work : batch) {
                work.start();
                queueSeconds.recordNanos(System.nanoTime() - work.submitted());
            }
            List<Work> wanted = batch.stream().filter(Work::goesOn).toList();
            if (wanted.isEmpty()) {
                continue;
            }
            batchSizes.record(wanted.size());
            wanted.getFirst().model().statistics().executed();
            long start = System.nanoTime();
            try {
                compute.compute(wanted);
                for (Work work : wanted) {
                    if (!work.isAnswered()) {
                        fail(work, new IllegalStateException("a computation without a result"));
                    }
                }
            } catch (Throwable e) {
                for (Work work : wanted) {
                    fail(work, e);
                }
            }
            computeSeconds.recordNanos(System.nanoTime() - start);
        }
    }

    /** The oldest request and those that can be computed with it, or null when the scheduler is closed. */
    private List<Work> takeBatch() {
        lock.lock();
        try {
            while (true) {
                if (ready.isEmpty()) {
                    if (closed && waiting == 0) {
                        return null;
                    }
                    readyChanged.awaitUninterruptibly();
                    continue;
                }
                Work oldest = ready.getFirst();
                long left =
                        oldest.submitted() + TimeUnit.MICROSECONDS.toNanos(batching.delayMicros()) - System.nanoTime();
                if (left > 0 && ready.size() < batching.images() && !closed) {
                    try {
                        readyChanged.awaitNanos(left);
                    } catch (InterruptedException e) {
                        Thread.currentThread().interrupt();
                        return null;
                    }
                    continue;
                }
                List<Work> batch = new ArrayList<>();
                for (Iterator<Work> works = ready.iterator(); works.hasNext() && batch.size() < batching.images(); ) {
                    Work work = works.next();
                    if (work.model() == oldest.model()
                            && work.request().kind() == oldest.request().kind()) {
                        works.remove();
                        waiting--;
                        waitingBytes -= work.bytes();
                        batch.add(work);
                    }
                }
                return batch;
            }
        } finally {
            lock.unlock();
        }
    }

    /** The failure that an exception of a stage means. */
    static void fail(Work work, Throwable error) {
        switch (error) {
            case org.comneck.DamagedDataException damaged ->
                work.fail(Reason.DAMAGED, damaged.getMessage(), damaged.offset());
            case org.comneck.UsageException usage -> work.fail(Reason.BAD_REQUEST, usage.getMessage());
            case OutOfMemoryError memory -> {
                LOG.error("{}: out of memory", work.request().id(), memory);
                work.fail(Reason.TOO_LARGE, "not enough memory for this request");
            }
            default -> {
                if (!work.isAnswered()) {
                    LOG.error("{}: internal error", work.request().id(), error);
                }
                String kind = error instanceof ComneckException
                        ? ""
                        : " (" + error.getClass().getSimpleName() + ")";
                work.fail(
                        Reason.INTERNAL,
                        "internal error" + kind + ", see the server's log for "
                                + work.request().id());
            }
        }
    }

    // ---------------------------------------------------------------- ends of requests

    void cancel(Work work) {
        lock.lock();
        try {
            if (!photos.remove(work) && !ready.remove(work)) {
                return; // a thread has it: it looks between stages
            }
            waiting--;
            waitingBytes -= work.bytes();
        } finally {
            lock.unlock();
        }
        work.fail(Reason.CANCELLED, "cancelled");
    }

    /** The one answer of a request was chosen. */
    void answered(Work work, Answer answer, long photo) {
        models.release(work.model());
        if (photo > 0) {
            lock.lock();
            try {
                photoBytes -= photo;
                photosChanged.signalAll();
            } finally {
                lock.unlock();
            }
        }
        switch (answer) {
            case Answer.Failure failure -> failures.get(failure.reason()).add(1);
            case Answer.Tokens tokens -> answerBytes.add(tokens.data().readableBytes());
            case Answer.Bitstream bitstream -> answerBytes.add(bitstream.data().readableBytes());
            case Answer.Picture picture -> answerBytes.add(picture.png().readableBytes());
            case Answer.Classes classes -> {}
        }
        if (!(answer instanceof Answer.Failure)) {
            results.get(work.request().kind()).add(1);
        }
    }

    void deliver(Responder responder, Answer answer, Responder.Timing timing) {
        requestSeconds.recordNanos(timing.total());
        try {
            responder.answer(answer, timing);
        } catch (Throwable e) {
            LOG.error("an answer was not delivered", e);
        } finally {
            lock.lock();
            try {
                if (--open == 0) {
                    idle.signalAll();
                }
            } finally {
                lock.unlock();
            }
        }
    }

    /** From now on every request is refused with {@link Reason#DRAINING}; what was accepted is answered. */
    public void drain() {
        lock.lock();
        try {
            draining = true;
        } finally {
            lock.unlock();
        }
    }

    /** Waits until every accepted request was answered; false when the time was too short. */
    boolean awaitAnswered(long millis) throws InterruptedException {
        long left = TimeUnit.MILLISECONDS.toNanos(millis);
        lock.lock();
        try {
            while (open > 0) {
                if (left <= 0) {
                    return false;
                }
                left = idle.awaitNanos(left);
            }
            return true;
        } finally {
            lock.unlock();
        }
    }

    /** Answers what waits with {@link Reason#DRAINING} and ends the threads. Idempotent. */
    @Override
    public void close() {
        List<Work> left;
        lock.lock();
        try {
            draining = true;
            left = new ArrayList<>(photos);
            left.addAll(ready);
            photos.clear();
            ready.clear();
            for (Work work : left) {
                waiting--;
                waitingBytes -= work.bytes();
            }
            closed = true;
            photosChanged.signalAll();
            readyChanged.signalAll();
        } finally {
            lock.unlock();
        }
        for (Work work : left) {
            work.fail(Reason.DRAINING, "the server is about to stop");
        }
        for (Thread thread : threads) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return;
            }
        }
    }
}

package org.comneck.server;

import java.util.concurrent.atomic.AtomicBoolean;
import org.comneck.engine.Photo;

/**
 * An accepted request on its way. The first answer is the one that counts; body and model are given back with it.
 *
 * <p>Once a thread of the scheduler has taken it, only that thread answers it, so that no body goes away under a computation.
 */
final class Work implements Submission.Accepted {
    private final Scheduler scheduler;
    private final TokenRequest request;
    private final Responder responder;
    private final Model model;
    private final int bytes;
    private final long submitted = System.nanoTime();
    private final AtomicBoolean answered = new AtomicBoolean();
    private volatile boolean cancelled;
    private volatile long started;
    private volatile Photo photo;

    Work(Scheduler scheduler, TokenRequest request, Responder responder, Model model) {
        this.scheduler = scheduler;
        this.request = request;
        this.responder = responder;
        this.model = model;
        this.bytes = request.body().readableBytes();
    }

    TokenRequest request() {
        return request;
    }

    Model model() {
        return model;
    }

    /** Bytes of the body. */
    int bytes() {
        return bytes;
    }

    long submitted() {
        return submitted;
    }

    /** The body's pixels, once they were decoded, or null. */
    Photo photo() {
        return photo;
    }

    void photo(Photo decoded) {
        photo = decoded;
    }

    /** Bytes of the pixels that it holds, 0 without. */
    long photoBytes() {
        Photo decoded = photo;
        return decoded == null ? 0 : 3L * decoded.width() * decoded.height();
    }

    /** It left the queue. */
    void start() {
        started = System.nanoTime();
    }

    boolean isAnswered() {
        return answered.get();
    }

    /** Between stages: whether somebody still wants the answer. If not, it has been answered. */
    boolean goesOn() {
        if (answered.get()) {
            return false;
        }
        if (cancelled) {
            fail(Reason.CANCELLED, "cancelled");
            return false;
        }
        if (request.late()) {
            fail(Reason.DEADLINE, "the deadline passed before the answer was there");
            return false;
        }
        return true;
    }

    void fail(Reason reason, String message) {
        fail(reason, message, -1);
    }

    /** @param offset byte of the body where damage was found, or -1 */
    void fail(Reason reason, String message, long offset) {
        answer(new Answer.Failure(reason, message, offset));
    }

    /** Answers; an answer that comes too late is released. */
    void answer(Answer answer) {
        if (!answered.compareAndSet(false, true)) {
            answer.release();
            return;
        }
        request.body().release();
        long photoBytes = photoBytes();
        photo = null;
        long now = System.nanoTime();
        long begun = started == 0 ? now : started;
        Responder.Timing timing = new Responder.Timing(begun - submitted, now - submitted);
        model.statistics().answered(!(answer instanceof Answer.Failure), timing);
        scheduler.answered(this, answer, photoBytes);
        scheduler.deliver(responder, answer, timing);
    }

    @Override
    public void cancel() {
        cancelled = true;
        scheduler.cancel(this);
    }
}

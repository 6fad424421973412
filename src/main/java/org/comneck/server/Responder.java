package org.comneck.server;

/** Takes the one answer of an accepted request. */
@FunctionalInterface
public interface Responder {
    /**
     * Called exactly once for an accepted request, on a thread of the scheduler, or on the one that cancels. Must not block; owns the
     * answer's buffers.
     *
     * @param timing how long it took
     */
    void answer(Answer answer, Timing timing);

    /**
     * Where the time went, in nanoseconds.
     *
     * @param queued from submission to the first computation
     * @param total from submission to the answer
     */
    record Timing(long queued, long total) {}
}

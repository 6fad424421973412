package org.comneck.server;

/** What became of a request at {@link Scheduler#submit}: accepted or refused. */
public sealed interface Submission {
    /** Accepted: there will be one answer. */
    non-sealed interface Accepted extends Submission {
        /**
         * The client went away. A request that still waits frees its place and is answered with {@link Reason#CANCELLED} before this method
         * returns; one that is being computed ends at its next stage. Idempotent; does nothing when it was answered.
         */
        void cancel();
    }

    /**
     * Refused: nothing was computed, and the responder is never called.
     *
     * @param message says what to do; safe to show to the client
     * @param retryAfterSeconds when to come back, 0 when that would not help
     */
    record Refused(Reason reason, String message, int retryAfterSeconds) implements Submission {}
}

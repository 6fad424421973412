package org.comneck;

/**
 * A GPU failed after it was opened. What was computed on it is lost; the same work succeeds on another backend. An engine that was opened
 * with backend {@code auto} does so by itself.
 */
public final class DeviceException extends InternalException {
    /** What happened. */
    public enum Cause {
        /** Its memory, or pinned memory of the host, is exhausted. */
        OUT_OF_MEMORY,
        /** A kernel was refused or aborted. The process's context on the device is of no use any more. */
        LAUNCH_FAILED,
        /** It does not answer any more. */
        LOST
    }

    private static final long serialVersionUID = 1L;
    private final Cause cause;

    public DeviceException(Cause cause, String message) {
        super(message);
        this.cause = cause;
    }

    /** What happened. */
    public Cause what() {
        return cause;
    }
}

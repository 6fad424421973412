package org.comneck.client;

import org.comneck.wire.Reason;

/** A request that got no tokens. */
public final class RequestException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final Reason reason;
    private final long offset;
    private final boolean begun;

    RequestException(Reason reason, String message, long offset, boolean begun, Throwable cause) {
        super(message, cause);
        this.reason = reason;
        this.offset = offset;
        this.begun = begun;
    }

    /** Why, or null when the connection was lost or could not be made. */
    public Reason reason() {
        return reason;
    }

    /** Byte of the bitstream where damage was found, or -1. */
    public long offset() {
        return offset;
    }

    /** False when the server has certainly computed nothing. */
    public boolean begun() {
        return begun;
    }
}

package org.comneck.wire;

/** Why a request was refused, why it failed, or why a connection ends. */
public enum Reason {
    // Refusals: nothing was begun, and the same request may do better later.
    /** The queue is full. */
    QUEUE_FULL(1),
    /** The server is about to stop. */
    DRAINING(2),
    /** The model is known and is not loaded. */
    MODEL_UNAVAILABLE(3),
    /** Too much at a time from this client: the bodies that are on their way take all the memory they may. */
    TOO_MANY(4),
    /** Answers of this connection wait because it does not read them. */
    SLOW_READER(5),

    // Errors: the request failed, or cannot succeed as it is.
    /** A bitstream or a photo that is not what it claims to be. */
    DAMAGED_DATA(16),
    /** The frame's checksum does not hold: something on the way damaged it. */
    DAMAGED_FRAME(17),
    /** Options that are not possible: the text says which are. */
    USAGE(18),
    /** Another model's bitstream. */
    OTHER_MODEL(19),
    /** Larger than a limit that the server's hello names. */
    TOO_LARGE(20),
    /** No such model. */
    UNKNOWN_MODEL(21),
    /** The deadline has passed. */
    DEADLINE(22),
    /** It was cancelled. */
    CANCELLED(23),
    /** A bug of the server. */
    INTERNAL(24),

    // Ends of connections.
    /** The peer broke the protocol. */
    PROTOCOL(32),
    /** No version in common. */
    VERSION(33),
    /** The token is missing or wrong. */
    UNAUTHORIZED(34),
    /** Nothing was asked for a long time, or a frame did not end. */
    IDLE(35),
    /** Too many connections. */
    CONNECTIONS(36);

    private final int code;

    Reason(int code) {
        this.code = code;
    }

    /** Its number in frames. */
    public int code() {
        return code;
    }

    /** True when nothing was begun: the same request may be sent again, here or elsewhere. */
    public boolean isRefusal() {
        return code < 16;
    }

    /** The reason of a number, or null when there is none. */
    static Reason of(int code) {
        for (Reason reason : values()) {
            if (reason.code == code) {
                return reason;
            }
        }
        return null;
    }
}

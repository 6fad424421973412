package org.comneck.wire;

/** Kinds of frames. The names say who sends them where only one side does. */
public enum FrameType {
    /** First frame of either side: versions, limits, models. */
    HELLO(1),
    /** Client: a bitstream that wants to be tokens. */
    REQUEST(2),
    /** Client: the answer to a request is not needed any more. */
    CANCEL(3),
    /** Server: tokens. Final. */
    ANSWER(4),
    /** Server: nothing was begun, the same request may be sent again. Final. */
    REFUSAL(5),
    /** Server: the request failed. Final. */
    ERROR(6),
    /** Server: more requests may be sent. */
    CREDIT(7),
    /** Either: are you there? */
    PING(8),
    /** Either: yes. */
    PONG(9),
    /** Either: no new requests on this connection, and why. */
    GOAWAY(10);

    private static final FrameType[] BY_CODE = values();

    private final int code;

    FrameType(int code) {
        this.code = code;
    }

    /** Byte 5 of a frame. */
    public int code() {
        return code;
    }

    /** The type of a code, or null when there is none. */
    static FrameType of(int code) {
        return code >= 1 && code <= BY_CODE.length ? BY_CODE[code - 1] : null;
    }

    /** True when a frame of this type may end a request. */
    public boolean isFinal() {
        return this == ANSWER || this == REFUSAL || this == ERROR;
    }
}

package org.comneck.server;

import java.util.Locale;

/** Why a request got no result. Every transport has its own number for each; the names are the same everywhere, metrics included. */
public enum Reason {
    /** The queue is full: come back later. */
    QUEUE_FULL(503),
    /** The server is about to stop. */
    DRAINING(503),
    /** The model is known and is not loaded. */
    MODEL_UNAVAILABLE(503),
    /** The deadline passed before the result was there. */
    DEADLINE(504),
    /** The client went away or took its request back. */
    CANCELLED(499),
    /** A page of another site sent it. */
    FORBIDDEN(403),
    /** No such model or version. */
    UNKNOWN_MODEL(404),
    /** No such address. */
    NOT_FOUND(404),
    /** No such method at this address. */
    METHOD_NOT_ALLOWED(405),
    /** No answer in a form that the client takes. */
    NOT_ACCEPTABLE(406),
    /** Too slow in sending the request. */
    TIMEOUT(408),
    /** More bytes, pixels or images than the limits allow. */
    TOO_LARGE(413),
    /** The request line or the headers are too long. */
    HEADERS_TOO_LARGE(431),
    /** Wrong options: the message says which are right. */
    BAD_REQUEST(400),
    /** The bitstream is another model's. */
    OTHER_MODEL(409),
    /** Not what it claims to be: a damaged bitstream or photo. */
    DAMAGED(422),
    /** No or wrong credentials. */
    UNAUTHORIZED(401),
    /** Too many connections or requests of one connection. */
    TOO_MANY(429),
    /** A bug of ours. */
    INTERNAL(500);

    private final int status;

    Reason(int status) {
        this.status = status;
    }

    /** The HTTP status. */
    public int status() {
        return status;
    }

    /** {@code queue_full}: in errors and metrics. */
    public String label() {
        return name().toLowerCase(Locale.ROOT);
    }

    /** True when the same request may do better later: nothing was computed for it. */
    public boolean retryable() {
        return this == QUEUE_FULL || this == DRAINING || this == MODEL_UNAVAILABLE || this == TOO_MANY;
    }
}

package org.comneck.server;

import io.netty.buffer.ByteBuf;
import org.comneck.engine.EncodeOptions;

/**
 * One request, whatever transport it came by.
 *
 * @param kind what is to be computed
 * @param id the client's or one of ours: in log lines and answers
 * @param traceparent W3C trace context as it came, or null
 * @param model name, or null for the server's default model
 * @param version or null for the highest
 * @param tokens for {@link Kind#TOKENS}
 * @param encode for photos
 * @param classes how many, for {@link Kind#CLASSIFY}
 * @param deadlineNanos {@link System#nanoTime} after which the answer is of no use, or {@link #NO_DEADLINE}
 * @param body a bitstream or a photo; one reference belongs to the request
 */
public record TokenRequest(
        Kind kind,
        String id,
        String traceparent,
        String model,
        String version,
        TokenChoice tokens,
        EncodeOptions encode,
        int classes,
        long deadlineNanos,
        ByteBuf body) {
    /** Wait for ever. */
    public static final long NO_DEADLINE = Long.MAX_VALUE;

    /** What is to be computed. */
    public enum Kind {
        /** Bitstream or photo to {@link Answer.Tokens}. */
        TOKENS,
        /** Photo to {@link Answer.Bitstream}. */
        ENCODE,
        /** Bitstream or photo to {@link Answer.Picture}. */
        DECODE,
        /** Bitstream or photo to {@link Answer.Classes}. */
        CLASSIFY
    }

    /** Tokens of a body with everything else left to the server. */
    public static TokenRequest tokens(String id, TokenChoice choice, ByteBuf body) {
        return new TokenRequest(Kind.TOKENS, id, null, null, null, choice, EncodeOptions.DEFAULT, 0, NO_DEADLINE, body);
    }

    public TokenRequest withModel(String name, String number) {
        return new TokenRequest(kind, id, traceparent, name, number, tokens, encode, classes, deadlineNanos, body);
    }

    public TokenRequest withDeadline(long nanoTime) {
        return new TokenRequest(kind, id, traceparent, model, version, tokens, encode, classes, nanoTime, body);
    }

    /** True when the deadline has passed. */
    boolean late() {
        return deadlineNanos != NO_DEADLINE && System.nanoTime() - deadlineNanos >= 0;
    }
}

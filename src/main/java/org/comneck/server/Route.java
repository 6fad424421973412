package org.comneck.server;

import io.netty.handler.codec.http.HttpMethod;

/**
 * What one method of one address does.
 *
 * @param method of the request
 * @param bodyBytes longest body; what is longer is refused before it is read
 * @param open true when no token is asked for: health
 * @param handler called on the event loop with the whole request
 */
record Route(HttpMethod method, long bodyBytes, boolean open, Handler handler) {
    /** Answers a request, now or later, exactly once. Must not block. */
    @FunctionalInterface
    interface Handler {
        void handle(HttpCall call);
    }

    /** Longest body where none is needed. */
    private static final long NO_BODY = 1 << 16;

    static Route get(Handler handler) {
        return new Route(HttpMethod.GET, NO_BODY, false, handler);
    }

    static Route openGet(Handler handler) {
        return new Route(HttpMethod.GET, NO_BODY, true, handler);
    }

    static Route post(long bodyBytes, Handler handler) {
        return new Route(HttpMethod.POST, bodyBytes, false, handler);
    }
}

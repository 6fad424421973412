package org.comneck.server;

import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.QueryStringDecoder;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import org.comneck.UsageException;

/** Which address is whose. */
final class HttpRoutes {
    private static final int MAX_SEGMENTS = 16;

    private final Core core;
    private final List<Api> apis;
    private final ConcurrentHashMap<Integer, Metrics.Counter> responses = new ConcurrentHashMap<>();

    /** A group of addresses. */
    interface Api {
        /**
         * What there is at an address: one route for each method; empty when it is not this group's.
         *
         * @param segments of the path, decoded; {@code /v2/models} has two, {@code /} has none
         */
        List<Route> at(List<String> segments);
    }

    HttpRoutes(Core core) {
        this.core = core;
        this.apis = List.of(new TokensApi(core), new InferenceApi(core), new Pages(core));
    }

    /** Counts an answer. */
    void count(int status) {
        responses
                .computeIfAbsent(
                        status,
                        key -> core.metrics()
                                .counter(
                                        "comneck_http_responses_total",
                                        "Answers by HTTP status.",
                                        "code",
                                        Integer.toString(key)))
                .add(1);
    }

    /**
     * The route of a request, before its body comes.
     *
     * @return null when the request has been answered: there is none, or it may not
     * @throws UsageException when the address is malformed
     */
    Route find(HttpCall call, HttpMethod method) {
        List<String> segments = segments(call.path());
        List<Route> routes = List.of();
        for (Api api : apis) {
            routes = api.at(segments);
            if (!routes.isEmpty()) {
                break;
            }
        }
        if (routes.isEmpty()) {
            call.reject(Reason.NOT_FOUND, "nothing is at " + HttpCall.shown(call.path()));
            return null;
        }
        for (Route route : routes) {
            if (route.method().equals(method)) {
                return mayPass(call, route) ? route : null;
            }
        }
        call.reject(
                Reason.METHOD_NOT_ALLOWED,
                HttpCall.shown(call.path()) + " takes "
                        + String.join(
                                " and ",
                                routes.stream()
                                        .map(route -> route.method().name())
                                        .toList()));
        return null;
    }

    /** Whether the client may; if not, it has been told. */
    private boolean mayPass(HttpCall call, Route route) {
        if (!route.open()
                && core.tokens() != null
                && !core.tokens().allows(call.headers().get("authorization"))) {
            call.reject(Reason.UNAUTHORIZED, "a token is needed: Authorization: Bearer ...");
            return false;
        }
        // A page of another site must not use a visitor's browser to reach a server on the visitor's machine.
        String origin = call.headers().get("origin");
        String host = call.headers().get("host");
        if (origin != null && !(origin.equals("http://" + host) || origin.equals("https://" + host))) {
            call.reject(Reason.FORBIDDEN, "requests from pages of other sites are not taken");
            return false;
        }
        if (route.method().equals(HttpMethod.POST) && core.readersStall()) {
            call.reject(Reason.QUEUE_FULL, "too many answers wait to be read: come back later");
            return false;
        }
        return true;
    }

    private static List<String> segments(String path) {
        if (!path.startsWith("/")) {
            throw new UsageException("the address must begin with /");
        }
        String[] parts = path.substring(1).split("/", MAX_SEGMENTS + 1);
        if (parts.length > MAX_SEGMENTS) {
            throw new UsageException("the address has too many parts");
        }
        try {
            return Arrays.stream(parts)
                    .map(part -> QueryStringDecoder.decodeComponent(part.replace("+", "%2B")))
                    .toList()
                    .subList(0, parts[parts.length - 1].isEmpty() ? parts.length - 1 : parts.length);
        } catch (IllegalArgumentException e) {
            throw new UsageException("the address is malformed: " + e.getMessage(), e);
        }
    }
}

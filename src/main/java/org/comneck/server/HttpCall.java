package org.comneck.server;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.QueryStringDecoder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BiConsumer;
import java.util.regex.Pattern;
import org.comneck.UsageException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.spi.LoggingEventBuilder;

/** One HTTP request and its one answer, whichever version of HTTP it came by. Answered from any thread; only the first answer counts. */
final class HttpCall {
    static final JsonMapper JSON = new JsonMapper();

    private static final Logger LOG = LoggerFactory.getLogger("org.comneck.server.http");
    private static final Pattern ID = Pattern.compile("[A-Za-z0-9._:-]{1,64}");
    private static final Pattern TRACEPARENT = Pattern.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}");
    private static final long RUN = ThreadLocalRandom.current().nextLong() >>> 24;
    private static final AtomicLong NUMBER = new AtomicLong();
    private static final int MAX_PARAMETERS = 64;

    /** Where an answer goes. */
    interface Exchange {
        /** Sends the answer; owns its body. Called once, on any thread. */
        void send(HttpCall call, int status, String type, ByteBuf body, Map<String, String> headers);
    }

    private final Core core;
    private final Exchange exchange;
    private final HttpRequest head;
    private final String path;
    private final String id;
    private final String traceparent; // or null
    private final long begun = System.nanoTime();
    private final AtomicBoolean answered = new AtomicBoolean();
    private Map<String, List<String>> parameters; // decoded when first asked for
    private ByteBuf body = Unpooled.EMPTY_BUFFER;
    private volatile Submission.Accepted accepted;
    private volatile boolean gone;

    HttpCall(Core core, HttpRequest head, Exchange exchange) {
        this.core = core;
        this.exchange = exchange;
        this.head = head;
        int query = head.uri().indexOf('?');
        this.path = query < 0 ? head.uri() : head.uri().substring(0, query);
        String given = head.headers().get("x-request-id");
        this.id = given != null && ID.matcher(given).matches() ? given : newId();
        String trace = head.headers().get("traceparent");
        this.traceparent = trace != null && TRACEPARENT.matcher(trace).matches() ? trace : null;
    }

    static String newId() {
        return Long.toHexString(RUN) + "-" + NUMBER.incrementAndGet();
    }

    Core core() {
        return core;
    }

    /** Undecoded, without the query. */
    String path() {
        return path;
    }

    String method() {
        return head.method().name();
    }

    HttpHeaders headers() {
        return head.headers();
    }

    String id() {
        return id;
    }

    String traceparent() {
        return traceparent;
    }

    long begunNanos() {
        return begun;
    }

    // ---------------------------------------------------------------- body

    void body(ByteBuf whole) {
        body = whole;
    }

    /** The body, still the call's. */
    ByteBuf body() {
        return body;
    }

    /** The body, now the caller's. */
    ByteBuf takeBody() {
        ByteBuf taken = body;
        body = Unpooled.EMPTY_BUFFER;
        return taken;
    }

    // ---------------------------------------------------------------- parameters

    /**
     * The value of a query parameter, or null.
     *
     * @throws UsageException when it is there twice, or the query is malformed
     */
    String parameter(String name) {
        if (parameters == null) {
            try {
                parameters =
                        new QueryStringDecoder(head.uri(), StandardCharsets.UTF_8, true, MAX_PARAMETERS).parameters();
            } catch (IllegalArgumentException e) {
                throw new UsageException("the query is malformed: " + e.getMessage(), e);
            }
        }
        List<String> values = parameters.get(name);
        if (values == null) {
            return null;
        }
        if (values.size() > 1) {
            throw new UsageException("parameter '" + name + "' is there twice");
        }
        return values.getFirst();
    }

    /** Names of all query parameters that are not among these. */
    void onlyParameters(List<String> known) {
        parameter("");
        for (String name : parameters.keySet()) {
            if (!known.contains(name)) {
                throw new UsageException(
                        "parameter '" + shown(name) + "' is not known; known are " + String.join(", ", known));
            }
        }
    }

    static String shown(String text) {
        String printable = text.replaceAll("[^ -~]", "?");
        return printable.length() > 64 ? printable.substring(0, 64) + "..." : printable;
    }

    // ---------------------------------------------------------------- computing

    /** Hands a request to the scheduler; what it answers without result is answered here. */
    void submit(TokenRequest request, BiConsumer<Answer, Responder.Timing> result) {
        Submission submission = core.scheduler().submit(request, (answer, timing) -> {
            if (answer instanceof Answer.Failure failure) {
                refuse(failure.reason(), failure.message(), failure.reason().retryable() ? 1 : 0, failure.offset());
                return;
            }
            if (gone) {
                answer.release();
                return;
            }
            result.accept(answer, timing);
        });
        switch (submission) {
            case Submission.Accepted work -> {
                accepted = work;
                if (gone) {
                    work.cancel();
                }
            }
            case Submission.Refused refused ->
                refuse(refused.reason(), refused.message(), refused.retryAfterSeconds(), -1);
        }
    }

    /** The client went away. */
    void gone() {
        gone = true;
        body.release();
        body = Unpooled.EMPTY_BUFFER;
        Submission.Accepted work = accepted;
        if (work != null) {
            work.cancel();
        }
    }

    // ---------------------------------------------------------------- answering

    /** A refusal or failure as typed JSON. Counted as a refusal when nothing was submitted. */
    void fail(Reason reason, String message) {
        refuse(reason, message, reason.retryable() ? 1 : 0, -1);
    }

    /** {@link #fail}, counted as a refusal: the request never came to the scheduler. */
    void reject(Reason reason, String message) {
        core.scheduler().countRefusal(reason);
        fail(reason, message);
    }

    /** A bug of ours. */
    void internal(Throwable error) {
        LOG.error("{}: internal error", id, error);
        fail(Reason.INTERNAL, "internal error, see the server's log for " + id);
    }

    /** @param offset byte of the body where damage was found, or -1 */
    private void refuse(Reason reason, String message, int retryAfterSeconds, long offset) {
        ObjectNode json = JSON.createObjectNode();
        if (path.startsWith("/v2")) {
            json.put("error", message); // what the Open Inference Protocol says
        } else {
            ObjectNode error = json.putObject("error")
                    .put("type", reason.label())
                    .put("message", message)
                    .put("request_id", id);
            if (offset >= 0) {
                error.put("offset", offset);
            }
        }
        Map<String, String> headers = new LinkedHashMap<>();
        headers.put("x-comneck-error", reason.label());
        if (offset >= 0) {
            headers.put("x-comneck-offset", Long.toString(offset));
        }
        if (retryAfterSeconds > 0) {
            headers.put("retry-after", Integer.toString(retryAfterSeconds));
        }
        if (reason == Reason.UNAUTHORIZED) {
            headers.put("www-authenticate", "Bearer");
        }
        send(
                reason.status(),
                "application/json",
                Unpooled.copiedBuffer(json.toString(), StandardCharsets.UTF_8),
                headers);
    }

    void json(JsonNode json) {
        send(200, "application/json", Unpooled.copiedBuffer(json.toString(), StandardCharsets.UTF_8), Map.of());
    }

    void text(int status, String type, String text) {
        send(status, type, Unpooled.copiedBuffer(text, StandardCharsets.UTF_8), Map.of());
    }

    /** Answers, if nobody has; owns the body. */
    void send(int status, String type, ByteBuf content, Map<String, String> headers) {
        if (!answered.compareAndSet(false, true)) {
            content.release();
            return;
        }
        log(status, content.readableBytes());
        exchange.send(this, status, type, content, headers);
    }

    private void log(int status, int bytes) {
        LoggingEventBuilder line = status >= 500 && status != 503 ? LOG.atWarn() : LOG.atDebug();
        if (line != org.slf4j.spi.NOPLoggingEventBuilder.singleton()) {
            line = line.addKeyValue("request_id", id)
                    .addKeyValue("method", method())
                    .addKeyValue("path", shown(path))
                    .addKeyValue("status", status)
                    .addKeyValue("bytes", bytes)
                    .addKeyValue("micros", (System.nanoTime() - begun) / 1000);
            if (traceparent != null) {
                line = line.addKeyValue("traceparent", traceparent);
            }
            line.log("request");
        }
    }
}

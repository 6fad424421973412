package org.comneck.client;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import org.comneck.tensor.Tensor;
import org.comneck.wire.Message;
import org.comneck.wire.Reason;
import org.comneck.wire.RequestOptions;

/**
 * Asks a server for tokens.
 *
 * <pre>{@code
 * try (ComneckClient client = ComneckClient.connect("localhost", 8081)) {
 *     Tensor tokens = client.tokens(Files.readAllBytes(Path.of("photo.cnk"))).join().values(); // F16 [tokens, D]
 * }
 * }</pre>
 *
 * <p>Thread-safe. Requests run at the same time, over as many connections as it takes and the options allow; answers come in any order. A
 * future that is cancelled takes its request back. What a future ends with: {@link Tokens}, a {@link RequestException} that says why there
 * are none, or {@link java.util.concurrent.CancellationException}.
 *
 * <p>Completions run on a connection's reading thread: what takes long belongs into {@code thenApplyAsync}.
 */
public final class ComneckClient implements AutoCloseable {
    private static final long LEAST_PAUSE_MILLIS = 20;

    private final ClientOptions options;
    private final Connection.Owner events = new Events();
    private final ScheduledThreadPoolExecutor timer;

    // Guarded by this.
    private final List<Connection> connections = new ArrayList<>();
    private final Deque<Exchange> waiting = new ArrayDeque<>();
    private final Map<Exchange, Boolean> pausing = new HashMap<>(); // before another attempt; whether one was begun
    private int opening;
    private boolean closed;

    private ComneckClient(ClientOptions options) {
        this.options = options;
        this.timer = new ScheduledThreadPoolExecutor(
                1, Thread.ofPlatform().name("comneck-client-timer").daemon().factory());
        timer.setRemoveOnCancelPolicy(true);
    }

    /** {@link #open} with {@link ClientOptions#of}. */
    public static ComneckClient connect(String host, int port) {
        return open(ClientOptions.of(host, port));
    }

    /** A client; connections are made when they are needed. */
    public static ComneckClient open(ClientOptions options) {
        return new ComneckClient(options);
    }

    /** Tokens as the model's manifest says, F16, whenever they are ready. */
    public CompletableFuture<Tokens> tokens(byte[] bitstream) {
        return tokens(ByteBuffer.wrap(bitstream), RequestOptions.DEFAULT, null, null);
    }

    /** {@link #tokens(ByteBuffer, RequestOptions, Duration, String)} without a trace. */
    public CompletableFuture<Tokens> tokens(byte[] bitstream, RequestOptions wanted, Duration deadline) {
        return tokens(ByteBuffer.wrap(bitstream), wanted, deadline, null);
    }

    /**
     * Asks for the tokens of a bitstream (docs/format.md) or a photo.
     *
     * @param bitstream not copied: unchanged until the future is done
     * @param wanted which tokens
     * @param deadline from now, after which the answer is of no use; null for none
     * @param traceParent W3C trace context, or null
     */
    public CompletableFuture<Tokens> tokens(
            ByteBuffer bitstream, RequestOptions wanted, Duration deadline, String traceParent) {
        long end = deadline == null ? Exchange.NEVER : System.nanoTime() + deadline.toNanos();
        Exchange exchange = new Exchange(bitstream.slice(), wanted, traceParent, end);
        if (deadline != null) {
            try {
                exchange.timer(timer.schedule(
                        () -> {
                            fail(exchange, Reason.DEADLINE, "no answer within " + deadline, true, null);
                            exchange.abandon();
                        },
                        deadline.toNanos(),
                        TimeUnit.NANOSECONDS));
            } catch (RejectedExecutionException e) {
                fail(exchange, null, "the client is closed", false, e);
                return exchange;
            }
        }
        submit(exchange);
        return exchange;
    }

    /** The models that the server had when a connection was last made: connects where none is open. */
    public List<Message.Model> models() throws IOException {
        Connection connection;
        synchronized (this) {
            connection = connections.isEmpty() ? null : connections.getLast();
        }
        if (connection == null) {
            connection = new Connection(options, events);
            add(connection);
        }
        return connection.hello().models();
    }

    // ---------------------------------------------------------------- requests

    private void submit(Exchange exchange) {
        if (!exchange.mayTry(options.retries().attempts())) {
            fail(exchange, null, "no attempt is left", false, null);
            return;
        }
        synchronized (this) {
            if (closed) {
                fail(exchange, null, "the client is closed", false, null);
                return;
            }
            if (waiting.size() >= options.maxWaiting() && !anyCredit()) {
                fail(exchange, Reason.QUEUE_FULL, waiting.size() + " requests wait in this client", false, null);
                return;
            }
            waiting.addLast(exchange);
        }
        dispatch();
    }

    private boolean anyCredit() {
        return connections.stream().anyMatch(connection -> connection.credits() > 0);
    }

    /** Sends what waits, as far as credits go, and opens a connection where they do not. */
    private void dispatch() {
        while (true) {
            Exchange exchange;
            Connection connection;
            synchronized (this) {
                exchange = waiting.peekFirst();
                if (exchange == null) {
                    return;
                }
                connection = freest();
                if (connection == null) {
                    if (connections.size() + opening < options.connections() && !closed) {
                        opening++;
                        Thread.ofVirtual().name("comneck-client-connect").start(this::open);
                    }
                    return;
                }
                waiting.removeFirst();
            }
            if (!exchange.isDone() && !connection.send(exchange)) {
                synchronized (this) {
                    waiting.addFirst(exchange);
                }
            }
        }
    }

    private Connection freest() {
        Connection best = null;
        int most = 0;
        for (Connection connection : connections) {
            int credits = connection.credits();
            if (credits > most) {
                most = credits;
                best = connection;
            }
        }
        return best;
    }

    private void open() {
        Connection connection;
        try {
            connection = new Connection(options, events);
        } catch (IOException | RuntimeException e) {
            List<Exchange> hopeless = new ArrayList<>();
            synchronized (this) {
                opening--;
                if (connections.isEmpty() && opening == 0) {
                    hopeless.addAll(waiting);
                    waiting.clear();
                }
            }
            Reason reason = e instanceof RequestException refused ? refused.reason() : null;
            for (Exchange exchange : hopeless) {
                again(
                        exchange,
                        100,
                        reason,
                        "no connection to " + options.host() + ":" + options.port() + ": " + e.getMessage(),
                        false,
                        e);
            }
            return;
        }
        synchronized (this) {
            opening--;
        }
        add(connection);
        dispatch();
    }

    private void add(Connection connection) {
        synchronized (this) {
            if (!closed) {
                connections.add(connection);
                connection.start();
                return;
            }
        }
        connection.lose(new IOException("the client is closed"));
    }

    /** Sends a request again after a pause, or fails it when it has had its attempts. */
    private void again(
            Exchange exchange, long pauseMillis, Reason reason, String message, boolean begun, Throwable cause) {
        // Not all at the same moment.
        long pause = (long) (pauseMillis * (0.5 + ThreadLocalRandom.current().nextDouble()));
        synchronized (this) {
            if (!closed
                    && exchange.leftMillis() > pause
                    && exchange.tries() < options.retries().attempts()) {
                pausing.put(exchange, begun);
                timer.schedule(() -> resume(exchange), pause, TimeUnit.MILLISECONDS);
                return;
            }
        }
        fail(exchange, reason, message, begun, cause);
    }

    /** Requests that wait for another attempt. */
    synchronized int pausing() {
        return pausing.size();
    }

    private void resume(Exchange exchange) {
        synchronized (this) {
            if (pausing.remove(exchange) == null) {
                return; // the client was closed
            }
        }
        submit(exchange);
    }

    private static void fail(Exchange exchange, Reason reason, String message, boolean begun, Throwable cause) {
        exchange.completeExceptionally(new RequestException(reason, message, -1, begun, cause));
    }

    private final class Events implements Connection.Owner {
        @Override
        public void changed() {
            dispatch();
        }

        @Override
        public void ended(Exchange exchange, Message message) {
            switch (message) {
                case Message.Answer answer ->
                    exchange.complete(new Tokens(
                            new Tensor(
                                    answer.type(),
                                    answer.shape(),
                                    MemorySegment.ofBuffer(answer.tokens().getFirst())),
                            answer.layer(),
                            answer.identity(),
                            Duration.ofNanos(1000 * answer.queueMicros()),
                            Duration.ofNanos(1000 * answer.totalMicros())));
                case Message.Refusal refusal ->
                    again(
                            exchange,
                            Math.max(refusal.retryAfterMillis(), LEAST_PAUSE_MILLIS),
                            refusal.reason(),
                            refusal.text(),
                            false,
                            null);
                case Message.Failure failure ->
                    exchange.completeExceptionally(
                            new RequestException(failure.reason(), failure.text(), failure.offset(), true, null));
                default -> throw new IllegalStateException(message.toString());
            }
        }

        @Override
        public void lost(Connection connection, List<Exchange> unsent, List<Exchange> unanswered, Exception why) {
            synchronized (ComneckClient.this) {
                connections.remove(connection);
            }
            String message =
                    "the connection to " + options.host() + ":" + options.port() + " was lost: " + why.getMessage();
            for (Exchange exchange : unsent) {
                again(exchange, LEAST_PAUSE_MILLIS, null, message, false, why);
            }
            for (Exchange exchange : unanswered) {
                if (options.retries().unanswered()) {
                    again(exchange, LEAST_PAUSE_MILLIS, null, message, true, why);
                } else {
                    fail(exchange, null, message, true, why);
                }
            }
            dispatch();
        }
    }

    /** Ends all connections; requests without an answer fail. Idempotent. */
    @Override
    public void close() {
        List<Connection> open;
        List<Exchange> never;
        Map<Exchange, Boolean> pauses;
        synchronized (this) {
            closed = true;
            open = List.copyOf(connections);
            never = List.copyOf(waiting);
            waiting.clear();
            pauses = Map.copyOf(pausing);
            pausing.clear();
        }
        IOException why = new IOException("the client is closed");
        pauses.forEach((exchange, begun) -> fail(exchange, null, why.getMessage(), begun, why));
        never.forEach(exchange -> fail(exchange, null, why.getMessage(), false, why));
        open.forEach(connection -> connection.lose(why));
        timer.shutdownNow();
    }
}

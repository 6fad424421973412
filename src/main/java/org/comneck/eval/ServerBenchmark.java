package org.comneck.eval;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.SynchronizedHistogram;
import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.bitstream.Container;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.engine.PreparedTokens;
import org.comneck.engine.TokenOptions;
import org.comneck.tensor.ElementType;
import org.comneck.wire.Message;
import org.comneck.wire.RequestOptions;

/**
 * What a server, as a process of its own, adds to a call in this process: latency of one request at a time, throughput at saturation, memory
 * of idle connections, and a soak above saturation. benchmarks/README.md defines every column.
 *
 * <p>Load that comes at a rate is timed from the moment when a request was due, not from when it was sent: a server that stalls does not
 * thereby measure fewer requests.
 */
public final class ServerBenchmark {
    private static final long LONGEST_MICROS = TimeUnit.MINUTES.toMicros(10);
    private static final int BATCH = 8;
    private static final int CONNECTIONS = 4;
    private static final int UNDER_WAY = 8; // of each
    private static final int WARM_UP = 400;
    private static final int SOAK_PARTS = 20;

    private final EngineOptions options;
    private final Path photo;
    private final Consumer<Map<String, Object>> results;

    /**
     * Benchmarks of the embedded model.
     *
     * @param options of both engines, the server's and the one in this process
     * @param photo a picture
     * @param results takes one line for each measurement
     */
    public ServerBenchmark(EngineOptions options, Path photo, Consumer<Map<String, Object>> results) {
        this.options = options;
        this.photo = photo;
        this.results = results;
    }

    /**
     * Runs measurements.
     *
     * @param parts of {@code latency}, {@code throughput}, {@code idle}, {@code soak}
     * @param requests at a time of its own each, for latency
     * @param seconds of each turn of throughput
     * @param soakSeconds of the soak
     * @param connections that idle
     */
    public void run(Set<String> parts, int requests, double seconds, double soakSeconds, int connections) {
        List<String> flags = List.of(
                "--threads",
                "" + options.threads(),
                "--backend",
                options.backend(),
                "--cuda-libraries",
                "" + options.cudaLibraries());
        try (NativeEngine engine = NativeEngine.openDefault(options)) {
            byte[] bitstream = engine.encode(Photo.read(photo));
            TokenOptions tokens = engine.defaultTokens();
            try (ServerProcess server = new ServerProcess(flags)) {
                if (parts.contains("latency")) {
                    latency(server, engine, bitstream, tokens, requests);
                }
                double rate = 0;
                if (parts.contains("throughput") || parts.contains("soak")) {
                    rate = throughput(server, engine, bitstream, tokens, seconds);
                }
                if (parts.contains("soak")) {
                    soak(server, bitstream, 1.2 * rate, soakSeconds);
                }
                if (!server.stop()) {
                    throw new InternalException("the server did not end well", null);
                }
            }
            if (parts.contains("idle")) {
                try (ServerProcess server = new ServerProcess(flags)) {
                    idle(server, bitstream, connections);
                }
            }
        } catch (IOException e) {
            throw new UsageException("the connection to the server failed: " + e.getMessage(), e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static Histogram histogram() {
        return new Histogram(LONGEST_MICROS * 1000, 3);
    }

    private static byte[] request(long id, byte[] bitstream, ElementType type) {
        return new Message.Request(id, 0, RequestOptions.DEFAULT.withType(type), null, ByteBuffer.wrap(bitstream))
                .toFrame()
                .toByteArray();
    }

    // ---------------------------------------------------------------- latency

    /**
     * In turns: a call, a request over TCP, one over HTTP; all give the same f32 tokens, which is checked. Then a frame that a thread of the
     * server's answers at once, after a call in this process as before the request: what the machine takes to wake a thread of each that has
     * slept for as long as a picture takes.
     */
    private void latency(ServerProcess server, NativeEngine engine, byte[] bitstream, TokenOptions tokens, int requests)
            throws IOException {
        Histogram[] times = {histogram(), histogram(), histogram(), histogram()};
        byte[] frame = request(1, bitstream, ElementType.F32);
        byte[] ping = new Message.Ping(1).toFrame().toByteArray();
        byte[] expected = engine.tokens(bitstream, tokens).data().toArray(java.lang.foreign.ValueLayout.JAVA_BYTE);
        try (Line tcp = new Line(server.tcpPort());
                Line http = new Line(server.httpPort())) {
            tcp.hello();
            for (int i = -Math.min(WARM_UP, requests); i < requests; i++) {
                long start = System.nanoTime();
                engine.tokens(bitstream, tokens);
                long called = System.nanoTime();
                tcp.send(frame);
                Message message = tcp.receive();
                long received = System.nanoTime();
                byte[] posted = http.post("/v1/tokens?dtype=f32", bitstream);
                long end = System.nanoTime();
                engine.tokens(bitstream, tokens);
                long pinged = System.nanoTime();
                tcp.send(ping);
                if (!(tcp.receive() instanceof Message.Pong)) {
                    throw new InternalException("the server does not answer a ping", null);
                }
                long ponged = System.nanoTime();
                if (i == -1 || i == requests - 1) {
                    check(expected, message, posted);
                }
                if (i >= 0) {
                    times[0].recordValue(called - start);
                    times[1].recordValue(received - called);
                    times[2].recordValue(end - received);
                    times[3].recordValue(ponged - pinged);
                }
            }
        }
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("measure", "latency");
        line.put("requests", requests);
        String[] names = {"call", "tcp", "http"};
        for (double percentile : new double[] {50, 99}) {
            for (int i = 0; i < 3; i++) {
                long micros = times[i].getValueAtPercentile(percentile) / 1000;
                line.put(names[i] + "_p" + (int) percentile + "_us", micros);
                if (i > 0) {
                    line.put(
                            names[i] + "_added_p" + (int) percentile + "_us",
                            micros - times[0].getValueAtPercentile(percentile) / 1000);
                }
            }
            line.put("ping_p" + (int) percentile + "_us", times[3].getValueAtPercentile(percentile) / 1000);
        }
        results.accept(line);
    }

    private static void check(byte[] expected, Message message, byte[] posted) {
        if (!(message instanceof Message.Answer answer)
                || !answer.tokens().getFirst().equals(ByteBuffer.wrap(expected))
                || !java.util.Arrays.equals(expected, posted)) {
            throw new InternalException("the server's tokens are not those of the engine", null);
        }
    }

    // ---------------------------------------------------------------- throughput

    /** In turns, three of each: batches in this process, and as many requests under way as keep the server busy. */
    private double throughput(
            ServerProcess server, NativeEngine engine, byte[] bitstream, TokenOptions tokens, double seconds)
            throws IOException, InterruptedException {
        List<Double> calls = new ArrayList<>();
        List<Double> tcp = new ArrayList<>();
        List<Double> http = new ArrayList<>();
        Tally tally = new Tally();
        for (int turn = -1; turn < 3; turn++) { // the first warms up
            double here = batches(engine, bitstream, tokens, seconds);
            double there = load(server, bitstream, Double.POSITIVE_INFINITY, seconds, tally, UNDER_WAY);
            double posted = posts(server, bitstream, seconds, tally);
            if (turn >= 0) {
                calls.add(here);
                tcp.add(there);
                http.add(posted);
            }
        }
        double here = median(calls);
        double there = median(tcp);
        double posted = median(http);
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("measure", "throughput");
        line.put("batch", BATCH);
        line.put("call_per_s", rounded(here));
        line.put("tcp_per_s", rounded(there));
        line.put("http_per_s", rounded(posted));
        line.put("tcp_ratio", Math.round(there / here * 1000) / 1000.0);
        line.put("http_ratio", Math.round(posted / here * 1000) / 1000.0);
        tally.counts(line);
        results.accept(line);
        return there;
    }

    private static double median(List<Double> values) {
        return values.stream().sorted().toList().get(values.size() / 2);
    }

    /** As many requests under way as {@link #load} keeps, each on a connection of HTTP/1.1 of its own. Returns answers a second. */
    private static double posts(ServerProcess server, byte[] bitstream, double seconds, Tally tally)
            throws IOException, InterruptedException {
        long before = tally.answers.getTotalCount();
        long start = System.nanoTime();
        long end = start + (long) (seconds * 1e9);
        inParallel(CONNECTIONS * UNDER_WAY, tally, () -> {
            try (Line line = new Line(server.httpPort())) {
                while (System.nanoTime() < end) {
                    long due = System.nanoTime();
                    tally.sent.incrementAndGet();
                    line.post("/v1/tokens?dtype=f16", bitstream);
                    tally.answers.recordValue(System.nanoTime() - due);
                }
            }
        });
        return (tally.answers.getTotalCount() - before) * 1e9 / (System.nanoTime() - start);
    }

    /** What each connection of some load does. */
    private interface Loop {
        void run() throws IOException, InterruptedException;
    }

    private static void inParallel(int connections, Tally tally, Loop loop) throws IOException, InterruptedException {
        List<Thread> threads = new ArrayList<>();
        for (int c = 0; c < connections; c++) {
            threads.add(Thread.ofPlatform().start(() -> {
                try {
                    loop.run();
                } catch (IOException | InterruptedException | RuntimeException e) {
                    tally.trouble.compareAndSet(null, e);
                }
            }));
        }
        for (Thread thread : threads) {
            thread.join();
        }
        if (tally.trouble.get() != null) {
            throw new IOException(tally.trouble.get().getMessage(), tally.trouble.get());
        }
    }

    private static double rounded(double value) {
        return Math.round(value * 10) / 10.0;
    }

    private static double batches(NativeEngine engine, byte[] bitstream, TokenOptions tokens, double seconds) {
        Container container = engine.read(bitstream);
        int width = container.image(0).paddedWidth();
        int height = container.image(0).paddedHeight();
        try (PreparedTokens run = engine.prepareTokens(BATCH, width, height, tokens)) {
            long start = System.nanoTime();
            long end = start + (long) (seconds * 1e9);
            long images = 0;
            while (System.nanoTime() < end) {
                for (int b = 0; b < BATCH; b++) {
                    run.set(b, container.image(0));
                }
                run.execute();
                images += BATCH;
            }
            return images * 1e9 / (System.nanoTime() - start);
        }
    }

    /** What load saw. Latencies in nanoseconds: of answers from when they were due, of refusals from when they were sent. */
    private static final class Tally {
        private final Histogram answers = new SynchronizedHistogram(LONGEST_MICROS * 1000, 3);
        private final Histogram refusals = new SynchronizedHistogram(LONGEST_MICROS * 1000, 3);
        private final AtomicLong sent = new AtomicLong();
        private final AtomicLong failed = new AtomicLong();
        private final AtomicLong doubled = new AtomicLong();
        private final AtomicLong lost = new AtomicLong();
        private final AtomicReference<Exception> trouble = new AtomicReference<>();

        /** Every request that was sent is in one of the others, but for those that ended twice. */
        private void counts(Map<String, Object> line) {
            line.put("sent", sent.get());
            line.put("answered", answers.getTotalCount());
            line.put("refused", refusals.getTotalCount());
            line.put("failed", failed.get());
            line.put("doubled", doubled.get());
            line.put("lost", lost.get());
        }
    }

    private record Due(long due, long sent) {}

    /**
     * Sends requests at a rate, or as fast as they are answered.
     *
     * @param rate a second, or infinite
     * @param underWay most requests of a connection under way; the server's credits may be fewer
     * @return answers a second
     */
    private static double load(
            ServerProcess server, byte[] bitstream, double rate, double seconds, Tally tally, int underWay)
            throws IOException, InterruptedException {
        AtomicLong next = new AtomicLong();
        long before = tally.answers.getTotalCount();
        long start = System.nanoTime();
        long end = start + (long) (seconds * 1e9);
        inParallel(CONNECTIONS, tally, () -> connection(server, bitstream, rate, start, end, next, tally, underWay));
        return (tally.answers.getTotalCount() - before) * 1e9 / (System.nanoTime() - start);
    }

    private static void connection(
            ServerProcess server,
            byte[] bitstream,
            double rate,
            long start,
            long end,
            AtomicLong next,
            Tally tally,
            int underWay)
            throws IOException, InterruptedException {
        Map<Long, Due> open = new ConcurrentHashMap<>();
        try (Line line = new Line(server.tcpPort())) {
            Semaphore credits = new Semaphore(Math.min(underWay, line.hello().credits()));
            int all = credits.availablePermits();
            Thread reader = Thread.ofPlatform().start(() -> {
                try {
                    while (true) {
                        take(line.receive(), open, tally);
                        credits.release();
                    }
                } catch (IOException | RuntimeException e) {
                    // the end, or what the sender will notice as answers that are missing
                }
            });
            for (long id = 1; ; id++) {
                long due = Double.isInfinite(rate)
                        ? System.nanoTime()
                        : start + (long) (next.getAndIncrement() * 1e9 / rate);
                if (due > end || System.nanoTime() > end) {
                    break;
                }
                for (long wait = due - System.nanoTime(); wait > 0; wait = due - System.nanoTime()) {
                    LockSupport.parkNanos(wait);
                }
                credits.acquire();
                open.put(id, new Due(due, System.nanoTime()));
                tally.sent.incrementAndGet();
                line.send(request(id, bitstream, ElementType.F16));
            }
            if (!credits.tryAcquire(all, 60, TimeUnit.SECONDS)) {
                tally.lost.addAndGet(open.size());
            }
            line.stop();
            reader.join();
        }
    }

    private static void take(Message message, Map<Long, Due> open, Tally tally) {
        long now = System.nanoTime();
        switch (message) {
            case Message.Answer answer -> {
                Due due = open.remove(answer.id());
                if (due == null) {
                    tally.doubled.incrementAndGet();
                } else {
                    tally.answers.recordValue(Math.max(0, now - due.due));
                }
            }
            case Message.Refusal refusal -> {
                Due due = open.remove(refusal.id());
                if (due == null) {
                    tally.doubled.incrementAndGet();
                } else {
                    tally.refusals.recordValue(Math.max(0, now - due.sent));
                }
            }
            case Message.Failure failure -> {
                open.remove(failure.id());
                tally.failed.incrementAndGet();
            }
            default -> throw new InternalException("an unexpected frame: " + message, null);
        }
    }

    // ---------------------------------------------------------------- soak and idle

    /** More than the server can do, for long: the queue is full all the time. */
    private void soak(ServerProcess server, byte[] bitstream, double rate, double seconds)
            throws IOException, InterruptedException {
        load(server, bitstream, rate, Math.min(20, seconds), new Tally(), Integer.MAX_VALUE);
        List<Long> resident = new ArrayList<>(List.of(server.residentBytes()));
        Tally tally = new Tally();
        double served;
        try (ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor()) {
            long each = Math.max(1, (long) (seconds * 1000 / SOAK_PARTS));
            clock.scheduleAtFixedRate(() -> resident.add(server.residentBytes()), each, each, TimeUnit.MILLISECONDS);
            served = load(server, bitstream, rate, seconds, tally, Integer.MAX_VALUE);
            clock.shutdownNow();
        }
        resident.add(server.residentBytes());
        // Compilers and heap come to rest within minutes; what grows after that goes on growing.
        long before = resident.get(resident.size() / 4);
        long after = resident.getLast();
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("measure", "soak");
        line.put("seconds", seconds);
        line.put("asked_per_s", rounded(rate));
        line.put("answered_per_s", rounded(served));
        tally.counts(line);
        line.put("answer_p50_ms", tally.answers.getValueAtPercentile(50) / 1e6);
        line.put("answer_p99_ms", tally.answers.getValueAtPercentile(99) / 1e6);
        line.put("refusal_p99_ms", tally.refusals.getValueAtPercentile(99) / 1e6);
        line.put("resident_mib", resident.stream().map(bytes -> bytes >> 20).toList());
        line.put("grown_mib", rounded((after - before) / 1048576.0));
        results.accept(line);
    }

    /** Connections that said hello and then nothing, after the server has been in use. */
    private void idle(ServerProcess server, byte[] bitstream, int connections)
            throws IOException, InterruptedException {
        load(server, bitstream, Double.POSITIVE_INFINITY, 5, new Tally(), UNDER_WAY);
        Thread.sleep(500);
        long before = server.residentBytes();
        List<Line> lines = new ArrayList<>();
        try {
            for (int i = 0; i < connections; i++) {
                Line line = new Line(server.tcpPort());
                lines.add(line);
                line.hello();
            }
            Thread.sleep(500);
            long after = server.residentBytes();
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("measure", "idle");
            line.put("connections", connections);
            line.put("resident_before_mib", before >> 20);
            line.put("added_mib", rounded((after - before) / 1048576.0));
            line.put("added_mib_for_2000", rounded(2000.0 * (after - before) / connections / 1048576));
            line.put("bytes_a_connection", (after - before) / connections);
            results.accept(line);
        } finally {
            for (Line line : lines) {
                line.close();
            }
        }
    }
}

package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.comneck.UsageException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** How the HTTP port behaves: limits, overload, slow and vanishing clients, stopping. Real sockets, no arithmetic. */
@ExtendWith(LeakCheck.class)
class HttpServingTest {
    private static final String TOKENS = "/v1/tokens";

    private ComneckServer server;
    private StubCompute compute;

    private void start(StubCompute stub, Batching batching, Limits limits) {
        compute = stub;
        ServerOptions options = ServerOptions.DEFAULT
                .withPorts(0, -1)
                .withBatching(batching)
                .withLimits(limits)
                .withDrain(new ServerOptions.Drain(0, 10_000));
        server = ComneckServer.start(options, Models.of(new Model("m", "1", null)), new Metrics(), stub);
    }

    private RawHttp connect() throws IOException {
        return new RawHttp(server.httpPort());
    }

    @AfterEach
    void stop() {
        if (server != null) {
            compute.letGo();
            server.close();
        }
    }

    private String metric(String line) {
        return server.metrics()
                .text()
                .lines()
                .filter(each -> each.startsWith(line + " "))
                .findFirst()
                .orElse("nothing")
                .substring(line.length() + 1);
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void await(String what, Condition condition) throws Exception {
        for (int i = 0; i < 4000; i++) {
            if (condition.holds()) {
                return;
            }
            Thread.sleep(5);
        }
        Assertions.fail("never: " + what);
    }

    @Test
    void requestsOfOneConnectionAreAnsweredInOrder() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT);
        try (RawHttp client = connect()) {
            StringBuilder all = new StringBuilder();
            for (int i = 0; i < 100; i++) {
                all.append(RawHttp.post(TOKENS, "X-Request-Id: id-" + i + "\r\n", "body" + i));
            }
            CompletableFuture<Void> sent = CompletableFuture.runAsync(() -> {
                try {
                    client.send(all.toString());
                } catch (IOException e) {
                    throw new java.io.UncheckedIOException(e);
                }
            });
            for (int i = 0; i < 100; i++) {
                RawHttp.Response response = client.response();
                assertEquals(200, response.status());
                assertEquals("body" + i, response.text());
                assertEquals("id-" + i, response.headers().get("x-request-id"));
            }
            sent.get();
        }
    }

    @Test
    void whatIsSentAheadIsBounded() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT);
        String health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
        try (RawHttp client = connect()) {
            for (int round = 0; round < 20; round++) {
                client.send(health.repeat(100));
                for (int i = 0; i < 100; i++) {
                    assertEquals(200, client.response().status());
                }
            }
        }
    }

    @Test
    void aRequestMayComeByteByByte() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT);
        try (RawHttp client = connect()) {
            String chunked = "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + "3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n";
            for (byte b : chunked.getBytes(StandardCharsets.ISO_8859_1)) {
                client.send(new byte[] {b});
            }
            assertEquals("abcdefgh", client.response().text());
        }
    }

    @Test
    void aFullQueueIsToldAtOnce() throws Exception {
        start(StubCompute.held(), Batching.DEFAULT.withImages(1).withQueue(1), Limits.DEFAULT);
        try (RawHttp first = connect();
                RawHttp second = connect();
                RawHttp third = connect()) {
            first.send(RawHttp.post(TOKENS, "", "aa"));
            await("the first is computed", () -> compute.batches.get() == 1);
            second.send(RawHttp.post(TOKENS, "", "bb"));
            await("the second waits", () -> metric("comneck_queue_requests").equals("1"));
            RawHttp.Response refused =
                    third.send(RawHttp.post(TOKENS, "", "cc")).response();
            assertEquals(503, refused.status());
            assertEquals("1", refused.headers().get("retry-after"));
            assertTrue(refused.text().contains("\"type\":\"queue_full\""), refused.text());
            compute.turns.release(3);
            assertEquals("aa", first.response().text());
            assertEquals("bb", second.response().text());
            assertEquals(
                    "cc", third.send(RawHttp.post(TOKENS, "", "cc")).response().text());
        }
        assertEquals("1", metric("comneck_refusals_total{reason=\"queue_full\"}"));
    }

    @Test
    void aClientThatGoesAwayFreesItsPlace() throws Exception {
        start(StubCompute.held(), Batching.DEFAULT.withImages(1).withQueue(1), Limits.DEFAULT);
        try (RawHttp first = connect()) {
            first.send(RawHttp.post(TOKENS, "", "aa"));
            await("the first is computed", () -> compute.batches.get() == 1);
            try (RawHttp second = connect()) {
                second.send(RawHttp.post(TOKENS, "", "bb"));
                await("the second waits", () -> metric("comneck_queue_requests").equals("1"));
            }
            await("its place is free", () -> metric("comneck_queue_requests").equals("0"));
            // The place is free before the answer is counted.
            await(
                    "it is counted",
                    () -> metric("comneck_failures_total{reason=\"cancelled\"}").equals("1"));
            compute.turns.release(1);
            assertEquals("aa", first.response().text());
        }
    }

    @Test
    void deadlinesComeAsHeaderOrParameter() throws Exception {
        start(StubCompute.held(), Batching.DEFAULT.withImages(1), Limits.DEFAULT);
        try (RawHttp first = connect();
                RawHttp second = connect()) {
            first.send(RawHttp.post(TOKENS, "X-Comneck-Timeout-Ms: 50\r\n", "aa"));
            await("the first is computed", () -> compute.batches.get() == 1);
            second.send(RawHttp.post(TOKENS + "?timeout_ms=50", "", "bb"));
            Thread.sleep(60);
            compute.turns.release(2);
            assertEquals(504, first.response().status());
            assertEquals(504, second.response().status());
            assertEquals(1, compute.batches.get());
        }
    }

    @Test
    void lengthsAreCheckedBeforeMemoryIsTaken() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT.withBodyBytes(1000));
        for (String length : List.of("1001", "99999999999999", "-1", "x")) {
            try (RawHttp client = connect()) {
                client.send("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + "\r\n\r\n");
                RawHttp.Response response = client.response();
                assertEquals(length.length() > 2 ? 413 : 400, response.status(), length + " " + response.text());
                assertTrue(client.closed());
            }
        }
        try (RawHttp client = connect()) {
            client.send("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send("320\r\n" + "a".repeat(800) + "\r\n");
            client.send("320\r\n" + "a".repeat(800) + "\r\n");
            assertEquals(413, client.response().status());
        }
        try (RawHttp client = connect()) {
            client.send("GET /" + "a".repeat(20_000) + " HTTP/1.1\r\nHost: x\r\n\r\n");
            assertEquals(431, client.response().status());
        }
        try (RawHttp client = connect()) {
            client.send("GET /health HTTP/1.1\r\nHost: x\r\nX: " + "a".repeat(20_000) + "\r\n\r\n");
            assertEquals(431, client.response().status());
        }
        try (RawHttp client = connect()) {
            assertEquals(
                    "aa", client.send(RawHttp.post(TOKENS, "", "aa")).response().text());
        }
    }

    @Test
    void manyBodiesAtOnceAreBoundedToo() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT.withQueueBytes(3003), Limits.DEFAULT);
        List<RawHttp> clients = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            RawHttp client = connect();
            clients.add(client);
            client.send("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n" + "a".repeat(1000));
            int bytes = 1001 * (i + 1);
            await("received", () -> metric("comneck_receiving_bytes").equals(Integer.toString(bytes)));
        }
        try (RawHttp late = connect()) {
            assertEquals(
                    503, late.send(RawHttp.post(TOKENS, "", "aa")).response().status());
        }
        for (RawHttp client : clients) {
            assertEquals(1001, client.send("a").response().body().length);
            client.close();
        }
        assertEquals("0", metric("comneck_receiving_bytes"));
    }

    @Test
    void memoryForBodiesCountsAsItIsTaken() throws Exception {
        // A body of unknown length takes 64 KiB for its first byte.
        start(StubCompute.free(), Batching.DEFAULT.withQueueBytes(100_000), Limits.DEFAULT);
        String chunked = "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
        try (RawHttp first = connect();
                RawHttp second = connect()) {
            first.send(chunked);
            await("received", () -> metric("comneck_receiving_bytes").equals("65536"));
            assertEquals(503, second.send(chunked).response().status());
            assertEquals("aa", first.send("1\r\na\r\n0\r\n\r\n").response().text());
            await("given back", () -> metric("comneck_receiving_bytes").equals("0"));
        }
    }

    @Test
    void damageIsToldWithItsPlace() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT);
        try (RawHttp client = connect()) {
            RawHttp.Response damaged =
                    client.send(RawHttp.post(TOKENS, "", "Damaged")).response();
            assertEquals(422, damaged.status());
            assertEquals("7", damaged.headers().get("x-comneck-offset"));
            assertTrue(damaged.text().contains("\"offset\":7"), damaged.text());
            RawHttp.Response bug = client.send(RawHttp.post(TOKENS, "", "Bug")).response();
            assertEquals(500, bug.status());
            assertFalse(bug.text().contains("offset"), bug.text());
        }
    }

    @Test
    void withoutAModelEverythingIsNotFound() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT);
        server.models().unload("m");
        try (RawHttp client = connect()) {
            assertEquals(
                    404, client.send(RawHttp.post(TOKENS, "", "aa")).response().status());
        }
    }

    @Test
    void malformedRequestsGetATypedErrorAndHarmNobody() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT);
        try (RawHttp other = connect()) {
            other.send("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na");
            for (String bytes : List.of(
                    "\u0016\u0003\u0001 not HTTP\r\n\r\n",
                    "GET\r\n\r\n",
                    "GET / HTTP/1.1\r\nno colon\r\n\r\n",
                    "GET / HTTP/1.1\r\n bad: x\r\n\r\n",
                    "POST /v1/tokens HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
                    "POST /v1/tokens?layer=%zz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                    "POST /v1/tokens?nonsense=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                    "POST /v1/tokens?layer=1&layer=2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")) {
                try (RawHttp client = connect()) {
                    RawHttp.Response response = client.send(bytes).response();
                    assertEquals(400, response.status(), bytes);
                    assertTrue(response.text().contains("\"type\":\"bad_request\""), response.text());
                }
            }
            assertEquals("aa", other.send("a").response().text());
        }
        assertTrue(Integer.parseInt(metric("comneck_malformed_requests_total{port=\"http\"}")) >= 4);
    }

    @Test
    void refusalsThatNeedNoBodyKeepTheConnection() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT);
        try (RawHttp client = connect()) {
            assertEquals(
                    404,
                    client.send(RawHttp.post("/nowhere", "", "some body"))
                            .response()
                            .status());
            assertEquals(
                    405,
                    client.send("GET /v1/tokens HTTP/1.1\r\nHost: x\r\n\r\n")
                            .response()
                            .status());
            assertEquals(
                    406,
                    client.send(RawHttp.post(TOKENS, "Accept: text/html\r\n", "aa"))
                            .response()
                            .status());
            assertEquals(
                    404,
                    client.send(RawHttp.post(TOKENS + "?model=n", "", "aa"))
                            .response()
                            .status());
            assertEquals(
                    "aa", client.send(RawHttp.post(TOKENS, "", "aa")).response().text());
        }
    }

    @Test
    void slowClientsAreCutOff() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT.withMillis(200, 200, 400));
        try (RawHttp header = connect();
                RawHttp body = connect();
                RawHttp idle = connect()) {
            header.send("GET /health HTTP/1.1\r\nX: ");
            body.send("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\na");
            assertEquals(408, body.response().status());
            assertTrue(header.closed());
            assertTrue(idle.closed());
        }
    }

    @Test
    void connectionsAreCounted() throws Exception {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT.withConnections(2, 10));
        try (RawHttp first = connect();
                RawHttp second = connect()) {
            first.send(RawHttp.post(TOKENS, "", "aa")).response();
            second.send(RawHttp.post(TOKENS, "", "aa")).response();
            try (RawHttp third = connect()) {
                assertEquals(503, third.response().status());
                assertTrue(third.closed());
            }
            assertEquals("1", metric("comneck_connections_refused_total{port=\"http\"}"));
        }
        await("both are gone", () -> metric("comneck_connections").equals("0"));
        try (RawHttp next = connect()) {
            assertEquals(
                    "aa", next.send(RawHttp.post(TOKENS, "", "aa")).response().text());
        }
    }

    @Test
    void drainingAnswersEverythingThatWasAccepted() throws Exception {
        start(StubCompute.held(), Batching.DEFAULT.withImages(1), Limits.DEFAULT);
        try (RawHttp busy = connect();
                RawHttp waits = connect();
                RawHttp idle = connect()) {
            assertEquals(
                    200,
                    idle.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                            .response()
                            .status());
            busy.send(RawHttp.post(TOKENS, "", "aa"));
            waits.send(RawHttp.post(TOKENS, "", "bb"));
            await("both are there", () -> metric("comneck_requests_in_flight").equals("2"));
            int port = server.httpPort();
            CompletableFuture<Boolean> drained = CompletableFuture.supplyAsync(server::drain);
            assertTrue(idle.closed());
            await("no new connections", () -> {
                try {
                    new RawHttp(port).close();
                    return false;
                } catch (IOException e) {
                    return true;
                }
            });
            assertFalse(server.isReady());
            assertFalse(drained.isDone());
            compute.turns.release(2);
            RawHttp.Response answer = busy.response();
            assertEquals("aa", answer.text());
            assertEquals("close", answer.headers().get("connection"));
            assertEquals("bb", waits.response().text());
            assertTrue(drained.get(10, TimeUnit.SECONDS));
        }
    }

    @Test
    void readinessFallsBeforeRequestsAreRefused() throws Exception {
        compute = StubCompute.free();
        ServerOptions options = ServerOptions.DEFAULT.withPorts(0, -1).withDrain(new ServerOptions.Drain(500, 10_000));
        server = ComneckServer.start(options, Models.of(new Model("m", "1", null)), new Metrics(), compute);
        CompletableFuture<Boolean> drained;
        try (RawHttp client = connect()) {
            String health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
            assertEquals(200, client.send(health).response().status());
            drained = CompletableFuture.supplyAsync(server::drain);
            await("not ready", () -> client.send(health).response().status() == 503);
            assertEquals(
                    "aa", client.send(RawHttp.post(TOKENS, "", "aa")).response().text());
        }
        assertTrue(drained.get(10, TimeUnit.SECONDS));
    }

    @Test
    void aTakenPortIsAUsageError() {
        start(StubCompute.free(), Batching.DEFAULT, Limits.DEFAULT);
        ServerOptions options = ServerOptions.DEFAULT.withPorts(server.httpPort(), -1);
        UsageException error = Assertions.assertThrows(
                UsageException.class,
                () -> ComneckServer.start(
                        options, Models.of(new Model("m", "1", null)), new Metrics(), StubCompute.free()));
        assertTrue(error.getMessage().contains("cannot be bound"), error.getMessage());
    }

    /** Clients that pipeline, and go away in the middle of anything: whatever was accepted was answered once, and to its own client. */
    @Test
    void everyIdIsAnsweredOnceOverConnectionsThatAreKilled() throws Exception {
        int ids = 10_000;
        start(StubCompute.free(), Batching.DEFAULT.withQueue(64), Limits.DEFAULT);
        AtomicInteger next = new AtomicInteger();
        BitSet seen = new BitSet();
        AtomicInteger refused = new AtomicInteger();
        List<CompletableFuture<Void>> clients = new ArrayList<>();
        for (int c = 0; c < 32; c++) {
            Random random = new Random(c);
            clients.add(CompletableFuture.runAsync(
                    () -> {
                        try {
                            while (next.get() < ids) {
                                oneConnection(random, next, ids, seen, refused);
                            }
                        } catch (IOException e) {
                            throw new java.io.UncheckedIOException(e);
                        }
                    },
                    task -> Thread.ofVirtual().start(task)));
        }
        for (CompletableFuture<Void> client : clients) {
            client.get(120, TimeUnit.SECONDS);
        }
        await("all is answered", () -> metric("comneck_requests_in_flight").equals("0"));
        long accepted = Long.parseLong(metric("comneck_requests_accepted_total"));
        long results = Long.parseLong(metric("comneck_results_total{kind=\"tokens\"}"));
        long cancelled = Long.parseLong(metric("comneck_failures_total{reason=\"cancelled\"}"));
        assertEquals(accepted, results + cancelled);
        assertTrue(seen.cardinality() <= results, "more answers than results");
        assertTrue(seen.cardinality() > ids / 10, "too few answers to mean anything: " + seen.cardinality());
        assertEquals("0", metric("comneck_queue_requests"));
        assertEquals("0", metric("comneck_receiving_bytes"));
        await("all connections are gone", () -> metric("comneck_connections").equals("0"));
    }

    private static String post(int id) {
        return RawHttp.post(TOKENS, "X-Request-Id: " + id + "\r\n", String.format("%08d", id));
    }

    private void oneConnection(Random random, AtomicInteger next, int ids, BitSet seen, AtomicInteger refused)
            throws IOException {
        try (RawHttp client = connect()) {
            if (random.nextInt(4) == 0) {
                client.socket.setSoLinger(true, 0); // ends with a reset
            }
            int rounds = 1 + random.nextInt(20);
            for (int round = 0; round < rounds; round++) {
                int count = 1 + random.nextInt(20);
                int first = next.getAndAdd(count);
                if (first >= ids) {
                    return;
                }
                boolean kill = random.nextInt(12) == 0;
                int whole = kill ? random.nextInt(count) : count;
                StringBuilder all = new StringBuilder();
                for (int id = first; id < first + whole; id++) {
                    all.append(post(id));
                }
                if (kill) {
                    String part = post(first + whole);
                    all.append(part, 0, random.nextInt(part.length()));
                }
                client.send(all.toString());
                int wanted = kill ? random.nextInt(whole + 1) : count;
                for (int i = 0; i < wanted; i++) {
                    RawHttp.Response response = client.response();
                    int id = Integer.parseInt(response.headers().get("x-request-id"));
                    assertEquals(first + i, id, "an answer out of order");
                    if (response.status() == 503) {
                        refused.incrementAndGet();
                    } else {
                        assertEquals(200, response.status());
                        assertEquals(id, Integer.parseInt(response.text()), "an answer of another request");
                        synchronized (seen) {
                            assertFalse(seen.get(id), "a second answer of " + id);
                            seen.set(id);
                        }
                    }
                }
                if (kill) {
                    return;
                }
            }
        }
    }
}

package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.function.BooleanSupplier;
import java.util.zip.CRC32C;
import org.comneck.wire.Message;
import org.comneck.wire.RequestOptions;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** The binary protocol over real sockets, with arithmetic that a test holds up. */
@ExtendWith(LeakCheck.class)
class TcpServingTest {
    private static final byte[] BODY = {1, 2, 3, 4, 5, 6};

    private ComneckServer server;
    private StubCompute compute;
    private Metrics metrics;

    private static ServerOptions options() {
        return ServerOptions.DEFAULT.withPorts(-1, 0);
    }

    private void start(ServerOptions options, StubCompute stub) {
        compute = stub;
        metrics = new Metrics();
        server = ComneckServer.start(options, Models.of(new Model("echo", "1", null)), metrics, compute);
    }

    @AfterEach
    void stop() {
        if (server != null) {
            compute.letGo();
            server.close();
        }
    }

    private static void await(String what, BooleanSupplier condition) throws InterruptedException {
        for (int i = 0; i < 2000; i++) {
            if (condition.getAsBoolean()) {
                return;
            }
            Thread.sleep(5);
        }
        fail("never: " + what);
    }

    private static byte[] bytes(List<ByteBuffer> parts) {
        ByteBuffer all = ByteBuffer.allocate(
                parts.stream().mapToInt(ByteBuffer::remaining).sum());
        parts.forEach(part -> all.put(part.duplicate()));
        return all.array();
    }

    private static void assertEcho(byte[] body, Message message) {
        Message.Answer answer = assertInstanceOf(Message.Answer.class, message);
        assertArrayEquals(body, bytes(answer.tokens()));
        assertEquals(1, answer.credits());
    }

    private static Message.Failure failure(Message message) {
        return assertInstanceOf(Message.Failure.class, message);
    }

    private long count(String metric, String... labels) {
        return metrics.counter(metric, "", labels).value();
    }

    private int inFlight() {
        return server.core().scheduler().inFlight();
    }

    @Test
    void helloTellsLimitsAndCredits() throws Exception {
        start(options(), StubCompute.free());
        try (TcpPeer peer = new TcpPeer(server.tcpPort(), 0)) {
            Message.ServerHello hello = peer.hello();
            Limits limits = server.core().limits();
            assertEquals(limits.streams(), hello.credits());
            assertEquals(limits.bodyBytes(), hello.maxBody());
            assertEquals(limits.images(), hello.maxImages());
            assertEquals(limits.pixels(), hello.maxPixels());
            assertEquals(limits.idleMillis(), hello.idleMillis());
            peer.request(1, BODY);
            assertEcho(BODY, peer.receive());
            peer.send(new Message.Ping(99));
            assertEquals(new Message.Pong(99), peer.receive());
        }
    }

    @Test
    void framesMayComeInAnyPieces() throws Exception {
        start(options(), StubCompute.free());
        try (TcpPeer peer = TcpPeer.open(server.tcpPort())) {
            for (byte one : TcpPeer.requestOf(1, BODY).toFrame().toByteArray()) {
                peer.send(new byte[] {one});
            }
            assertEcho(BODY, peer.receive());
            byte[] large = new byte[1_000_000];
            Arrays.fill(large, (byte) 3);
            peer.request(2, large);
            assertEcho(large, peer.receive());
        }
        await(
                "bodies are given back",
                () -> metrics.text().contains("comneck_receiving_bytes 0\n")
                        || !metrics.text().contains("comneck_receiving_bytes"));
    }

    @Test
    void manyAtATimeEachWithItsOwnAnswer() throws Exception {
        start(options(), StubCompute.free());
        try (TcpPeer peer = TcpPeer.open(server.tcpPort())) {
            TreeSet<Long> open = new TreeSet<>();
            for (long id = 1; id <= 100; id++) {
                peer.request(id, new byte[] {1, (byte) id});
                open.add(id);
            }
            while (!open.isEmpty()) {
                Message.Answer answer = assertInstanceOf(Message.Answer.class, peer.receive());
                assertTrue(open.remove(answer.id()));
                assertEquals((byte) answer.id(), bytes(answer.tokens())[1]);
            }
        }
    }

    // ---------------------------------------------------------------- bad input

    @Test
    void badFramesEndTheirConnectionAndNoOther() throws Exception {
        start(options(), StubCompute.free());
        byte[] ping = new Message.Ping(1).toFrame().toByteArray();
        byte[] absurd = head(bytes -> bytes.put(5, (byte) 9).putInt(24, -1));
        try (TcpPeer bystander = TcpPeer.open(server.tcpPort())) {
            assertEnds(bystander, true, "not a frame", "GET / HTTP/1.1\r\nHost: a\r\n\r\n--------".getBytes());
            assertEnds(bystander, false, "not a frame", "GET / HTTP/1.1\r\nHost: a\r\n\r\n--------".getBytes());
            assertEnds(bystander, true, "head of a frame is damaged", flipped(ping, 12));
            assertEnds(bystander, true, "PING is damaged", flipped(ping, 33));
            assertEnds(bystander, true, "type PONG has a body", absurd);
            assertEnds(bystander, true, "a second hello", new Message.ClientHello(1, 1, "x", null));
            assertEnds(bystander, true, "from the wrong side", new Message.Credit(0));
            assertEnds(bystander, true, "a client grants credits", new Message.Credit(9));
            assertEnds(bystander, false, "no intact hello", new Message.Ping(1));
            assertEnds(bystander, false, "no intact hello", TcpPeer.requestOf(1, BODY));
            assertEnds(bystander, true, "a request has the id 0", TcpPeer.requestOf(0, BODY));
            assertEnds(bystander, false, "version", new Message.ClientHello(2, 3, "x", null));
        }
        assertTrue(count("comneck_tcp_goaways_total", "reason", "protocol") >= 9);
        assertEquals(1, count("comneck_tcp_goaways_total", "reason", "version"));
    }

    private void assertEnds(TcpPeer bystander, boolean hello, String why, Message message) throws IOException {
        assertEnds(bystander, hello, why, message.toFrame().toByteArray());
    }

    private void assertEnds(TcpPeer bystander, boolean hello, String why, byte[] bytes) throws IOException {
        bystander.request(5, BODY);
        try (TcpPeer peer = new TcpPeer(server.tcpPort(), 0)) {
            if (hello) {
                peer.hello();
            }
            peer.send(bytes);
            Message.GoAway goAway = assertInstanceOf(Message.GoAway.class, peer.receive(), why);
            assertTrue(goAway.text().contains(why), goAway.text());
            assertTrue(peer.isOver());
        }
        assertEcho(BODY, bystander.receive());
    }

    private static byte[] flipped(byte[] bytes, int at) {
        byte[] out = bytes.clone();
        out[at] ^= 16;
        return out;
    }

    /** A head with right checksums. */
    private static byte[] head(java.util.function.Consumer<ByteBuffer> change) {
        byte[] ping = Arrays.copyOf(new Message.Ping(1).toFrame().toByteArray(), 32);
        ByteBuffer bytes = ByteBuffer.wrap(ping).order(ByteOrder.LITTLE_ENDIAN);
        change.accept(bytes);
        CRC32C checksum = new CRC32C();
        checksum.update(ping, 0, 28);
        bytes.putInt(28, (int) checksum.getValue());
        return ping;
    }

    @Test
    void badRequestsGetTheirErrorAndTheConnectionLives() throws Exception {
        start(options().withLimits(Limits.DEFAULT.withBodyBytes(1000)), StubCompute.free());
        try (TcpPeer peer = TcpPeer.open(server.tcpPort())) {
            // A damaged body.
            byte[] whole = TcpPeer.requestOf(1, BODY).toFrame().toByteArray();
            peer.send(flipped(whole, whole.length - 6));
            assertEquals(
                    org.comneck.wire.Reason.DAMAGED_FRAME,
                    failure(peer.receive()).reason());
            // One that is too large: nothing of it is kept.
            peer.request(2, new byte[100_000]);
            Message.Failure large = failure(peer.receive());
            assertEquals(org.comneck.wire.Reason.TOO_LARGE, large.reason());
            assertTrue(large.text().contains("100000") && large.text().contains("1000"), large.text());
            // Fields that nobody knows, values that nothing means.
            peer.send(requestWithFields(3, 100, 0, 0, 0));
            assertEquals(org.comneck.wire.Reason.USAGE, failure(peer.receive()).reason());
            peer.send(requestWithFields(4, 18, 0, 1, 0, 9));
            assertEquals(org.comneck.wire.Reason.USAGE, failure(peer.receive()).reason());
            // Another model, a damaged bitstream, a bug of ours.
            peer.send(new Message.Request(
                    5, 0, RequestOptions.DEFAULT.withModel("other/3"), null, ByteBuffer.wrap(BODY)));
            assertEquals(
                    org.comneck.wire.Reason.UNKNOWN_MODEL,
                    failure(peer.receive()).reason());
            peer.request(6, "Damaged".getBytes());
            Message.Failure damaged = failure(peer.receive());
            assertEquals(org.comneck.wire.Reason.DAMAGED_DATA, damaged.reason());
            assertEquals(7, damaged.offset());
            peer.request(7, "Bug".getBytes());
            assertEquals(
                    org.comneck.wire.Reason.INTERNAL, failure(peer.receive()).reason());
            // And it still works.
            peer.send(
                    new Message.Request(8, 0, RequestOptions.DEFAULT.withModel("echo/1"), null, ByteBuffer.wrap(BODY)));
            assertEcho(BODY, peer.receive());
        }
        assertEquals(1, count("comneck_tcp_bad_requests_total", "reason", "damaged_frame"));
        assertEquals(1, count("comneck_tcp_bad_requests_total", "reason", "too_large"));
        assertEquals(2, count("comneck_tcp_bad_requests_total", "reason", "usage"));
        assertEquals(1, count("comneck_failures_total", "reason", "damaged"));
    }

    private static byte[] requestWithFields(long id, int... fields) {
        byte[] head = head(bytes -> bytes.put(5, (byte) 2).putLong(8, id).putShort(20, (short) fields.length));
        byte[] whole = Arrays.copyOf(head, 32 + fields.length + 4);
        for (int i = 0; i < fields.length; i++) {
            whole[32 + i] = (byte) fields[i];
        }
        CRC32C checksum = new CRC32C();
        checksum.update(whole, 0, whole.length - 4);
        ByteBuffer.wrap(whole).order(ByteOrder.LITTLE_ENDIAN).putInt(whole.length - 4, (int) checksum.getValue());
        return whole;
    }

    @Test
    void absurdLengthsTakeNoMemory() throws Exception {
        start(options(), StubCompute.free());
        List<TcpPeer> peers = new ArrayList<>();
        try (TcpPeer bystander = TcpPeer.open(server.tcpPort())) {
            // Each says that 64 MiB follow: four fit the budget, the others' bodies pass by unread.
            for (int i = 0; i < 8; i++) {
                TcpPeer peer = TcpPeer.open(server.tcpPort());
                peers.add(peer);
                peer.send(head(bytes -> bytes.put(5, (byte) 2).putLong(8, 1).putInt(24, 64 << 20)));
            }
            peers.getFirst().send(new byte[100]);
            assertTrue(server.core().limits().bodyBytes() == 64 << 20);
            // 4 GiB is more than any limit.
            peers.getFirst().close();
            bystander.send(head(bytes -> bytes.put(5, (byte) 2).putLong(8, 1).putInt(24, -1)));
            try (TcpPeer other = TcpPeer.open(server.tcpPort())) {
                other.request(1, BODY);
                assertInstanceOf(Message.class, other.receive());
            }
        } finally {
            for (TcpPeer peer : peers) {
                peer.close();
            }
        }
        try (TcpPeer after = TcpPeer.open(server.tcpPort())) {
            await("the budget is given back", () -> server.core().reserve(256 << 20));
            server.core().unreserve(256 << 20);
            after.request(1, BODY);
            assertEcho(BODY, after.receive());
        }
    }

    // ---------------------------------------------------------------- load

    @Test
    void aFullQueueRefusesAtOnce() throws Exception {
        start(options().withBatching(Batching.DEFAULT.withQueue(2).withImages(1)), StubCompute.held());
        try (TcpPeer peer = TcpPeer.open(server.tcpPort())) {
            peer.request(1, BODY);
            await("the first is being computed", () -> server.core().scheduler().waiting() == 0 && inFlight() == 1);
            peer.request(2, BODY);
            peer.request(3, BODY);
            peer.request(4, BODY);
            Message.Refusal refusal = assertInstanceOf(Message.Refusal.class, peer.receive());
            assertEquals(4, refusal.id());
            assertEquals(org.comneck.wire.Reason.QUEUE_FULL, refusal.reason());
            assertTrue(refusal.retryAfterMillis() > 0);
            compute.turns.release(3);
            for (int i = 0; i < 3; i++) {
                assertEcho(BODY, peer.receive());
            }
        }
    }

    @Test
    void aCancelledRequestFreesItsPlaceAndStillGetsOneFinalFrame() throws Exception {
        start(options().withBatching(Batching.DEFAULT.withImages(1)), StubCompute.held());
        try (TcpPeer peer = TcpPeer.open(server.tcpPort())) {
            peer.request(1, BODY);
            await("the first is being computed", () -> server.core().scheduler().waiting() == 0 && inFlight() == 1);
            peer.request(2, BODY);
            peer.send(new Message.Cancel(2));
            peer.send(new Message.Cancel(2));
            peer.send(new Message.Cancel(77));
            Message.Failure cancelled = failure(peer.receive());
            assertEquals(2, cancelled.id());
            assertEquals(org.comneck.wire.Reason.CANCELLED, cancelled.reason());
            compute.turns.release();
            assertEcho(BODY, peer.receive());
            assertEquals(0, inFlight());
        }
    }

    @Test
    void aDeadlineThatPassesInTheQueueIsAnError() throws Exception {
        start(options().withBatching(Batching.DEFAULT.withImages(1)), StubCompute.held());
        try (TcpPeer peer = TcpPeer.open(server.tcpPort())) {
            peer.request(1, BODY);
            peer.send(new Message.Request(2, 1000, RequestOptions.DEFAULT, null, ByteBuffer.wrap(BODY)));
            await("both are accepted", () -> inFlight() == 2);
            Thread.sleep(5);
            compute.turns.release(2);
            assertEcho(BODY, peer.receive());
            assertEquals(
                    org.comneck.wire.Reason.DEADLINE, failure(peer.receive()).reason());
        }
    }

    @Test
    void aClientThatGoesAwayFreesItsPlaces() throws Exception {
        start(options().withBatching(Batching.DEFAULT.withImages(1)), StubCompute.held());
        try (TcpPeer peer = TcpPeer.open(server.tcpPort())) {
            for (int id = 1; id <= 20; id++) {
                peer.request(id, BODY);
            }
            await("all are accepted", () -> inFlight() == 20);
        }
        await("only the one that is being computed is left", () -> inFlight() == 1);
        compute.turns.release();
        await("none is left", () -> inFlight() == 0);
    }

    @Test
    void requestsNeedCreditsAndIdsOfTheirOwn() throws Exception {
        start(options().withLimits(Limits.DEFAULT.withConnections(100, 4)), StubCompute.held());
        try (TcpPeer peer = TcpPeer.open(server.tcpPort())) {
            for (int id = 1; id <= 5; id++) {
                peer.request(id, BODY);
            }
            Message.GoAway goAway = assertInstanceOf(Message.GoAway.class, peer.receive());
            assertTrue(goAway.text().contains("credit"), goAway.text());
        }
        try (TcpPeer peer = TcpPeer.open(server.tcpPort())) {
            peer.request(1, BODY);
            peer.request(1, BODY);
            Message.GoAway goAway = assertInstanceOf(Message.GoAway.class, peer.receive());
            assertTrue(goAway.text().contains("request 1 is under way"), goAway.text());
        }
    }

    @Test
    void aReaderThatStallsIsRefusedAndThenDropped() throws Exception {
        // 2 MB an answer, water marks of 256 KiB and 1 MiB.
        start(options().withLimits(Limits.DEFAULT.withMillis(10_000, 1000, 75_000)), StubCompute.repeating(1000));
        byte[] body = new byte[2000];
        try (TcpPeer peer = new TcpPeer(server.tcpPort(), 4096)) {
            peer.hello();
            for (int id = 1; id <= 60; id++) {
                peer.request(id, body);
                if (id <= 8) {
                    int most = id;
                    await(
                            "answered or refused",
                            () -> count("comneck_results_total", "kind", "tokens")
                                            + count("comneck_tcp_bad_requests_total", "reason", "slow_reader")
                                    >= most);
                }
            }
            await("requests are refused", () -> count("comneck_tcp_bad_requests_total", "reason", "slow_reader") > 40);
            // What the kernel's buffers took, and one beyond the mark.
            assertTrue(count("comneck_results_total", "kind", "tokens") < 10);
            await("dropped", () -> count("comneck_tcp_goaways_total", "reason", "slow_reader") == 1);
        }
    }

    @Test
    void aReaderThatIsSlowIsNoStalledOne() throws Exception {
        start(options().withLimits(Limits.DEFAULT.withMillis(10_000, 1000, 75_000)), StubCompute.repeating(20_000));
        int bytes = 40_000_000; // more than the kernel keeps, many times
        try (TcpPeer peer = new TcpPeer(server.tcpPort(), 1 << 20)) {
            peer.hello();
            peer.request(1, new byte[bytes / 20_000]);
            byte[] some = new byte[128 << 10];
            // Longer than the time after which a reader that takes nothing is dropped, never without taking something.
            for (int seen = 0; seen < bytes; ) {
                int count = peer.socket.getInputStream().read(some);
                assertTrue(count > 0, "dropped after " + seen + " bytes");
                seen += count;
                Thread.sleep(5);
            }
        }
        assertEquals(0, count("comneck_tcp_goaways_total", "reason", "slow_reader"));
    }

    @Test
    void answersThatNobodyReadsAreBoundedOverAllConnections() throws Exception {
        start(options().withBatching(Batching.DEFAULT.withQueueBytes(1 << 20)), StubCompute.repeating(1000));
        try (TcpPeer other = TcpPeer.open(server.tcpPort())) {
            try (TcpPeer stalled = new TcpPeer(server.tcpPort(), 4096)) {
                stalled.hello();
                stalled.request(1, new byte[20_000]); // 20 MB, more than the kernel keeps
                await("an answer waits", () -> server.core().readersStall());
                other.request(2, BODY);
                Message.Refusal refusal = assertInstanceOf(Message.Refusal.class, other.receive());
                assertEquals(org.comneck.wire.Reason.TOO_MANY, refusal.reason());
            }
            await("nothing waits", () -> server.core().unsent() == 0);
            other.request(3, BODY);
            assertInstanceOf(Message.Answer.class, other.receive());
        }
    }

    @Test
    void oneConnectionTooManyIsToldSo() throws Exception {
        start(options().withLimits(Limits.DEFAULT.withConnections(1, 4)), StubCompute.free());
        try (TcpPeer first = TcpPeer.open(server.tcpPort());
                TcpPeer second = new TcpPeer(server.tcpPort(), 0)) {
            Message.GoAway goAway = assertInstanceOf(Message.GoAway.class, second.receive());
            assertEquals(org.comneck.wire.Reason.CONNECTIONS, goAway.reason());
            assertTrue(second.isOver());
            first.request(1, BODY);
            assertEcho(BODY, first.receive());
        }
    }

    // ---------------------------------------------------------------- time

    @Test
    void connectionsThatSayNothingEnd() throws Exception {
        start(options().withLimits(Limits.DEFAULT.withMillis(100, 200, 300)), StubCompute.free());
        try (TcpPeer silent = new TcpPeer(server.tcpPort(), 0);
                TcpPeer idle = TcpPeer.open(server.tcpPort());
                TcpPeer slow = TcpPeer.open(server.tcpPort())) {
            slow.send(Arrays.copyOf(TcpPeer.requestOf(1, BODY).toFrame().toByteArray(), 40));
            Message.GoAway unheard = assertInstanceOf(Message.GoAway.class, silent.receive());
            assertEquals(org.comneck.wire.Reason.IDLE, unheard.reason());
            assertTrue(silent.isOver());
            Message.GoAway stalled = assertInstanceOf(Message.GoAway.class, slow.receive());
            assertTrue(stalled.text().contains("a frame does not end"), stalled.text());
            assertEquals(
                    org.comneck.wire.Reason.IDLE,
                    assertInstanceOf(Message.GoAway.class, idle.receive()).reason());
            assertTrue(idle.isOver());
        }
    }

    @Test
    void drainingAnswersWhatWasAcceptedAndRefusesTheRest() throws Exception {
        start(options().withBatching(Batching.DEFAULT.withImages(1)), StubCompute.held());
        try (TcpPeer peer = TcpPeer.open(server.tcpPort());
                TcpPeer idle = TcpPeer.open(server.tcpPort())) {
            peer.request(1, BODY);
            peer.request(2, BODY);
            await("both are accepted", () -> inFlight() == 2);
            CompletableFuture<Boolean> drained = CompletableFuture.supplyAsync(server::drain);
            assertEquals(
                    org.comneck.wire.Reason.DRAINING,
                    assertInstanceOf(Message.GoAway.class, peer.receive()).reason());
            assertInstanceOf(Message.GoAway.class, idle.receive());
            assertTrue(idle.isOver());
            peer.request(3, BODY);
            Message.Refusal refusal = assertInstanceOf(Message.Refusal.class, peer.receive());
            assertEquals(org.comneck.wire.Reason.DRAINING, refusal.reason());
            compute.turns.release(2);
            assertEcho(BODY, peer.receive());
            assertEcho(BODY, peer.receive());
            assertTrue(peer.isOver());
            assertTrue(drained.get());
        }
    }
}

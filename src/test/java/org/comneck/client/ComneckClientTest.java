package org.comneck.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.ServerSocket;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.zip.CRC32C;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.server.ComneckServer;
import org.comneck.server.LeakCheck;
import org.comneck.server.Models;
import org.comneck.server.ServerOptions;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.comneck.vision.VisionEncoder;
import org.comneck.wire.Message;
import org.comneck.wire.Reason;
import org.comneck.wire.RequestOptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** The Java client against the real server, and against one that misbehaves. */
@ExtendWith(LeakCheck.class)
class ComneckClientTest {
    private static final byte[] BODY = {7, 8, 9};

    private static Tokens get(CompletableFuture<Tokens> future) throws Exception {
        return future.get(30, TimeUnit.SECONDS);
    }

    private static RequestException failure(CompletableFuture<Tokens> future) {
        ExecutionException e = assertThrows(ExecutionException.class, () -> get(future));
        return assertInstanceOf(RequestException.class, e.getCause());
    }

    // ---------------------------------------------------------------- the real server

    @Test
    void tokensAreThoseOfTheEngine() throws Exception {
        try (NativeEngine engine = NativeEngine.openDefault();
                ComneckServer server = ComneckServer.start(
                        ServerOptions.DEFAULT.withPorts(-1, 0), Models.embedded(EngineOptions.DEFAULT));
                ComneckClient client = ComneckClient.connect("127.0.0.1", server.tcpPort())) {
            byte[] bitstream = engine.encode(Photo.read(Path.of("docs", "photo.jpg")));
            Message.Model model = client.models().getFirst();
            assertArrayEquals(engine.identity(), model.identity());

            Tensor expected = engine.tokens(bitstream);
            Tokens f32 = get(client.tokens(bitstream, RequestOptions.DEFAULT.withType(ElementType.F32), null));
            assertEquals(expected.shape(), f32.values().shape());
            assertEquals(-1, expected.data().mismatch(f32.values().data()), "bits differ");
            assertArrayEquals(engine.identity(), f32.identity());
            assertTrue(f32.total().compareTo(f32.queued()) >= 0);
            float[] f16 = get(client.tokens(bitstream)).values().toFloats();
            float[] exact = expected.toFloats();
            for (int i = 0; i < exact.length; i++) {
                assertEquals(Float.float16ToFloat(Float.floatToFloat16(exact[i])), f16[i]);
            }

            Tensor cls = engine.tokens(
                    bitstream,
                    engine.defaultTokens()
                            .withLayer(-1)
                            .withSelect(VisionEncoder.Tokens.CLS)
                            .withPostNorm(VisionEncoder.PostNorm.ONCE)
                            .withProjected(true));
            RequestOptions wanted = RequestOptions.DEFAULT
                    .withModel(model.name())
                    .withLayer(-1)
                    .withSelect(VisionEncoder.Tokens.CLS)
                    .withPostNorm(VisionEncoder.PostNorm.ONCE)
                    .withProjected(true)
                    .withType(ElementType.F32);
            List<CompletableFuture<Tokens>> many = new ArrayList<>();
            for (int i = 0; i < 40; i++) {
                many.add(client.tokens(bitstream, wanted, Duration.ofSeconds(30)));
            }
            for (CompletableFuture<Tokens> one : many) {
                assertEquals(-1, cls.data().mismatch(get(one).values().data()), "bits differ");
            }

            byte[] damaged = bitstream.clone();
            damaged[damaged.length / 2] ^= 4;
            assertEquals(Reason.DAMAGED_DATA, failure(client.tokens(damaged)).reason());
            byte[] other = bitstream.clone();
            other[8] ^= 1; // the identity, and so the checksum too
            Reason otherModel = failure(client.tokens(other)).reason();
            assertTrue(otherModel == Reason.OTHER_MODEL || otherModel == Reason.DAMAGED_DATA, "" + otherModel);
            RequestException layer = failure(client.tokens(bitstream, RequestOptions.DEFAULT.withLayer(99), null));
            assertEquals(Reason.USAGE, layer.reason());
            assertTrue(layer.getMessage().contains("99"), layer.getMessage());
            assertEquals(
                    Reason.UNKNOWN_MODEL,
                    failure(client.tokens(bitstream, RequestOptions.DEFAULT.withModel("no"), null))
                            .reason());
        }
    }

    // ---------------------------------------------------------------- servers that misbehave

    private static ClientOptions options(ScriptedServer server) {
        return ClientOptions.of("127.0.0.1", server.port());
    }

    @Test
    void aRefusedRequestIsSentAgainAfterAPause() throws Exception {
        try (ScriptedServer server = new ScriptedServer(4, (peer, index) -> {
                    Message.Request first = peer.request();
                    peer.send(new Message.Refusal(first.id(), 1, Reason.QUEUE_FULL, 10, "full"));
                    peer.answer(peer.request());
                    peer.receive();
                });
                ComneckClient client = ComneckClient.open(options(server))) {
            assertEquals(1, get(client.tokens(BODY)).values().shape().elements());
        }
    }

    @Test
    void attemptsAreBounded() throws Exception {
        try (ScriptedServer server = new ScriptedServer(4, (peer, index) -> {
                    while (true) {
                        peer.send(new Message.Refusal(peer.request().id(), 1, Reason.QUEUE_FULL, 1, "full"));
                    }
                });
                ComneckClient client = ComneckClient.open(options(server))) {
            RequestException e = failure(client.tokens(BODY));
            assertEquals(Reason.QUEUE_FULL, e.reason());
            assertFalse(e.begun());
        }
    }

    @Test
    void aLostConnectionIsTriedAgainOnlyWhereThePolicySaysSo() throws Exception {
        ScriptedServer.Script script = (peer, index) -> {
            Message.Request request = peer.request();
            if (index > 0) {
                peer.answer(request);
                peer.receive();
            }
        };
        try (ScriptedServer server = new ScriptedServer(4, script);
                ComneckClient client = ComneckClient.open(options(server))) {
            RequestException e = failure(client.tokens(BODY));
            assertNull(e.reason());
            assertTrue(e.begun());
            get(client.tokens(BODY)); // the next one gets a new connection
        }
        try (ScriptedServer server = new ScriptedServer(4, script);
                ComneckClient client =
                        ComneckClient.open(options(server).withRetries(new ClientOptions.Retries(3, true)))) {
            get(client.tokens(BODY));
            assertEquals(2, server.connections.get());
        }
    }

    @Test
    void afterAGoodByeRequestsTakeAnotherConnection() throws Exception {
        CountDownLatch said = new CountDownLatch(1);
        try (ScriptedServer server = new ScriptedServer(4, (peer, index) -> {
                    Message.Request request = peer.request();
                    if (index == 0) {
                        peer.send(new Message.GoAway(Reason.DRAINING, "soon"));
                        peer.send(new Message.Pong(0));
                        said.await();
                    }
                    peer.answer(request);
                    peer.receive();
                });
                ComneckClient client = ComneckClient.open(options(server))) {
            CompletableFuture<Tokens> first = client.tokens(BODY);
            while (server.connections.get() == 0) {
                Thread.sleep(2);
            }
            Thread.sleep(100);
            get(client.tokens(BODY));
            assertEquals(2, server.connections.get());
            said.countDown();
            get(first); // what was under way is still answered
        }
    }

    @Test
    void requestsWaitForCreditsAndTooManyAreRefusedHere() throws Exception {
        CountDownLatch go = new CountDownLatch(1);
        try (ScriptedServer server = new ScriptedServer(1, (peer, index) -> {
                    go.await();
                    while (true) {
                        peer.answer(peer.request());
                    }
                });
                ComneckClient client =
                        ComneckClient.open(options(server).withConnections(1).withMaxWaiting(3))) {
            client.models(); // so that there is a credit
            List<CompletableFuture<Tokens>> accepted = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                accepted.add(client.tokens(BODY));
            }
            RequestException e = failure(client.tokens(BODY));
            assertEquals(Reason.QUEUE_FULL, e.reason());
            go.countDown();
            for (CompletableFuture<Tokens> one : accepted) {
                get(one);
            }
        }
    }

    @Test
    void cancellingTakesTheRequestBackOnce() throws Exception {
        int rounds =
                200; // the caller cancels while the sender returns from writing: sometimes both would tell the server
        BlockingQueue<Message> received = new LinkedBlockingQueue<>();
        try (ScriptedServer server = new ScriptedServer(1, (peer, index) -> {
                    while (true) {
                        Message message = peer.receive();
                        received.add(message);
                        if (message instanceof Message.Cancel cancel) {
                            // the credit comes back
                            peer.send(new Message.Failure(cancel.id(), 1, Reason.CANCELLED, -1, "cancelled"));
                        }
                    }
                });
                ComneckClient client = ComneckClient.open(options(server).withConnections(1))) {
            for (int round = 0; round < rounds; round++) {
                CompletableFuture<Tokens> future = client.tokens(BODY);
                Message.Request request = assertInstanceOf(Message.Request.class, received.poll(10, TimeUnit.SECONDS));
                assertTrue(future.cancel(true));
                Message.Cancel cancel = assertInstanceOf(Message.Cancel.class, received.poll(10, TimeUnit.SECONDS));
                assertEquals(request.id(), cancel.id());
            }
        }
    }

    @Test
    void aDeadlineThatPassesIsTold() throws Exception {
        CompletableFuture<Long> micros = new CompletableFuture<>();
        CompletableFuture<Message> next = new CompletableFuture<>();
        try (ScriptedServer server = new ScriptedServer(1, (peer, index) -> {
                    micros.complete(peer.request().deadlineMicros());
                    next.complete(peer.receive());
                });
                ComneckClient client = ComneckClient.open(options(server))) {
            client.models();
            RequestException e = failure(client.tokens(BODY, RequestOptions.DEFAULT, Duration.ofMillis(300)));
            assertEquals(Reason.DEADLINE, e.reason());
            long said = micros.get(10, TimeUnit.SECONDS);
            assertTrue(said > 0 && said <= 300_000, said + " us");
            assertInstanceOf(Message.Cancel.class, next.get(10, TimeUnit.SECONDS));
        }
    }

    @Test
    void aSilentServerIsAskedAndThenLeft() throws Exception {
        CompletableFuture<Message> ping = new CompletableFuture<>();
        try (ScriptedServer server = new ScriptedServer(1, (peer, index) -> {
                    peer.request();
                    ping.complete(peer.receive());
                    Thread.sleep(10_000);
                });
                ComneckClient client =
                        ComneckClient.open(options(server).withTimes(Duration.ofSeconds(5), Duration.ofMillis(100)))) {
            RequestException e = failure(client.tokens(BODY));
            assertNull(e.reason());
            assertTrue(e.getMessage().contains("does not answer"), e.getMessage());
            assertInstanceOf(Message.Ping.class, ping.get());
        }
    }

    @Test
    void whatIsNoAnswerEndsTheConnection() throws Exception {
        List<byte[]> nonsense = new ArrayList<>();
        nonsense.add("HTTP/1.1 400 Bad Request\r\n\r\n-----".getBytes());
        Message.Request request = new Message.Request(1, 0, RequestOptions.DEFAULT, null, ByteBuffer.wrap(BODY));
        byte[] damaged = ScriptedServer.answerTo(request).toFrame().toByteArray();
        damaged[damaged.length - 6] ^= 1;
        nonsense.add(damaged);
        nonsense.add(request.toFrame().toByteArray());
        nonsense.add(withoutFields(ScriptedServer.answerTo(request).toFrame().toByteArray()));
        for (byte[] bytes : nonsense) {
            try (ScriptedServer server = new ScriptedServer(1, (peer, index) -> {
                        peer.request();
                        peer.send(bytes);
                        peer.receive();
                    });
                    ComneckClient client = ComneckClient.open(options(server))) {
                RequestException e = failure(client.tokens(BODY));
                assertNull(e.reason());
                assertTrue(e.getMessage().contains("lost"), e.getMessage());
            }
        }
    }

    /** An intact final frame that says nothing. */
    private static byte[] withoutFields(byte[] frame) {
        ByteBuffer bytes = ByteBuffer.allocate(36).order(ByteOrder.LITTLE_ENDIAN);
        bytes.put(frame, 0, 20).putLong(0);
        CRC32C checksum = new CRC32C();
        checksum.update(bytes.array(), 0, 28);
        bytes.putInt((int) checksum.getValue());
        checksum.reset();
        checksum.update(bytes.array(), 0, 32);
        return bytes.putInt((int) checksum.getValue()).array();
    }

    @Test
    void closingFailsWhatWaitsForAnotherAttempt() throws Exception {
        CompletableFuture<Void> refused = new CompletableFuture<>();
        try (ScriptedServer server = new ScriptedServer(4, (peer, index) -> {
            peer.send(new Message.Refusal(peer.request().id(), 1, Reason.QUEUE_FULL, 600_000, "full"));
            peer.send(new Message.Refusal(peer.request().id(), 1, Reason.QUEUE_FULL, 600_000, "full"));
            refused.complete(null);
            peer.receive();
        })) {
            ComneckClient client = ComneckClient.open(options(server).withConnections(1));
            CompletableFuture<Tokens> first = client.tokens(BODY);
            CompletableFuture<Tokens> second = client.tokens(BODY);
            refused.get(10, TimeUnit.SECONDS);
            for (int i = 0; i < 2000 && client.pausing() < 2; i++) {
                Thread.sleep(5);
            }
            client.close();
            assertFalse(failure(first).begun());
            assertFalse(failure(second).begun());
            RequestException late =
                    failure(client.tokens(BODY, RequestOptions.DEFAULT, java.time.Duration.ofSeconds(5)));
            assertTrue(late.getMessage().contains("closed"), late.getMessage());
        }
    }

    @Test
    void withoutAServerNothingWasBegun() throws Exception {
        int port;
        try (ServerSocket unused = new ServerSocket(0)) {
            port = unused.getLocalPort();
        }
        try (ComneckClient client = ComneckClient.connect("127.0.0.1", port)) {
            RequestException e = failure(client.tokens(BODY));
            assertFalse(e.begun());
            assertTrue(e.getMessage().contains("no connection to 127.0.0.1:" + port), e.getMessage());
        }
    }

    @Test
    void closingFailsWhatIsOpen() throws Exception {
        CompletableFuture<Void> received = new CompletableFuture<>();
        try (ScriptedServer server = new ScriptedServer(1, (peer, index) -> {
            peer.request();
            received.complete(null);
            peer.receive();
        })) {
            ComneckClient client = ComneckClient.open(options(server).withConnections(1));
            CompletableFuture<Tokens> sent = client.tokens(BODY);
            CompletableFuture<Tokens> waits = client.tokens(BODY);
            received.get(10, TimeUnit.SECONDS);
            client.close();
            assertTrue(failure(sent).begun());
            assertFalse(failure(waits).begun());
            assertThrows(CompletionException.class, () -> client.tokens(BODY).join());
            client.close();
        }
    }
}

package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import org.comneck.UsageException;
import org.comneck.client.ClientOptions;
import org.comneck.client.ComneckClient;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** HTTP/2 in its three ways; TLS, client certificates and tokens on both ports. Real sockets, no arithmetic. */
@ExtendWith(LeakCheck.class)
class SecurityTest {
    private static final int SETTINGS = 4;
    private static final int GOAWAY = 7;
    private static final int HEADERS = 1;
    private static final int END_STREAM = 1;
    private static final int END_HEADERS = 4;

    @TempDir
    Path folder;

    private ComneckServer server;
    private StubCompute compute = StubCompute.free();

    private void start(ServerOptions.Security security) {
        start(ServerOptions.DEFAULT.withSecurity(security));
    }

    private void start(ServerOptions options) {
        server = ComneckServer.start(
                options.withPorts(0, -1).withDrain(new ServerOptions.Drain(0, 10_000)),
                Models.of(new Model("m", "1", null)),
                new Metrics(),
                compute);
    }

    @AfterEach
    void stop() {
        if (server != null) {
            compute.letGo();
            server.close();
        }
    }

    private HttpRequest post(String scheme, String body, String... headers) {
        HttpRequest.Builder request = HttpRequest.newBuilder(
                        URI.create(scheme + "://localhost:" + server.httpPort() + "/v1/tokens"))
                .POST(HttpRequest.BodyPublishers.ofString(body));
        if (headers.length > 0) {
            request.headers(headers);
        }
        return request.build();
    }

    private HttpRequest health(String scheme) {
        return HttpRequest.newBuilder(URI.create(scheme + "://localhost:" + server.httpPort() + "/health"))
                .build();
    }

    private static final HttpResponse.BodyHandler<String> TEXT = HttpResponse.BodyHandlers.ofString();

    @Test
    void cleartextClientsUpgradeToHttp2() throws Exception {
        start(ServerOptions.Security.NONE);
        try (HttpClient client = HttpClient.newHttpClient()) {
            HttpResponse<String> first = client.send(health("http"), TEXT);
            assertEquals(200, first.statusCode());
            assertEquals(HttpClient.Version.HTTP_2, first.version());
            List<CompletableFuture<HttpResponse<String>>> answers = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                answers.add(client.sendAsync(post("http", "body" + i), TEXT));
            }
            for (int i = 0; i < answers.size(); i++) {
                HttpResponse<String> response = answers.get(i).get(20, TimeUnit.SECONDS);
                assertEquals("body" + i, response.body());
                assertEquals(HttpClient.Version.HTTP_2, response.version());
            }
        }
    }

    @Test
    void aFirstRequestWithABodyIsServedAsItCame() throws Exception {
        start(ServerOptions.Security.NONE);
        try (HttpClient client = HttpClient.newHttpClient()) {
            String large = "x".repeat(300_000);
            HttpResponse<String> response = client.send(post("http", large), TEXT);
            assertEquals(200, response.statusCode());
            assertEquals(large, response.body());
        }
    }

    @Test
    void limitsHoldOnStreamsToo() throws Exception {
        start(ServerOptions.DEFAULT.withLimits(Limits.DEFAULT.withBodyBytes(1000)));
        try (HttpClient client = HttpClient.newHttpClient()) {
            client.send(health("http"), TEXT);
            HttpResponse<String> refused = client.send(post("http", "x".repeat(1001)), TEXT);
            assertEquals(413, refused.statusCode());
            assertEquals(HttpClient.Version.HTTP_2, refused.version());
            assertEquals("aa", client.send(post("http", "aa"), TEXT).body());
        }
    }

    @Test
    void aResetStreamFreesItsPlace() throws Exception {
        compute = StubCompute.held();
        start(ServerOptions.DEFAULT.withBatching(Batching.DEFAULT.withImages(1)));
        try (HttpClient client = HttpClient.newHttpClient()) {
            client.send(health("http"), TEXT);
            CompletableFuture<HttpResponse<String>> first = client.sendAsync(post("http", "aa"), TEXT);
            await(() -> compute.batches.get() == 1);
            CompletableFuture<HttpResponse<String>> second = client.sendAsync(post("http", "bb"), TEXT);
            await(() -> server.core().scheduler().waiting() == 1);
            second.cancel(true);
            await(() -> server.core().scheduler().waiting() == 0);
            compute.turns.release(2);
            assertEquals("aa", first.get(20, TimeUnit.SECONDS).body());
        }
    }

    private static void await(java.util.function.BooleanSupplier condition) throws InterruptedException {
        for (int i = 0; i < 4000 && !condition.getAsBoolean(); i++) {
            Thread.sleep(5);
        }
        assertTrue(condition.getAsBoolean());
    }

    @Test
    void priorKnowledgeAndGoawayWhenTheServerStops() throws Exception {
        start(ServerOptions.Security.NONE);
        try (Socket socket = new Socket("127.0.0.1", server.httpPort())) {
            socket.setSoTimeout(20_000);
            OutputStream out = socket.getOutputStream();
            out.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
            out.write(new byte[] {0, 0, 0, SETTINGS, 0, 0, 0, 0, 0});
            DataInputStream in = new DataInputStream(socket.getInputStream());
            assertEquals(SETTINGS, frame(in));
            CompletableFuture<Boolean> drained = CompletableFuture.supplyAsync(server::drain);
            int type = frame(in);
            while (type != GOAWAY) {
                type = frame(in);
            }
            assertTrue(drained.get(20, TimeUnit.SECONDS));
        }
    }

    /** A client that reads frames and never says that it has: its windows of 64 KiB fill, and what follows waits in the server. */
    @Test
    void aStalledReaderOfHttp2IsBounded() throws Exception {
        compute = StubCompute.repeating(1000);
        int mark = 64 << 10;
        start(ServerOptions.DEFAULT.withLimits(Limits.DEFAULT.withWaterMarks(1 << 10, mark)));
        try (Socket socket = new Socket("127.0.0.1", server.httpPort())) {
            socket.setSoTimeout(20_000);
            OutputStream out = socket.getOutputStream();
            out.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
            out.write(new byte[] {0, 0, 0, SETTINGS, 0, 0, 0, 0, 0});
            Thread.ofPlatform().daemon().start(() -> {
                try {
                    DataInputStream in = new DataInputStream(socket.getInputStream());
                    while (true) {
                        frame(in);
                    }
                } catch (IOException e) {
                    // the end
                }
            });
            // Answers of 300 KB; 16 marks are 1 MiB, so the fifth request finds too much.
            int streams = 100;
            for (int i = 0; i < streams; i++) {
                post(out, 2 * i + 1, 300);
                int ended = i + 1;
                await(() -> results() + tooMany() == ended);
            }
            assertTrue(results() >= 4, "answers: " + results());
            assertTrue(tooMany() >= 90, "refused: " + tooMany());
            assertTrue(server.core().unsent() < 2 << 20, server.core().unsent() + " bytes wait");
            try (HttpClient other = HttpClient.newHttpClient()) {
                assertEquals(2000, other.send(post("http", "aa"), TEXT).body().length());
            }
        }
        await(() -> server.core().unsent() == 0);
    }

    private long results() {
        return server.core().scheduler().results();
    }

    private long tooMany() {
        return server.metrics()
                .counter("comneck_refusals_total", "", "reason", "too_many")
                .value();
    }

    /** A request of a stream of its own: HEADERS without compression, DATA. */
    private static void post(OutputStream out, int stream, int bytes) throws IOException {
        ByteArrayOutputStream headers = new ByteArrayOutputStream();
        String[] fields = {":method", "POST", ":scheme", "http", ":authority", "localhost", ":path", "/v1/tokens"};
        for (int i = 0; i < fields.length; i += 2) {
            headers.write(0); // literal, not indexed, name as text
            for (int k = i; k < i + 2; k++) {
                headers.write(fields[k].length());
                headers.writeBytes(fields[k].getBytes(StandardCharsets.US_ASCII));
            }
        }
        out.write(frame(HEADERS, END_HEADERS, stream, headers.toByteArray()));
        out.write(frame(0, END_STREAM, stream, new byte[bytes]));
    }

    private static byte[] frame(int type, int flags, int stream, byte[] payload) {
        return ByteBuffer.allocate(9 + payload.length)
                .putShort((short) (payload.length >> 8))
                .put((byte) payload.length)
                .put((byte) type)
                .put((byte) flags)
                .putInt(stream)
                .put(payload)
                .array();
    }

    /** Type of the next frame, whose payload is skipped. */
    private static int frame(DataInputStream in) throws IOException {
        int length = in.readUnsignedByte() << 16 | in.readUnsignedShort();
        int type = in.readUnsignedByte();
        in.skipNBytes(5L + length);
        return type;
    }

    @Test
    void tlsOffersBothVersions() throws Exception {
        Identity own = Identity.of(folder, "server");
        start(ServerOptions.Security.NONE.withTls(own.certificate(), own.key()));
        for (HttpClient.Version version : HttpClient.Version.values()) {
            if (!version.name().startsWith("HTTP_1") && version != HttpClient.Version.HTTP_2) {
                continue; // HTTP/3 is not offered
            }
            try (HttpClient client = HttpClient.newBuilder()
                    .version(version)
                    .sslContext(Identity.trusting(own, null))
                    .build()) {
                HttpResponse<String> response = client.send(post("https", "aa"), TEXT);
                assertEquals("aa", response.body());
                assertEquals(version, response.version());
            }
        }
    }

    @Test
    void clientsShowTheirCertificates() throws Exception {
        Identity own = Identity.of(folder, "server");
        Identity friend = Identity.of(folder, "friend");
        Identity stranger = Identity.of(folder, "stranger");
        start(ServerOptions.Security.NONE
                .withTls(own.certificate(), own.key())
                .withClientAuthority(friend.certificate()));
        try (HttpClient client = HttpClient.newBuilder()
                .sslContext(Identity.trusting(own, friend))
                .build()) {
            assertEquals("aa", client.send(post("https", "aa"), TEXT).body());
        }
        for (Identity other : new Identity[] {stranger, null}) {
            try (HttpClient client = HttpClient.newBuilder()
                    .sslContext(Identity.trusting(own, other))
                    .build()) {
                assertThrows(IOException.class, () -> client.send(post("https", "aa"), TEXT));
            }
        }
    }

    @Test
    void tokensAreAskedForAndReadAgain() throws Exception {
        Path file = Files.writeString(folder.resolve("tokens"), "# ours\nfirst-token\n\nsecond-token\n");
        start(ServerOptions.Security.NONE.withTokens(file));
        try (HttpClient client = HttpClient.newHttpClient()) {
            assertEquals(200, client.send(health("http"), TEXT).statusCode());
            HttpResponse<String> without = client.send(post("http", "aa"), TEXT);
            assertEquals(401, without.statusCode());
            assertEquals(
                    "Bearer", without.headers().firstValue("www-authenticate").orElseThrow());
            for (String wrong :
                    List.of("Bearer first-toke", "Bearer ", "Basic first-token", "Bearer # ours", "Bearer ")) {
                assertEquals(
                        401,
                        client.send(post("http", "aa", "Authorization", wrong), TEXT)
                                .statusCode());
            }
            for (String right : List.of("Bearer first-token", "bearer second-token")) {
                assertEquals(
                        200,
                        client.send(post("http", "aa", "Authorization", right), TEXT)
                                .statusCode());
            }
            Files.writeString(file, "third-token\n");
            await(() -> {
                try {
                    return client.send(post("http", "aa", "Authorization", "Bearer third-token"), TEXT)
                                    .statusCode()
                            == 200;
                } catch (IOException | InterruptedException e) {
                    throw new IllegalStateException(e);
                }
            });
            assertEquals(
                    401,
                    client.send(post("http", "aa", "Authorization", "Bearer first-token"), TEXT)
                            .statusCode());
            Files.delete(file);
            Thread.sleep(1200);
            assertEquals(
                    200,
                    client.send(post("http", "aa", "Authorization", "Bearer third-token"), TEXT)
                            .statusCode());
        }
    }

    @Test
    void tokensAreReadAgainHoweverMuchThereIsToDo() throws Exception {
        Path file = Files.writeString(folder.resolve("tokens"), "old\n");
        start(ServerOptions.Security.NONE.withTokens(file));
        CountDownLatch busy = new CountDownLatch(1);
        try {
            while (true) {
                server.core().administrator().execute(() -> {
                    try {
                        busy.await();
                    } catch (InterruptedException e) {
                        Thread.currentThread().interrupt();
                    }
                });
            }
        } catch (RejectedExecutionException e) {
            // there is so much to do that the next look at the file is refused
        }
        Files.writeString(file, "another\n");
        Thread.sleep(1500);
        assertFalse(server.core().tokens().allowsToken("another"));
        busy.countDown();
        await(() -> server.core().tokens().allowsToken("another"));
    }

    @Test
    void theBinaryPortIsSecuredLikeTheOther() throws Exception {
        Identity own = Identity.of(folder, "server");
        Path file = Files.writeString(folder.resolve("tokens"), "a-token\n");
        server = ComneckServer.start(
                ServerOptions.DEFAULT
                        .withPorts(-1, 0)
                        .withSecurity(ServerOptions.Security.NONE
                                .withTls(own.certificate(), own.key())
                                .withTokens(file)),
                Models.of(new Model("m", "1", null)),
                new Metrics(),
                compute);
        ClientOptions plain = ClientOptions.of("localhost", server.tcpPort());
        ClientOptions tls = plain.withTls(Identity.trusting(own, null));
        byte[] body = "body".getBytes(StandardCharsets.US_ASCII);
        try (ComneckClient client = ComneckClient.open(tls.withAccessToken("a-token"))) {
            assertEquals(
                    4,
                    client.tokens(body)
                            .get(20, TimeUnit.SECONDS)
                            .values()
                            .data()
                            .byteSize());
        }
        for (ClientOptions wrong : List.of(tls, tls.withAccessToken("another"), plain.withAccessToken("a-token"))) {
            try (ComneckClient client = ComneckClient.open(wrong)) {
                CompletableFuture<?> answer = client.tokens(body);
                assertThrows(ExecutionException.class, () -> answer.get(20, TimeUnit.SECONDS));
            }
        }
        assertFalse(server.metrics().text().contains("comneck_refusals_total{reason=\"unauthorized\"} 0\n"));
    }

    @Test
    void pagesOfOtherSitesAreRefused() throws Exception {
        start(ServerOptions.Security.NONE);
        try (RawHttp client = new RawHttp(server.httpPort())) {
            String foreign = RawHttp.post("/v1/tokens", "Origin: http://evil.example\r\n", "aa");
            assertEquals(403, client.send(foreign).response().status());
            assertEquals(
                    200,
                    client.send(RawHttp.post("/v1/tokens", "Origin: http://x\r\n", "aa"))
                            .response()
                            .status());
        }
    }

    @Test
    void publicAddressesNeedTlsOrTokensOrAWord() throws Exception {
        ServerOptions everywhere = ServerOptions.DEFAULT.withHost("0.0.0.0");
        UsageException error = assertThrows(UsageException.class, () -> start(everywhere));
        assertTrue(error.getMessage().contains("--insecure-public"), error.getMessage());
        Path file = Files.writeString(folder.resolve("tokens"), "a-token\n");
        start(everywhere.withSecurity(ServerOptions.Security.NONE.withTokens(file)));
        server.close();
        start(everywhere.withSecurity(ServerOptions.Security.NONE.withInsecurePublic(true)));
        for (Path wrong : List.of(folder.resolve("none"), Files.writeString(folder.resolve("empty"), "#\n"))) {
            assertThrows(
                    UsageException.class,
                    () -> ComneckServer.start(
                            ServerOptions.DEFAULT
                                    .withPorts(0, -1)
                                    .withSecurity(ServerOptions.Security.NONE.withTokens(wrong)),
                            Models.of(new Model("m", "1", null))));
        }
    }
}

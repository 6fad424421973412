package org.comneck.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.server.ComneckServer;
import org.comneck.server.Identity;
import org.comneck.server.LeakCheck;
import org.comneck.server.Models;
import org.comneck.server.ServerOptions;
import org.comneck.wire.Reason;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** Both clients against the real server under TLS that asks for client certificates and bearer tokens. */
@ExtendWith(LeakCheck.class)
class ClientSecurityTest {
    private static final String TOKEN = "a-long-token";

    @TempDir
    static Path folder;

    private static Identity own;
    private static Identity friend;
    private static Identity stranger;
    private static ComneckServer server;
    private static byte[] bitstream;
    private static byte[] npyElements; // f16

    @BeforeAll
    static void start() throws Exception {
        own = Identity.of(folder, "server");
        friend = Identity.of(folder, "friend");
        stranger = Identity.of(folder, "stranger");
        Path tokens = Files.writeString(folder.resolve("tokens"), TOKEN + "\n");
        server = ComneckServer.start(
                ServerOptions.DEFAULT
                        .withPorts(0, 0)
                        .withSecurity(ServerOptions.Security.NONE
                                .withTls(own.certificate(), own.key())
                                .withClientAuthority(friend.certificate())
                                .withTokens(tokens)),
                Models.embedded(EngineOptions.DEFAULT));
        try (NativeEngine engine = NativeEngine.openDefault()) {
            bitstream = engine.encode(Photo.read(Path.of("docs", "photo.jpg")));
        }
        Files.write(folder.resolve("photo.cnk"), bitstream);
        try (ComneckClient client = ComneckClient.open(options(friend))) {
            Tokens answer = client.tokens(bitstream).get(60, TimeUnit.SECONDS);
            assertEquals("[256,192]", answer.values().shape().toString());
            npyElements = answer.values().data().toArray(ValueLayout.JAVA_BYTE);
        }
    }

    @AfterAll
    static void stop() {
        if (server != null) {
            server.close();
        }
    }

    private static ClientOptions options(Identity client) throws Exception {
        return ClientOptions.of("localhost", server.tcpPort())
                .withTls(Identity.trusting(own, client))
                .withAccessToken(TOKEN);
    }

    private static RequestException refused(ClientOptions options) {
        try (ComneckClient client = ComneckClient.open(options)) {
            ExecutionException error = assertThrows(
                    ExecutionException.class, () -> client.tokens(bitstream).get(60, TimeUnit.SECONDS));
            return assertInstanceOf(RequestException.class, error.getCause());
        }
    }

    @Test
    void javaNeedsCertificateAndToken() throws Exception {
        // That the right ones are enough is seen in start().
        assertEquals(
                Reason.UNAUTHORIZED,
                refused(options(friend).withAccessToken(null)).reason());
        assertEquals(
                Reason.UNAUTHORIZED,
                refused(options(friend).withAccessToken(TOKEN + "x")).reason());
        for (ClientOptions wrong : List.of(
                options(stranger),
                options(null),
                options(friend).withTls(null),
                options(friend).withTls(Identity.trusting(stranger, friend)))) {
            RequestException error = refused(wrong);
            assertEquals(null, error.reason(), error.getMessage());
            assertTrue(error.getMessage().contains("localhost:" + server.tcpPort()), error.getMessage());
        }
    }

    private record Ended(int status, String errors) {}

    private static Ended python(Path out, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(
                "python3",
                "-B",
                Path.of("clients", "python", "comneck_client.py").toString(),
                folder.resolve("photo.cnk").toString(),
                "--out",
                out.toString()));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).start();
        String errors = new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
        assertTrue(process.waitFor(60, TimeUnit.SECONDS));
        return new Ended(process.exitValue(), errors);
    }

    @Test
    void pythonNeedsCertificateAndToken() throws Exception {
        Assumptions.assumeTrue(
                new ProcessBuilder("sh", "-c", "command -v python3")
                                .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                                .start()
                                .waitFor()
                        == 0,
                "skipped: there is no python3");
        String[] tls = {"--ca", own.certificate().toString()};
        String[] certificate = {
            "--cert", friend.certificate().toString(), "--key", friend.key().toString()
        };
        String[] token = {"--token-file", folder.resolve("tokens").toString()};
        String[][] ways = {
            {"--host", "localhost", "--port", "" + server.tcpPort()},
            {"--http", "https://localhost:" + server.httpPort()}
        };
        for (String[] way : ways) {
            Path out = Files.createTempFile(folder, "t", ".npy");
            Ended good = python(out, join(way, tls, certificate, token));
            assertEquals(0, good.status, good.errors);
            byte[] npy = Files.readAllBytes(out);
            assertArrayEquals(npyElements, Arrays.copyOfRange(npy, npy.length - npyElements.length, npy.length));
            for (String[] wrong : new String[][] {
                join(way, tls, certificate), // no token
                join(way, tls, token), // no certificate
                join(way, certificate, tls, token, new String[] {
                    "--ca", friend.certificate().toString()
                }), // not that server
            }) {
                Ended bad = python(out, wrong);
                assertEquals(1, bad.status, bad.errors);
                assertEquals(1, bad.errors.lines().count(), bad.errors);
                assertTrue(bad.errors.startsWith("comneck_client: "), bad.errors);
                if (wrong.length == way.length + 6) {
                    assertTrue(bad.errors.contains("token is needed"), bad.errors);
                }
            }
        }
    }

    private static String[] join(String[]... parts) {
        return Arrays.stream(parts).flatMap(Arrays::stream).toArray(String[]::new);
    }
}

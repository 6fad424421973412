package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.EOFException;
import java.io.IOException;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.comneck.engine.EncodeOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.wire.Message;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code comneck serve} as a process of its own: how it begins, and its two ends. */
class ServeProcessTest {
    private static final int IMAGES = 8;
    private static byte[] many; // a bitstream of many pictures, which takes a while

    @TempDir
    Path folder;

    private Process process;
    private BufferedReader out;
    private String first;
    private int httpPort;
    private int tcpPort;

    @BeforeAll
    static void encode() {
        try (NativeEngine engine = NativeEngine.openDefault()) {
            Photo photo = Photo.read(Path.of("docs", "photo.jpg"));
            many = engine.encode(Collections.nCopies(IMAGES, photo), EncodeOptions.DEFAULT);
        }
    }

    @AfterEach
    void kill() {
        if (process != null) {
            process.destroyForcibly();
        }
    }

    /** Starts it and reads what it says when it is ready. */
    private void serve(int port, int tcp) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-XX:-UsePerfData", // which would leave a file in /tmp
                "-Djava.io.tmpdir=" + folder,
                "-cp",
                System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
                "org.comneck.cli.Main",
                "serve",
                "--threads",
                "1",
                "--batch",
                "1",
                "--drain-timeout",
                "120",
                "--port",
                "" + port,
                "--tcp-port",
                "" + tcp));
        process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.DISCARD)
                .start();
        out = process.inputReader(StandardCharsets.UTF_8);
        first = out.readLine();
        httpPort = port(first, "comneck: serving comneck-tiny at http://127\\.0\\.0\\.1:(\\d+), after \\d+\\.\\d\\d s");
        tcpPort = port(out.readLine(), "comneck: binary protocol at 127\\.0\\.0\\.1:(\\d+)");
        String curl = out.readLine();
        assertTrue(curl.startsWith("try: curl ") && curl.contains("http://127.0.0.1:" + httpPort + "/v1/tokens"), curl);
    }

    private static int port(String line, String pattern) {
        Matcher matcher = Pattern.compile(pattern).matcher(line == null ? "nothing" : line);
        assertTrue(matcher.matches(), line);
        return Integer.parseInt(matcher.group(1));
    }

    private int inFlight(RawHttp http) throws IOException {
        String text =
                http.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").response().text();
        Matcher matcher =
                Pattern.compile("\ncomneck_requests_in_flight (\\d+)\n").matcher(text);
        assertTrue(matcher.find(), text);
        return Integer.parseInt(matcher.group(1));
    }

    /** Of six requests that take long, one at least is in flight when this returns; all were accepted. */
    private void ask(TcpPeer peer, RawHttp http) throws Exception {
        peer.hello();
        for (int id = 1; id <= 6; id++) {
            peer.request(id, many);
        }
        for (int i = 0; i < 4000; i++) {
            String text = http.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                    .response()
                    .text();
            if (text.contains("\ncomneck_requests_accepted_total 6\n")) {
                return;
            }
            Thread.sleep(5);
        }
        throw new AssertionError("the requests were not accepted");
    }

    @Test
    void sigtermAnswersWhatIsInFlight() throws Exception {
        serve(0, 0);
        try (TcpPeer peer = new TcpPeer(tcpPort, 0);
                RawHttp waiting = new RawHttp(httpPort);
                RawHttp http = new RawHttp(httpPort)) {
            peer.socket.setSoTimeout(120_000);
            waiting.socket.setSoTimeout(120_000);
            ask(peer, http);
            waiting.send(join(
                    ("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: " + many.length + "\r\n\r\n").getBytes(),
                    many));
            int inFlight = inFlight(http);
            for (int i = 0; i < 4000 && inFlight < 1; i++) {
                inFlight = inFlight(http);
            }
            assertTrue(inFlight > 0, "nothing is in flight");
            process.destroy(); // SIGTERM
            Set<Long> answered = new HashSet<>();
            boolean goodBye = false;
            while (true) {
                try {
                    switch (peer.receive()) {
                        case Message.Answer answer -> {
                            assertTrue(answered.add(answer.id()), "answered twice: " + answer.id());
                            assertEquals(IMAGES, answer.shape().size(0));
                        }
                        case Message.GoAway goAway -> {
                            assertEquals(org.comneck.wire.Reason.DRAINING, goAway.reason());
                            goodBye = true;
                        }
                        case Message other -> throw new AssertionError("unexpected: " + other);
                    }
                } catch (EOFException e) {
                    break;
                }
            }
            assertEquals(Set.of(1L, 2L, 3L, 4L, 5L, 6L), answered);
            assertTrue(goodBye);
            RawHttp.Response response = waiting.response();
            // Sent a moment before: accepted and answered, or refused because the server is about to stop.
            assertTrue(response.status() == 200 || response.status() == 503, response.text());
            assertEquals("close", response.headers().get("connection"));
            assertTrue(process.waitFor(60, TimeUnit.SECONDS));
            assertEquals(0, process.exitValue());
        }
    }

    private static byte[] join(byte[] head, byte[] body) {
        byte[] all = java.util.Arrays.copyOf(head, head.length + body.length);
        System.arraycopy(body, 0, all, head.length, body.length);
        return all;
    }

    @Test
    void afterKillTheNextOneStartsOnTheSamePorts() throws Exception {
        int http;
        int tcp;
        try (ServerSocket one = new ServerSocket(0);
                ServerSocket other = new ServerSocket(0)) {
            http = one.getLocalPort();
            tcp = other.getLocalPort();
        }
        serve(http, tcp);
        try (TcpPeer peer = new TcpPeer(tcpPort, 0);
                RawHttp status = new RawHttp(httpPort)) {
            ask(peer, status);
            process.destroyForcibly(); // SIGKILL, with connections open and requests in flight
            assertTrue(process.waitFor(60, TimeUnit.SECONDS));
            assertEquals(128 + 9, process.exitValue());
            try (Stream<Path> left = Files.list(folder)) {
                assertEquals(List.of(), left.toList(), "files that it left behind");
            }
            serve(http, tcp);
        }
        assertEquals(http, httpPort);
        try (TcpPeer peer = TcpPeer.open(tcpPort)) {
            peer.socket.setSoTimeout(120_000);
            peer.request(1, many);
            assertInstanceOf(Message.Answer.class, peer.receive());
        }
    }
}

package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.BufferedReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.comneck.engine.EngineOptions;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.CleanupMode;
import org.junit.jupiter.api.io.TempDir;

/** The status page in a browser: what it shows, and what becomes of a photo that is dropped on it. */
class StatusPageTest {
    private static final JsonMapper JSON = new JsonMapper();

    /** The browser may still write to its folder when the test ends. */
    @TempDir(cleanup = CleanupMode.NEVER)
    Path folder;

    private static Path browser() {
        return Stream.of("chromium", "chromium-browser", "google-chrome")
                .flatMap(name -> Stream.of(System.getenv("PATH").split(":")).map(part -> Path.of(part, name)))
                .filter(Files::isExecutable)
                .findFirst()
                .orElse(null);
    }

    /** A page under Chromium's DevTools protocol. */
    private static final class Page implements WebSocket.Listener {
        private final BlockingQueue<JsonNode> replies = new LinkedBlockingQueue<>();
        private final StringBuilder text = new StringBuilder();
        private WebSocket socket;
        private int number;

        @Override
        public CompletionStage<?> onText(WebSocket from, CharSequence data, boolean last) {
            text.append(data);
            if (last) {
                try {
                    JsonNode message = JSON.readTree(text.toString());
                    if (message.has("id")) {
                        replies.add(message);
                    }
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
                text.setLength(0);
            }
            from.request(1);
            return null;
        }

        private JsonNode call(String method, Object... parameters) throws Exception {
            var message = JSON.createObjectNode().put("id", ++number).put("method", method);
            var values = message.putObject("params");
            for (int i = 0; i < parameters.length; i += 2) {
                values.set((String) parameters[i], JSON.valueToTree(parameters[i + 1]));
            }
            socket.sendText(message.toString(), true).join();
            JsonNode reply = replies.poll(60, TimeUnit.SECONDS);
            assertNotNull(reply, method);
            assertTrue(reply.has("result"), reply.toString());
            return reply.get("result");
        }

        private JsonNode value(String expression) throws Exception {
            JsonNode result =
                    call("Runtime.evaluate", "expression", expression, "awaitPromise", true, "returnByValue", true);
            assertTrue(!result.has("exceptionDetails"), result.toString());
            return result.at("/result/value");
        }

        private void await(String expression) throws Exception {
            // Before the page has come there is nothing to look at.
            String tried = "(() => { try { return " + expression + "; } catch (e) { return false; } })()";
            for (int i = 0; i < 600; i++) {
                if (value(tried).asBoolean()) {
                    return;
                }
                Thread.sleep(100);
            }
            throw new AssertionError("never: " + expression + "; the page says " + value("document.body.innerText"));
        }
    }

    @Test
    void aDroppedPhotoIsShownAsTheServerSeesIt() throws Exception {
        Path browser = browser();
        Assumptions.assumeTrue(browser != null, "no Chromium on this machine: the status page is not tested");
        try (ComneckServer server =
                ComneckServer.start(ServerOptions.DEFAULT.withPorts(0, -1), Models.embedded(EngineOptions.DEFAULT))) {
            visit(browser, server, StatusPageTest::dropsPhotos);
        }
    }

    @Test
    void theTokenThatAServerAsksForCanBeEntered() throws Exception {
        Path browser = browser();
        Assumptions.assumeTrue(browser != null, "no Chromium on this machine: the status page is not tested");
        Path tokens = Files.writeString(Files.createDirectories(folder).resolve("tokens.txt"), "open-sesame\n");
        ServerOptions options =
                ServerOptions.DEFAULT.withPorts(0, -1).withSecurity(ServerOptions.Security.NONE.withTokens(tokens));
        try (ComneckServer server =
                ComneckServer.start(options, Models.of(new Model("m", "1", null)), new Metrics(), StubCompute.free())) {
            visit(browser, server, page -> {
                page.await("!$('door').hidden && $('wrong').hidden");
                page.await("$('state').textContent === 'a token is needed'");
                page.value("$('token').value = 'wrong'; $('door').requestSubmit()");
                page.await("!$('door').hidden && !$('wrong').hidden");
                page.value("$('token').value = 'open-sesame'; $('door').requestSubmit()");
                page.await("$('door').hidden && $('state').textContent === 'ready'");
                page.await("$('models').innerText.includes('m 1')");
                // What the page sends besides carries it, too.
                assertEquals(
                        "aa",
                        page.value("post('v1/tokens', 'aa').then(response => response.text())")
                                .asText());
                page.value("location.reload()");
                page.await("$('state').textContent === 'ready' && $('door').hidden");
            });
        }
    }

    private interface Visit {
        void with(Page page) throws Exception;
    }

    private void visit(Path browser, ComneckServer server, Visit visit) throws Exception {
        Process process = null;
        HttpClient client = HttpClient.newHttpClient();
        try {
            process = new ProcessBuilder(List.of(
                            browser.toString(),
                            "--headless",
                            "--no-sandbox",
                            "--disable-gpu",
                            "--remote-debugging-port=0",
                            "--user-data-dir=" + folder.resolve("browser"),
                            "--window-size=1120,1000",
                            "http://127.0.0.1:" + server.httpPort() + "/"))
                    .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                    .start();
            visit.with(open(client, process));
        } finally {
            client.shutdownNow(); // closing would wait for the page's socket
            if (process != null) {
                process.descendants().forEach(ProcessHandle::destroyForcibly);
                process.destroyForcibly().waitFor();
            }
        }
    }

    private static void dropsPhotos(Page page) throws Exception {
        page.await("document.getElementById('state').textContent === 'ready'");
        page.await("document.getElementById('models').innerText.includes('comneck-tiny')");
        String photo = Base64.getEncoder().encodeToString(Files.readAllBytes(Path.of("docs", "photo.jpg")));
        page.value("""
                    (() => {
                      const bytes = Uint8Array.from(atob('%s'), c => c.charCodeAt(0)), data = new DataTransfer();
                      data.items.add(new File([bytes], 'apple.jpg', {type: 'image/jpeg'}));
                      document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true}));
                    })()""".formatted(photo));
        page.await("document.body.dataset.looked === 'apple.jpg'");
        assertEquals(
                "16x16", page.value("$('heat').width + 'x' + $('heat').height").asText());
        assertEquals(
                5, page.value("document.querySelectorAll('#classes li').length").asInt());
        assertTrue(page.value("document.getElementById('seenText').textContent")
                .asText()
                .contains("256\u00d7256"));
        page.await("document.getElementById('seen').naturalWidth === 256");
        int colours = page.value("""
                    new Set(new Uint32Array(document.getElementById('heat').getContext('2d')
                      .getImageData(0, 0, 16, 16).data.buffer)).size""").asInt();
        assertTrue(colours > 50, "a heat map of " + colours + " colours");
        page.await("Number(document.getElementById('rate').textContent) > 0"
                + " || document.getElementById('span').textContent.endsWith('last minute')");
        page.value("(() => { const data = new DataTransfer(); data.items.add(new File(['no photo'], 'x.txt'));"
                + " document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true})); })()");
        page.await("!document.getElementById('trouble').hidden");
        assertTrue(page.value("document.getElementById('trouble').textContent")
                .asText()
                .contains("JPEG, PNG or WebP"));
        Path picture = Path.of("target", "status-page.png");
        Files.write(
                picture,
                Base64.getDecoder()
                        .decode(page.call("Page.captureScreenshot").get("data").asText()));
        assertTrue(Files.size(picture) > 10_000);
    }

    /** Connects to the first page of a browser that says on standard error where it listens. */
    private static Page open(HttpClient client, Process process) throws Exception {
        String address = null;
        BufferedReader errors = process.errorReader();
        for (String line = errors.readLine(); line != null && address == null; line = errors.readLine()) {
            if (line.startsWith("DevTools listening on ws://")) {
                address = line.substring("DevTools listening on ws://".length());
                address = address.substring(0, address.indexOf('/'));
                break;
            }
        }
        assertNotNull(address, "the browser did not start");
        Thread.ofVirtual().start(() -> errors.lines().forEach(line -> {}));
        Page page = new Page();
        for (int i = 0; i < 100 && page.socket == null; i++) {
            HttpResponse<String> list = client.send(
                    HttpRequest.newBuilder(URI.create("http://" + address + "/json/list"))
                            .build(),
                    HttpResponse.BodyHandlers.ofString());
            for (JsonNode target : JSON.readTree(list.body())) {
                if (target.path("type").asText().equals("page")) {
                    page.socket = client.newWebSocketBuilder()
                            .buildAsync(
                                    URI.create(
                                            target.get("webSocketDebuggerUrl").asText()),
                                    page)
                            .get(20, TimeUnit.SECONDS);
                }
            }
            Thread.sleep(100);
        }
        assertNotNull(page.socket, "the browser shows no page");
        return page;
    }
}

package org.comneck.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.engine.TokenFormat;
import org.comneck.engine.TokenOptions;
import org.comneck.engine.TokenWriter;
import org.comneck.server.ComneckServer;
import org.comneck.server.LeakCheck;
import org.comneck.server.Models;
import org.comneck.server.ServerOptions;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** clients/python against the real server; with NumPy, and without ({@code -S} hides what was installed). */
@ExtendWith(LeakCheck.class)
class PythonClientTest {
    private static final Path CLIENT =
            Path.of("clients", "python", "comneck_client.py").toAbsolutePath();
    private static final Path EXAMPLES =
            Path.of("clients", "python", "examples").toAbsolutePath();
    private static final String PYTHON = "python3";

    @TempDir
    static Path folder;

    private static ComneckServer server;
    private static byte[] bitstream;
    private static Path file;
    private static Tensor expected; // layer -2, patches

    @BeforeAll
    static void start() throws Exception {
        Assumptions.assumeTrue(runs(List.of(PYTHON, "--version")), "skipped: there is no python3");
        server = ComneckServer.start(ServerOptions.DEFAULT.withPorts(0, 0), Models.embedded(EngineOptions.DEFAULT));
        try (NativeEngine engine = NativeEngine.openDefault()) {
            bitstream = engine.encode(Photo.read(Path.of("docs", "photo.jpg")));
            expected = engine.tokens(bitstream, TokenOptions.DEFAULT);
        }
        file = Files.write(folder.resolve("photo.cnk"), bitstream);
    }

    @AfterAll
    static void stop() {
        if (server != null) {
            server.close();
        }
    }

    private static boolean runs(List<String> command) {
        try {
            Process process = new ProcessBuilder(command)
                    .redirectErrorStream(true)
                    .redirectOutput(ProcessBuilder.Redirect.DISCARD)
                    .start();
            return process.waitFor(60, TimeUnit.SECONDS) && process.exitValue() == 0;
        } catch (IOException | InterruptedException e) {
            return false;
        }
    }

    private static boolean hasNumPy() {
        return runs(List.of(PYTHON, "-c", "import numpy"));
    }

    private record Ended(int status, byte[] out, String err) {
        String text() {
            return new String(out, StandardCharsets.UTF_8);
        }
    }

    private static Ended python(boolean plain, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(PYTHON, "-B"));
        if (plain) {
            command.add("-S");
        }
        command.addAll(List.of(arguments));
        Path errors = Files.createTempFile(folder, "err", ".txt");
        ProcessBuilder builder = new ProcessBuilder(command).redirectError(errors.toFile());
        builder.environment().put("PYTHONPATH", CLIENT.getParent().toString());
        Process process = builder.start();
        byte[] out = process.getInputStream().readAllBytes();
        assertTrue(process.waitFor(60, TimeUnit.SECONDS), "it did not end");
        return new Ended(process.exitValue(), out, Files.readString(errors));
    }

    private static byte[] npy(Tensor tensor, ElementType type) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        TokenWriter.write(out, TokenFormat.NPY, "tokens", tensor, type, Map.of());
        return out.toByteArray();
    }

    private static List<Boolean> modes() {
        return hasNumPy() ? List.of(true, false) : List.of(true);
    }

    @Test
    void commandLineWritesTheEnginesTokens() throws Exception {
        for (boolean plain : modes()) {
            for (List<String> port : List.of(
                    List.of("--port", "" + server.tcpPort()),
                    List.of("--http", "http://127.0.0.1:" + server.httpPort()))) {
                for (ElementType type : List.of(ElementType.F16, ElementType.F32)) {
                    Path out = folder.resolve("t.npy");
                    List<String> arguments = new ArrayList<>(List.of(
                            CLIENT.toString(), file.toString(), "--out", out.toString(), "--host", "127.0.0.1"));
                    arguments.addAll(List.of("--layer", "-2", "--tokens", "patches", "--dtype"));
                    arguments.add(type == ElementType.F16 ? "f16" : "f32");
                    arguments.addAll(port);
                    Ended ended = python(plain, arguments.toArray(String[]::new));
                    assertEquals(0, ended.status, ended.err);
                    assertArrayEquals(npy(expected, type), Files.readAllBytes(out), port + " plain " + plain);
                    assertTrue(ended.err.contains("[256, 192]"), ended.err);
                }
            }
        }
    }

    @Test
    void errorsAreOneLine() throws Exception {
        Path photo = Files.write(folder.resolve("no.cnk"), "nothing of use".getBytes());
        for (boolean plain : modes()) {
            Ended ended = python(
                    plain,
                    CLIENT.toString(),
                    photo.toString(),
                    "--out",
                    "-",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    "" + server.tcpPort());
            assertEquals(1, ended.status);
            assertEquals(0, ended.out.length);
            assertTrue(ended.err.startsWith("comneck_client: USAGE: the body is neither"), ended.err);
            assertEquals(1, ended.err.lines().count(), ended.err);
        }
    }

    @Test
    void theLibraryDoesWhatItSays() throws Exception {
        String script = """
                import sys, comneck_client as c
                tcp, http, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
                data = open(path, "rb").read()
                assert c.crc32c(b"123456789") == 0xE3069283
                if c.numpy is not None:
                    numpy, big = c.numpy, bytes(i * 7 & 255 for i in range(70001))
                    fast = [c.crc32c(big[:n]) for n in (2048, 2049, 65536, 70001)]
                    c.numpy = None
                    assert fast == [c.crc32c(big[:n]) for n in (2048, 2049, 65536, 70001)]
                    c.numpy = numpy
                with c.Client("127.0.0.1", tcp) as client:
                    assert client.models[0].name.startswith("comneck-tiny"), client.models
                    first = client.tokens(data)
                    assert tuple(first.shape) == (256, 192)
                    assert client.details.identity == client.models[0].identity
                    raw = lambda t: t.data if isinstance(t, c.Tokens) else t.tobytes()
                    many = list(client.tokens_many([data] * 6))
                    assert len(many) == 6 and all(raw(t) == raw(first) for t in many)
                    for t in client.tokens_many([data] * 5):
                        break  # the others are taken back
                    half = client.tokens(data, dtype="bf16")
                    full = client.tokens(data, dtype="f32")
                    values = full.tolist() if isinstance(full, c.Tokens) else full.reshape(-1).tolist()
                    assert all(abs(a - b) <= abs(b) / 256 for a, b in zip(half.tolist(), values))
                    cls = client.tokens(data, model=client.models[0].name, layer=-1, tokens="cls", post_norm="once",
                                        projected=True, deadline=30)
                    assert tuple(cls.shape) == (1, 768), cls.shape
                    for bad, reason in ((dict(layer=99), "USAGE"), (dict(model="no"), "UNKNOWN_MODEL")):
                        try:
                            client.tokens(data, **bad)
                            raise SystemExit("no error")
                        except c.ComneckError as e:
                            assert e.reason == reason, e
                    again = client.tokens(data)  # the connection lives
                    assert raw(again) == raw(first)
                    web = c.tokens_http(data, http, model=client.models[0].name, deadline=30)
                    assert raw(web) == raw(first)
                    assert c.tokens_http(data, http, dtype="bf16").data == half.data
                    try:
                        c.tokens_http(data, http, layer=99)
                        raise SystemExit("no error")
                    except c.ComneckError as e:
                        assert e.reason == "400" and "99" in str(e), e
                print("done", c.numpy is not None)
                """;
        for (boolean plain : modes()) {
            Ended ended = python(
                    plain,
                    "-c",
                    script,
                    "" + server.tcpPort(),
                    "http://127.0.0.1:" + server.httpPort(),
                    file.toString());
            assertEquals(0, ended.status, ended.err);
            assertEquals("done " + (plain ? "False" : "True"), ended.text().strip());
        }
    }

    @Test
    void vllmMessageIsAsVllmReadsIt() throws Exception {
        for (boolean plain : modes()) {
            Ended ended = python(
                    plain,
                    EXAMPLES.resolve("vllm_image_embeds.py").toString(),
                    file.toString(),
                    "--host",
                    "127.0.0.1",
                    "--port",
                    "" + server.tcpPort(),
                    "--prompt",
                    "What?");
            assertEquals(0, ended.status, ended.err);
            JsonNode body = new ObjectMapper().readTree(ended.text());
            assertEquals("llava-hf/llava-1.5-7b-hf", body.get("model").asText());
            JsonNode message = body.get("messages").get(0);
            assertEquals("user", message.get("role").asText());
            assertEquals("text", message.get("content").get(0).get("type").asText());
            assertEquals("What?", message.get("content").get(0).get("text").asText());
            JsonNode part = message.get("content").get(1);
            assertEquals(List.of("type", "image_embeds", "uuid"), names(part));
            assertEquals("image_embeds", part.get("type").asText());
            assertTrue(
                    part.get("uuid").asText().matches("[A-Za-z0-9._-]+"),
                    part.get("uuid").asText());
            Tensor one = new Tensor(expected.type(), Shape.of(1, 256, 192), expected.data());
            assertArrayEquals(
                    npy(one, ElementType.F16),
                    Base64.getDecoder().decode(part.get("image_embeds").asText()));
        }
    }

    private static List<String> names(JsonNode node) {
        List<String> names = new ArrayList<>();
        node.fieldNames().forEachRemaining(names::add);
        return names;
    }

    @Test
    void vllmCacheFileIsWhereAndAsVllmReadsIt() throws Exception {
        for (boolean plain : modes()) {
            Path storage = Files.createTempDirectory(folder, "ec");
            Ended ended = python(
                    plain,
                    EXAMPLES.resolve("vllm_ec_cache.py").toString(),
                    file.toString(),
                    "--host",
                    "127.0.0.1",
                    "--port",
                    "" + server.tcpPort(),
                    "--storage",
                    storage.toString());
            assertEquals(0, ended.status, ended.err);
            Path written = storage.resolve(ended.text().strip()).resolve("encoder_cache.safetensors");
            ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(written)).order(ByteOrder.LITTLE_ENDIAN);
            byte[] header = new byte[Math.toIntExact(bytes.getLong())];
            bytes.get(header);
            assertEquals(
                    "{\"ec_cache\":{\"dtype\":\"F16\",\"shape\":[256,192],\"data_offsets\":[0,98304]}}",
                    new String(header, StandardCharsets.US_ASCII).strip());
            byte[] npy = npy(expected, ElementType.F16);
            byte[] elements = new byte[bytes.remaining()];
            bytes.get(elements);
            assertArrayEquals(java.util.Arrays.copyOfRange(npy, 128, npy.length), elements);
            try (var inside = Files.list(written.getParent())) {
                assertEquals(1, inside.count(), "something was left behind");
            }
        }
    }

    @Test
    void theProjectorOfTheLanguageModelIsApplied() throws Exception {
        Assumptions.assumeTrue(hasNumPy(), "skipped: python3 has no numpy");
        String script = """
                import sys, json, base64, io, numpy, os
                sys.path.insert(0, sys.argv[1])
                import vllm_image_embeds as v
                rng = numpy.random.default_rng(1)
                weights = {"linear_1.weight": rng.normal(size=(8, 4)), "linear_1.bias": rng.normal(size=8),
                           "linear_2.weight": rng.normal(size=(6, 8)), "linear_2.bias": rng.normal(size=6)}
                path = os.path.join(sys.argv[2], "p.npz")
                numpy.savez(path, **weights)
                x = rng.normal(size=(3, 4)).astype(numpy.float32)
                found = v.project(x, path)
                h = x @ weights["linear_1.weight"].T + weights["linear_1.bias"]
                from math import erf
                h = numpy.array([[0.5 * t * (1 + erf(t / 2 ** 0.5)) for t in row] for row in h])
                expected = h @ weights["linear_2.weight"].T + weights["linear_2.bias"]
                assert found.shape == (3, 6) and found.dtype == numpy.float16
                assert abs(found - expected).max() < 0.02
                part = v.image_embeds(found, "id")
                back = numpy.load(io.BytesIO(base64.b64decode(part["image_embeds"])))
                assert back.shape == (1, 3, 6) and (back[0] == found).all()
                """;
        Ended ended = python(false, "-c", script, EXAMPLES.toString(), folder.toString());
        assertEquals(0, ended.status, ended.err);
    }
}

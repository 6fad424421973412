package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.comneck.engine.EncodeOptions;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.model.Progress;
import org.comneck.model.SeededModel;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** {@code /v1} and {@code /v2} of a server with a folder of real, small models. */
@ExtendWith(LeakCheck.class)
class InferenceApiTest {
    private static final JsonMapper JSON = new JsonMapper();

    @TempDir
    static Path folder;

    private static Path modelFile;
    private static NativeEngine engine;
    private static ComneckServer server;
    private static HttpClient client;
    private static byte[] bitstream;
    private static byte[] tokens;

    @BeforeAll
    static void start() throws IOException {
        modelFile = folder.resolve("small/1/model.safetensors");
        Files.createDirectories(modelFile.getParent());
        SeededModel.named(SeededModel.TINY).write(modelFile, Progress.NONE);
        engine = NativeEngine.open(modelFile);
        bitstream = engine.encode(
                List.of(Photo.read(Path.of("docs", "photo.jpg")).crop(0, 0, 64, 64)),
                EncodeOptions.DEFAULT.withFull(true));
        Tensor expected = engine.tokens(bitstream);
        tokens = expected.data().toArray(ValueLayout.JAVA_BYTE);
        server = ComneckServer.start(
                ServerOptions.DEFAULT.withPorts(0, -1), Models.folder(folder, EngineOptions.DEFAULT));
        client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    }

    @AfterAll
    static void stop() {
        client.close();
        server.close();
        engine.close();
    }

    private static HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + server.httpPort() + path));
    }

    private static HttpResponse<byte[]> send(HttpRequest.Builder request) throws Exception {
        return client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
    }

    private static JsonNode get(String path) throws Exception {
        HttpResponse<byte[]> response = send(to(path));
        assertEquals(200, response.statusCode(), path);
        return JSON.readTree(response.body());
    }

    private static HttpResponse<byte[]> post(String path, byte[] body, String... headers) throws Exception {
        HttpRequest.Builder request = to(path).POST(HttpRequest.BodyPublishers.ofByteArray(body));
        if (headers.length > 0) {
            request.headers(headers);
        }
        return send(request);
    }

    private static byte[] join(byte[]... parts) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            out.writeBytes(part);
        }
        return out.toByteArray();
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** JSON and tensor of an answer with the binary extension. */
    private static JsonNode binary(HttpResponse<byte[]> response, byte[] expected) throws IOException {
        assertEquals(200, response.statusCode(), new String(response.body(), StandardCharsets.UTF_8));
        int length = Integer.parseInt(
                response.headers().firstValue("Inference-Header-Content-Length").orElseThrow());
        JsonNode json = JSON.readTree(Arrays.copyOf(response.body(), length));
        byte[] data = Arrays.copyOfRange(response.body(), length, response.body().length);
        assertEquals(
                data.length, json.at("/outputs/0/parameters/binary_data_size").asInt());
        assertArrayEquals(expected, data);
        return json;
    }

    @Test
    void serverAndModelsDescribeThemselves() throws Exception {
        assertEquals("comneck", get("/v2").get("name").asText());
        assertTrue(get("/v2").get("extensions").toString().contains("\"binary_tensor_data\""));
        assertTrue(get("/v2/health/live").get("live").asBoolean());
        assertTrue(get("/v2/health/ready").get("ready").asBoolean());
        assertTrue(get("/v2/models/small/ready").get("ready").asBoolean());
        assertTrue(get("/v2/models/small/versions/1/ready").get("ready").asBoolean());
        JsonNode metadata = get("/v2/models/small");
        assertEquals("[\"1\"]", metadata.get("versions").toString());
        assertEquals(
                "{\"name\":\"bitstream\",\"datatype\":\"UINT8\",\"shape\":[-1]}",
                metadata.at("/inputs/0").toString());
        assertEquals("FP32", metadata.at("/outputs/0/datatype").asText());
        JsonNode config = get("/v2/models/small/config");
        assertEquals("TYPE_UINT8", config.at("/input/0/data_type").asText());
        assertEquals(metadata.at("/outputs/0/shape"), config.at("/output/0/dims"));
        assertEquals(404, send(to("/v2/models/none")).statusCode());
        HttpResponse<byte[]> error = send(to("/v2/models/small/versions/2"));
        assertEquals(404, error.statusCode());
        assertTrue(JSON.readTree(error.body()).get("error").isTextual());
    }

    @Test
    void rawBodiesAreTheOneInput() throws Exception {
        HttpResponse<byte[]> response =
                post("/v2/models/small/infer", bitstream, "Inference-Header-Content-Length", "0");
        JsonNode json = binary(response, tokens);
        assertEquals("small", json.get("model_name").asText());
        assertEquals("1", json.get("model_version").asText());
        assertEquals("FP32", json.at("/outputs/0/datatype").asText());
    }

    @Test
    void binaryTensorsFollowTheJson() throws Exception {
        byte[] json = utf8("""
                {"id":"42","inputs":[{"name":"bitstream","datatype":"UINT8","shape":[%d],
                "parameters":{"binary_data_size":%d}}],"outputs":[{"name":"tokens","parameters":{"binary_data":true}}]}""".formatted(bitstream.length, bitstream.length));
        String length = Integer.toString(json.length);
        HttpResponse<byte[]> response = post(
                "/v2/models/small/versions/1/infer", join(json, bitstream), "Inference-Header-Content-Length", length);
        assertEquals("42", binary(response, tokens).get("id").asText());
        HttpResponse<byte[]> tooShort = post(
                "/v2/models/small/infer",
                join(json, Arrays.copyOf(bitstream, 10)),
                "Inference-Header-Content-Length",
                length);
        assertEquals(400, tooShort.statusCode());
        byte[] prefixed = utf8("""
                {"inputs":[{"name":"bitstream","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":%d}}],
                "parameters":{"binary_data_output":true}}""".formatted(bitstream.length + 4));
        byte[] size = {(byte) bitstream.length, (byte) (bitstream.length >> 8), 0, 0};
        response = post(
                "/v2/models/small/infer",
                join(prefixed, size, bitstream),
                "Inference-Header-Content-Length",
                Integer.toString(prefixed.length));
        binary(response, tokens);
    }

    @Test
    void jsonAloneWorksToo() throws Exception {
        String data = IntStream.range(0, bitstream.length)
                .mapToObj(i -> Integer.toString(bitstream[i] & 0xFF))
                .collect(Collectors.joining(","));
        String inputs = "\"inputs\":[{\"name\":\"bitstream\",\"datatype\":\"UINT8\",\"shape\":[" + bitstream.length
                + "],\"data\":[[" + data + "]]}]";
        HttpResponse<byte[]> response = post("/v2/models/small/infer", utf8("{" + inputs + "}"));
        assertEquals(200, response.statusCode(), new String(response.body(), StandardCharsets.UTF_8));
        JsonNode output = JSON.readTree(response.body()).at("/outputs/0");
        float[] expected = engine.tokens(bitstream).toFloats();
        assertEquals(expected.length, output.get("data").size());
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], output.get("data").get(i).floatValue());
        }
        String noText = "{\"parameters\":{\"dtype\":\"f16\"}," + inputs + "}";
        assertEquals(400, post("/v2/models/small/infer", utf8(noText)).statusCode());
    }

    @Test
    void absurdRequestsAreTypedErrors() throws Exception {
        for (String json : List.of(
                "",
                "[]",
                "{",
                "{}",
                "{\"inputs\":3}",
                "{\"inputs\":[{\"name\":\"other\",\"datatype\":\"UINT8\",\"shape\":[1],\"data\":[1]}]}",
                "{\"inputs\":[{\"name\":\"bitstream\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]}]}",
                "{\"inputs\":[{\"name\":\"bitstream\",\"datatype\":\"UINT8\",\"shape\":[1],\"data\":[256]}]}",
                "{\"inputs\":[{\"name\":\"bitstream\",\"datatype\":\"UINT8\",\"shape\":[1],\"data\":[[1}]}",
                "{\"inputs\":[{\"name\":\"bitstream\",\"datatype\":\"UINT8\",\"shape\":[1],"
                        + "\"parameters\":{\"binary_data_size\":-5}}]}",
                "{\"inputs\":[{\"name\":\"bitstream\",\"datatype\":\"BYTES\",\"shape\":[1],"
                        + "\"parameters\":{\"binary_data_size\":2147483647}}]}",
                "{\"inputs\":[{\"name\":\"bitstream\",\"datatype\":\"UINT8\",\"shape\":[1]}]}",
                "[".repeat(2000))) {
            HttpResponse<byte[]> response = post("/v2/models/small/infer", utf8(json));
            assertEquals(400, response.statusCode(), json);
            assertTrue(JSON.readTree(response.body()).get("error").isTextual(), json);
        }
        assertEquals(
                400,
                post("/v2/models/small/infer", new byte[3], "Inference-Header-Content-Length", "4")
                        .statusCode());
        assertEquals(
                400,
                post("/v2/models/small/infer", new byte[3], "Inference-Header-Content-Length", "0")
                        .statusCode());
    }

    private static JsonNode json(RawHttp client, String target) throws IOException {
        RawHttp.Response response = client.send("GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n")
                .response();
        assertEquals(200, response.status(), target + ": " + response.text());
        return JSON.readTree(response.body());
    }

    /** What Triton's perf_analyzer sends by its C++ client, over one connection, and what it reads from the answers. */
    @Test
    void perfAnalyzersRequestsOneAfterTheOther() throws Exception {
        try (RawHttp client = new RawHttp(server.httpPort())) {
            List<String> extensions = new ArrayList<>();
            json(client, "/v2").get("extensions").forEach(name -> extensions.add(name.asText()));
            assertTrue(extensions.containsAll(List.of("statistics", "model_configuration", "binary_tensor_data")));
            JsonNode metadata = json(client, "/v2/models/small");
            assertEquals("bitstream", metadata.at("/inputs/0/name").asText());
            assertEquals("UINT8", metadata.at("/inputs/0/datatype").asText());
            assertEquals(-1, metadata.at("/inputs/0/shape/0").asInt());
            assertEquals("tokens", metadata.at("/outputs/0/name").asText());
            JsonNode config = json(client, "/v2/models/small/config");
            assertEquals(0, config.get("max_batch_size").asInt(-1));
            for (String absent : List.of("sequence_batching", "ensemble_scheduling", "model_transaction_policy")) {
                assertTrue(config.get(absent) == null, absent); // one request, one answer
            }
            long[] before = counted(client);
            String request = "{\"id\":\"%d\",\"inputs\":[{\"name\":\"bitstream\",\"shape\":[" + bitstream.length
                    + "],\"datatype\":\"UINT8\",\"parameters\":{\"binary_data_size\":" + bitstream.length + "}}]%s}";
            String[] outputs = {
                ",\"outputs\":[{\"name\":\"tokens\",\"parameters\":{\"binary_data\":true}}]",
                ",\"parameters\":{\"binary_data_output\":true}",
                ",\"outputs\":[{\"name\":\"tokens\",\"parameters\":{\"binary_data\":true}}]"
            };
            for (int i = 0; i < outputs.length; i++) {
                byte[] head = utf8(request.formatted(i, outputs[i]));
                String path = i == 2 ? "/v2/models/small/versions/1/infer" : "/v2/models/small/infer";
                client.send("POST " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n"
                        + "Inference-Header-Content-Length: " + head.length
                        + "\r\nContent-Type: application/octet-stream\r\nContent-Length: "
                        + (head.length + bitstream.length) + "\r\n\r\n");
                client.send(head).send(bitstream);
                RawHttp.Response response = client.response();
                assertEquals(200, response.status(), response.text());
                int length = Integer.parseInt(response.headers().get("inference-header-content-length"));
                JsonNode answer = JSON.readTree(Arrays.copyOf(response.body(), length));
                assertEquals("" + i, answer.get("id").asText());
                assertEquals("tokens", answer.at("/outputs/0/name").asText());
                assertEquals(
                        tokens.length,
                        answer.at("/outputs/0/parameters/binary_data_size").asInt());
                assertArrayEquals(tokens, Arrays.copyOfRange(response.body(), length, response.body().length));
            }
            long[] after = counted(client);
            for (int i = 0; i < after.length; i++) {
                assertTrue(after[i] >= before[i], "figure " + i);
            }
            assertEquals(before[0] + outputs.length, after[0]);
        }
    }

    /** The figures of which perf_analyzer takes differences. */
    private static long[] counted(RawHttp client) throws IOException {
        JsonNode stats = json(client, "/v2/models/small/stats").at("/model_stats/0");
        assertEquals("small", stats.get("name").asText());
        assertEquals("1", stats.get("version").asText());
        List<Long> values = new ArrayList<>();
        values.add(stats.get("inference_count").asLong());
        values.add(stats.get("execution_count").asLong());
        for (String part : List.of(
                "success", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")) {
            values.add(stats.at("/inference_stats/" + part + "/count").asLong(-1));
            values.add(stats.at("/inference_stats/" + part + "/ns").asLong(-1));
        }
        assertTrue(values.stream().allMatch(value -> value >= 0), stats.toString());
        return values.stream().mapToLong(Long::longValue).toArray();
    }

    @Test
    void statisticsCount() throws Exception {
        JsonNode before = get("/v2/models/small/stats").at("/model_stats/0");
        post("/v2/models/small/infer", bitstream, "Inference-Header-Content-Length", "0");
        JsonNode after = get("/v2/models/stats").at("/model_stats/0");
        assertEquals(
                before.get("inference_count").asLong() + 1,
                after.get("inference_count").asLong());
        assertTrue(after.at("/inference_stats/compute_infer/ns").asLong()
                > before.at("/inference_stats/compute_infer/ns").asLong());
    }

    @Test
    void versionsOneAnswersInTheAcceptedForm() throws Exception {
        HttpResponse<byte[]> npy = post("/v1/tokens?dtype=f32", bitstream, "Accept", "application/x-npy");
        assertEquals(128 + tokens.length, npy.body().length);
        assertArrayEquals(tokens, Arrays.copyOfRange(npy.body(), 128, npy.body().length));
        HttpResponse<byte[]> raw = post("/v1/tokens?dtype=f32", bitstream, "Accept", "text/html, */*;q=0.1");
        assertArrayEquals(tokens, raw.body());
        HttpResponse<byte[]> halves = post("/v1/tokens?format=safetensors", bitstream);
        assertEquals('{', halves.body()[8]);
        assertTrue(new String(halves.body(), 0, 200, StandardCharsets.ISO_8859_1).contains("\"F16\""));
        assertEquals(400, post("/v1/tokens?format=npy&dtype=bf16", bitstream).statusCode());
        byte[] damaged = bitstream.clone();
        damaged[40] ^= 1;
        HttpResponse<byte[]> error = post("/v1/tokens", damaged);
        assertEquals(422, error.statusCode());
        assertEquals("damaged", JSON.readTree(error.body()).at("/error/type").asText());
        assertEquals(24, JSON.readTree(error.body()).at("/error/offset").asInt());
    }

    /** Requests go on while the model is swapped again and again: each is answered by one version or the other, none fails. */
    @Test
    void modelsAreLoadedSwappedAndUnloadedWhileTheServerRuns() throws Exception {
        Path second = folder.resolve("other/1.safetensors");
        Files.createDirectories(second.getParent());
        Files.copy(modelFile, second);
        assertEquals(404, post("/v1/tokens?model=other", bitstream).statusCode());
        assertTrue(JSON.readTree(post("/v2/repository/index", new byte[0]).body())
                .toString()
                .contains("UNAVAILABLE"));
        assertEquals(200, post("/v2/repository/models/other/load", new byte[0]).statusCode());
        CompletableFuture<Void> requests = CompletableFuture.runAsync(() -> {
            try {
                for (int i = 0; i < 40; i++) {
                    HttpResponse<byte[]> response = post("/v1/tokens?model=other&dtype=f32", bitstream);
                    assertEquals(200, response.statusCode());
                    assertArrayEquals(tokens, response.body());
                }
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        for (int version = 2; version <= 4; version++) {
            Files.copy(modelFile, folder.resolve("other/" + version + ".safetensors"));
            Files.delete(folder.resolve("other/" + (version - 1) + ".safetensors"));
            assertEquals(
                    200, post("/v2/repository/models/other/load", new byte[0]).statusCode());
            assertEquals(
                    "[\"" + version + "\"]",
                    get("/v2/models/other").get("versions").toString());
        }
        requests.get();
        Files.writeString(folder.resolve("other/5.safetensors"), "no model");
        assertEquals(400, post("/v2/repository/models/other/load", new byte[0]).statusCode());
        assertEquals(200, post("/v1/tokens?model=other&version=4", bitstream).statusCode());
        assertEquals(
                200, post("/v2/repository/models/other/unload", new byte[0]).statusCode());
        assertEquals(404, post("/v1/tokens?model=other", bitstream).statusCode());
        assertEquals(
                400, post("/v2/repository/models/nothing/load", new byte[0]).statusCode());
    }
}

package org.comneck.server;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufInputStream;
import io.netty.buffer.Unpooled;
import io.netty.handler.codec.http.HttpMethod;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import org.comneck.UsageException;
import org.comneck.engine.EncodeOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.TokenOptions;
import org.comneck.model.Manifest;
import org.comneck.tensor.ElementType;
import org.comneck.vision.VisionEncoder;

/**
 * {@code /v2}: the Open Inference Protocol over REST with the binary tensor extension, and what Triton's clients ask for besides: model
 * configuration, statistics, the model repository.
 *
 * <p>A model has one input, {@value #INPUT}: UINT8 [-1], the bytes of a bitstream or photo (BYTES [1] is taken too, in binary form), and one
 * output, {@value #OUTPUT}: FP32 [tokens, D], or FP16 and BF16 where the request's parameter {@code dtype} says so, which have no JSON form.
 */
final class InferenceApi implements HttpRoutes.Api {
    static final String INPUT = "bitstream";
    static final String OUTPUT = "tokens";
    private static final String JSON_BYTES = "inference-header-content-length";
    private static final int MAX_JSON_BYTES = 4 << 20;
    private static final int JSON_ON_EVENT_LOOP = 4 << 10;
    private static final int MAX_ID = 128;

    private final Core core;

    InferenceApi(Core core) {
        this.core = core;
    }

    @Override
    public List<Route> at(List<String> segments) {
        if (segments.isEmpty() || !segments.getFirst().equals("v2")) {
            return List.of();
        }
        return switch (segments.size() < 2 ? "" : segments.get(1)) {
            case "" -> List.of(Route.get(this::server));
            case "health" -> health(segments.subList(2, segments.size()));
            case "models" -> model(segments.subList(2, segments.size()));
            case "repository" -> repository(segments.subList(2, segments.size()));
            default -> List.of();
        };
    }

    private List<Route> health(List<String> rest) {
        return switch (String.join("/", rest)) {
            case "live" -> List.of(Route.openGet(call -> state(call, "live", true)));
            case "ready" -> List.of(Route.openGet(call -> state(call, "ready", core.ready())));
            default -> List.of();
        };
    }

    /** {@code {m}[/versions/{v}][/ready|/config|/stats|/infer]}, and {@code stats} of all. */
    private List<Route> model(List<String> rest) {
        if (rest.equals(List.of("stats"))) {
            return List.of(Route.get(call -> stats(call, null, null)));
        }
        if (rest.isEmpty()) {
            return List.of();
        }
        String name = rest.getFirst();
        boolean versioned = rest.size() >= 3 && rest.get(1).equals("versions");
        String version = versioned ? rest.get(2) : null;
        List<String> verb = rest.subList(versioned ? 3 : 1, rest.size());
        return switch (String.join("/", verb)) {
            case "" -> List.of(Route.get(with(name, version, this::metadata)));
            case "ready" -> List.of(Route.openGet(call -> modelReady(call, name, version)));
            case "config" -> List.of(Route.get(with(name, version, this::config)));
            case "stats" -> List.of(Route.get(call -> stats(call, name, version)));
            case "infer" -> List.of(Route.post(core.limits().bodyBytes(), call -> infer(call, name, version)));
            default -> List.of();
        };
    }

    private List<Route> repository(List<String> rest) {
        if (rest.equals(List.of("index"))) {
            return List.of(
                    Route.post(1 << 16, call -> administrator(call, () -> index(call))),
                    new Route(HttpMethod.GET, 0, false, call -> administrator(call, () -> index(call))));
        }
        if (rest.size() == 3 && rest.getFirst().equals("models")) {
            String name = rest.get(1);
            if (rest.get(2).equals("load")) {
                return List.of(Route.post(
                        1 << 16,
                        call -> administrator(call, () -> {
                            core.models().load(name);
                            call.json(HttpCall.JSON.createObjectNode());
                        })));
            }
            if (rest.get(2).equals("unload")) {
                return List.of(Route.post(
                        1 << 16,
                        call -> administrator(call, () -> {
                            core.models().unload(name);
                            call.json(HttpCall.JSON.createObjectNode());
                        })));
            }
        }
        return List.of();
    }

    private void administrator(HttpCall call, Runnable task) {
        away(core.administrator(), call, task, Unpooled.EMPTY_BUFFER);
    }

    /**
     * Runs what reads files or much JSON away from the event loop.
     *
     * @param owned released when the task is refused
     */
    private static void away(Executor thread, HttpCall call, Runnable task, ByteBuf owned) {
        try {
            thread.execute(() -> {
                try {
                    task.run();
                } catch (RuntimeException e) {
                    failed(call, e);
                }
            });
        } catch (RejectedExecutionException e) {
            owned.release();
            call.reject(Reason.QUEUE_FULL, "too many requests of this kind: come back later");
        }
    }

    private static void failed(HttpCall call, RuntimeException error) {
        switch (error) {
            case UsageException usage -> call.reject(Reason.BAD_REQUEST, usage.getMessage());
            case org.comneck.DamagedDataException damaged -> call.reject(Reason.DAMAGED, damaged.getMessage());
            default -> call.internal(error);
        }
    }

    // ---------------------------------------------------------------- what is there

    private void server(HttpCall call) {
        ObjectNode json = HttpCall.JSON.createObjectNode();
        String version = InferenceApi.class.getPackage().getImplementationVersion();
        json.put("name", "comneck").put("version", version == null ? "dev" : version);
        ArrayNode extensions = json.putArray("extensions");
        List.of("binary_tensor_data", "model_configuration", "model_repository", "statistics")
                .forEach(extensions::add);
        call.json(json);
    }

    private static void state(HttpCall call, String name, boolean holds) {
        call.text(holds ? 200 : 503, "application/json", "{\"" + name + "\":" + holds + "}");
    }

    private void modelReady(HttpCall call, String name, String version) {
        Model model = core.models().use(name, version);
        if (model == null) {
            call.reject(Reason.UNKNOWN_MODEL, core.models().unknown(name, version));
            return;
        }
        core.models().release(model);
        ObjectNode json = HttpCall.JSON.createObjectNode().put("name", name).put("ready", core.ready());
        call.text(core.ready() ? 200 : 503, "application/json", json.toString());
    }

    private interface OfModel {
        ObjectNode json(Model model);
    }

    private Route.Handler with(String name, String version, OfModel body) {
        return call -> {
            Model model = core.models().use(name, version);
            if (model == null) {
                call.reject(Reason.UNKNOWN_MODEL, core.models().unknown(name, version));
                return;
            }
            try {
                call.json(body.json(model));
            } finally {
                core.models().release(model);
            }
        };
    }

    /** [tokens, D] of a picture of the model's own size, by its default options; -1 where that cannot be said. */
    static long[] shape(NativeEngine engine) {
        Manifest.Encoder encoder = engine.manifest().encoder();
        if (encoder == null) {
            return new long[] {-1, -1};
        }
        long patches = (long) encoder.grid() * encoder.grid();
        TokenOptions options = engine.defaultTokens();
        long tokens = switch (options.select()) {
            case ALL -> patches + 1;
            case PATCHES -> patches;
            case CLS -> 1;
        };
        return new long[] {tokens, encoder.width()};
    }

    private ObjectNode metadata(Model model) {
        ObjectNode json = HttpCall.JSON.createObjectNode();
        json.put("name", model.name());
        ArrayNode versions = json.putArray("versions");
        core.models().versions(model.name()).forEach(versions::add);
        json.put("platform", "comneck");
        ObjectNode input = json.putArray("inputs").addObject();
        input.put("name", INPUT).put("datatype", "UINT8").putArray("shape").add(-1);
        ObjectNode output = json.putArray("outputs").addObject();
        ArrayNode shape = output.put("name", OUTPUT).put("datatype", "FP32").putArray("shape");
        for (long size : shape(model.engine())) {
            shape.add(size);
        }
        return json;
    }

    /** As Triton describes a model: perf_analyzer asks for it. A batch is made of requests, so max_batch_size is 0. */
    private ObjectNode config(Model model) {
        Batching batching = core.options().batching();
        ObjectNode json = HttpCall.JSON.createObjectNode();
        json.put("name", model.name()).put("platform", "comneck").put("backend", "comneck");
        json.putObject("version_policy").putObject("all");
        json.put("max_batch_size", 0);
        ObjectNode input = json.putArray("input").addObject();
        input.put("name", INPUT).put("data_type", "TYPE_UINT8").put("format", "FORMAT_NONE");
        input.putArray("dims").add(-1);
        ObjectNode output = json.putArray("output").addObject();
        output.put("name", OUTPUT).put("data_type", "TYPE_FP32");
        ArrayNode dims = output.putArray("dims");
        for (long size : shape(model.engine())) {
            dims.add(size);
        }
        ObjectNode group = json.putArray("instance_group").addObject();
        group.put("name", model.name()).put("kind", "KIND_CPU").put("count", batching.threads());
        json.putObject("parameters").putObject("identity").put("string_value", model.identity());
        return json;
    }

    private void stats(HttpCall call, String name, String version) {
        ArrayNode all = HttpCall.JSON.createArrayNode();
        for (Models.Entry entry : core.models().loaded()) {
            if ((name == null || name.equals(entry.name())) && (version == null || version.equals(entry.version()))) {
                Model model = core.models().use(entry.name(), entry.version());
                if (model != null) {
                    all.add(model.statistics().json(model));
                    core.models().release(model);
                }
            }
        }
        if (name != null && all.isEmpty()) {
            call.reject(Reason.UNKNOWN_MODEL, core.models().unknown(name, version));
            return;
        }
        ObjectNode json = HttpCall.JSON.createObjectNode();
        json.set("model_stats", all);
        call.json(json);
    }

    private void index(HttpCall call) {
        ArrayNode json = HttpCall.JSON.createArrayNode();
        for (Models.Entry entry : core.models().entries()) {
            json.addObject()
                    .put("name", entry.name())
                    .put("version", entry.version())
                    .put("state", entry.ready() ? "READY" : "UNAVAILABLE")
                    .put("reason", entry.ready() ? "" : "unloaded");
        }
        call.json(json);
    }

    // ---------------------------------------------------------------- infer

    /** What a request for inference says. */
    private static final class Inference {
        private String id = "";
        private TokenChoice choice;
        private long timeoutMicros;
        private boolean binaryOutput;
        private ByteBuf input; // owned until it is taken
        private boolean inputSeen;
        private int binaryBytes;

        private void release() {
            if (input != null) {
                input.release();
                input = null;
            }
        }
    }

    private void infer(HttpCall call, String name, String version) {
        ByteBuf body = call.takeBody();
        boolean here = true;
        try {
            TokenChoice choice = TokensApi.choice(call, ElementType.F32);
            int json = jsonBytes(call, body);
            if (json == 0 && call.headers().contains(JSON_BYTES)) {
                Inference raw = new Inference();
                raw.choice = choice;
                raw.binaryOutput = true;
                raw.input = body.retain();
                submit(call, name, version, raw);
                return;
            }
            if (json > JSON_ON_EVENT_LOOP) {
                here = false;
                away(
                        core.worker(),
                        call,
                        () -> {
                            try {
                                submit(call, name, version, read(choice, body, json));
                            } finally {
                                body.release();
                            }
                        },
                        body);
                return;
            }
            submit(call, name, version, read(choice, body, json));
        } finally {
            if (here) {
                body.release();
            }
        }
    }

    private static int jsonBytes(HttpCall call, ByteBuf body) {
        String text = call.headers().get(JSON_BYTES);
        int bytes = text == null
                ? body.readableBytes()
                : TokensApi.number(text, "Inference-Header-Content-Length", 0, Integer.MAX_VALUE);
        if (bytes > body.readableBytes()) {
            throw new UsageException("Inference-Header-Content-Length is " + bytes + ", but the body has "
                    + body.readableBytes() + " bytes");
        }
        if (bytes > MAX_JSON_BYTES) {
            throw new UsageException("JSON of " + bytes + " bytes is more than the limit of " + MAX_JSON_BYTES
                    + ": send the tensor in binary form");
        }
        return bytes;
    }

    private void submit(HttpCall call, String name, String version, Inference inference) {
        boolean taken = false;
        try {
            if (!inference.binaryOutput && inference.choice.type() != ElementType.F32) {
                throw new UsageException(
                        inference.choice.type() + " has no JSON form: set binary_data_output, or leave out dtype");
            }
            long deadline = inference.timeoutMicros > 0
                    ? call.begunNanos() + TimeUnit.MICROSECONDS.toNanos(inference.timeoutMicros)
                    : TokensApi.deadline(call);
            TokenRequest request = new TokenRequest(
                    TokenRequest.Kind.TOKENS,
                    call.id(),
                    call.traceparent(),
                    name,
                    version,
                    inference.choice,
                    EncodeOptions.DEFAULT,
                    0,
                    deadline,
                    inference.input);
            taken = true;
            call.submit(request, (answer, timing) -> {
                Answer.Tokens tokens = (Answer.Tokens) answer;
                if (inference.binaryOutput) {
                    sendBinary(call, name, inference.id, tokens, timing);
                } else {
                    try {
                        core.worker().execute(() -> sendJson(call, name, inference.id, tokens));
                    } catch (RejectedExecutionException e) {
                        tokens.release();
                        call.fail(Reason.QUEUE_FULL, "too many answers in JSON: ask for binary_data_output");
                    }
                }
            });
        } finally {
            if (!taken) {
                inference.release();
            }
        }
    }

    private static ObjectNode head(String name, String id, Answer.Tokens tokens) {
        ObjectNode json = HttpCall.JSON.createObjectNode();
        json.put("model_name", name);
        json.put("model_version", tokens.version());
        if (!id.isEmpty()) {
            json.put("id", id);
        }
        ObjectNode output = json.putArray("outputs").addObject();
        output.put("name", OUTPUT).put("datatype", datatype(tokens.type()));
        ArrayNode shape = output.putArray("shape");
        for (long size : tokens.shape().toArray()) {
            shape.add(size);
        }
        return json;
    }

    private static String datatype(ElementType type) {
        return switch (type) {
            case F16 -> "FP16";
            case BF16 -> "BF16";
            default -> "FP32";
        };
    }

    private void sendBinary(HttpCall call, String name, String id, Answer.Tokens tokens, Responder.Timing timing) {
        ObjectNode json = head(name, id, tokens);
        ((ObjectNode) json.withArray("outputs").get(0))
                .putObject("parameters")
                .put("binary_data_size", tokens.data().readableBytes());
        byte[] text = json.toString().getBytes(StandardCharsets.UTF_8);
        Map<String, String> headers = new LinkedHashMap<>(TokensApi.timed(timing));
        headers.put(JSON_BYTES, Integer.toString(text.length));
        ByteBuf body = Unpooled.wrappedBuffer(Unpooled.wrappedBuffer(text), tokens.data());
        call.send(200, "application/octet-stream", body, headers);
    }

    private void sendJson(HttpCall call, String name, String id, Answer.Tokens tokens) {
        try {
            ObjectNode json = head(name, id, tokens);
            ArrayNode data = ((ObjectNode) json.withArray("outputs").get(0)).putArray("data");
            ByteBuf values = tokens.data();
            for (int at = values.readerIndex(); at < values.writerIndex(); at += Float.BYTES) {
                data.add(values.getFloatLE(at));
            }
            call.json(json);
        } catch (RuntimeException e) {
            call.internal(e);
        } finally {
            tokens.release();
        }
    }

    // ---------------------------------------------------------------- the request's JSON

    /**
     * Reads the JSON part and takes the input from it or from what follows it.
     *
     * @throws UsageException when it is not what the protocol says
     */
    private Inference read(TokenChoice defaults, ByteBuf body, int jsonBytes) {
        Inference inference = new Inference();
        inference.choice = defaults;
        boolean done = false;
        try (InputStream in = new ByteBufInputStream(body.slice(body.readerIndex(), jsonBytes));
                JsonParser json = HttpCall.JSON.createParser(in)) {
            if (json.nextToken() != JsonToken.START_OBJECT) {
                throw new UsageException("the request is not a JSON object");
            }
            while (json.nextToken() == JsonToken.FIELD_NAME) {
                String field = json.currentName();
                json.nextToken();
                switch (field) {
                    case "id" -> inference.id = id(json.getValueAsString(""));
                    case "parameters" -> parameters(inference, (JsonNode) json.readValueAsTree());
                    case "inputs" -> inputs(inference, json);
                    case "outputs" -> outputs(inference, (JsonNode) json.readValueAsTree());
                    default -> json.skipChildren();
                }
            }
            if (!inference.inputSeen) {
                throw new UsageException("there is no input '" + INPUT + "'");
            }
            if (inference.input == null) {
                binary(inference, body, jsonBytes);
            } else if (body.readableBytes() != jsonBytes) {
                throw new UsageException((body.readableBytes() - jsonBytes) + " bytes follow the JSON, for no tensor");
            }
            done = true;
            return inference;
        } catch (IOException e) {
            String why = e instanceof com.fasterxml.jackson.core.JsonProcessingException jackson
                    ? jackson.getOriginalMessage()
                    : e.getMessage();
            throw new UsageException("the request is not valid JSON: " + HttpCall.shown(why), e);
        } finally {
            if (!done) {
                inference.release();
            }
        }
    }

    private static String id(String text) {
        if (text.length() > MAX_ID) {
            throw new UsageException("the id is longer than " + MAX_ID + " characters");
        }
        return text;
    }

    private static void parameters(Inference inference, JsonNode node) {
        TokenChoice choice = inference.choice;
        Integer layer = choice.layer();
        VisionEncoder.Tokens select = choice.select();
        VisionEncoder.PostNorm postNorm = choice.postNorm();
        Boolean projected = choice.projected();
        ElementType type = choice.type();
        for (Map.Entry<String, JsonNode> field : node.properties()) {
            String text = field.getValue().asText();
            switch (field.getKey()) {
                case "binary_data_output" ->
                    inference.binaryOutput = field.getValue().asBoolean();
                case "layer" -> layer = TokensApi.number(text, "layer", -1024, 1024);
                case "tokens" -> select = TokensApi.named(text, "tokens", VisionEncoder.Tokens.values());
                case "post_ln" -> postNorm = TokensApi.named(text, "post_ln", VisionEncoder.PostNorm.values());
                case "proj" -> projected = field.getValue().asBoolean();
                case "dtype" -> type = TokensApi.named(text, "dtype", TokensApi.TYPES_OF_TOKENS);
                case "timeout" -> inference.timeoutMicros = TokensApi.number(text, "timeout", 0, Integer.MAX_VALUE);
                default -> {
                    // Sequence ids, priorities and the like of other servers.
                }
            }
        }
        inference.choice = new TokenChoice(layer, select, postNorm, projected, type);
    }

    private static void outputs(Inference inference, JsonNode node) {
        for (JsonNode output : node) {
            if (!output.path("name").asText().equals(OUTPUT)) {
                throw new UsageException("the output is '" + OUTPUT + "', not '"
                        + HttpCall.shown(output.path("name").asText()) + "'");
            }
            JsonNode binary = output.path("parameters").path("binary_data");
            if (!binary.isMissingNode()) {
                inference.binaryOutput = binary.asBoolean();
            }
        }
    }

    private static void inputs(Inference inference, JsonParser json) throws IOException {
        if (!json.isExpectedStartArrayToken()) {
            throw new UsageException("'inputs' is not an array");
        }
        while (json.nextToken() == JsonToken.START_OBJECT) {
            if (inference.inputSeen) {
                throw new UsageException("there is one input, '" + INPUT + "'");
            }
            inference.inputSeen = true;
            input(inference, json);
        }
    }

    private static void input(Inference inference, JsonParser json) throws IOException {
        String datatype = null;
        inference.binaryBytes = -1;
        while (json.nextToken() == JsonToken.FIELD_NAME) {
            String field = json.currentName();
            json.nextToken();
            switch (field) {
                case "name" -> {
                    if (!INPUT.equals(json.getText())) {
                        throw new UsageException(
                                "the input is '" + INPUT + "', not '" + HttpCall.shown(json.getText()) + "'");
                    }
                }
                case "datatype" -> datatype = json.getText();
                case "parameters" -> {
                    JsonNode size = ((JsonNode) json.readValueAsTree()).path("binary_data_size");
                    inference.binaryBytes = size.isMissingNode()
                            ? -1
                            : TokensApi.number(size.asText(), "binary_data_size", 0, Integer.MAX_VALUE);
                }
                case "data" -> data(inference, json);
                default -> json.skipChildren();
            }
        }
        if (!"UINT8".equals(datatype) && !"BYTES".equals(datatype)) {
            throw new UsageException("input '" + INPUT + "' has datatype UINT8, or BYTES with one element");
        }
        if ("BYTES".equals(datatype)) {
            if (inference.input != null) {
                throw new UsageException("BYTES that are no text have no JSON form: use UINT8, or the binary form");
            }
            inference.binaryBytes =
                    inference.binaryBytes < 0 ? -1 : -2 - inference.binaryBytes; // with a length before it
        }
    }

    /** Numbers 0 to 255, flat or nested. */
    private static void data(Inference inference, JsonParser json) throws IOException {
        if (!json.isExpectedStartArrayToken()) {
            throw new UsageException("'data' is not an array");
        }
        inference.release();
        inference.input = Unpooled.buffer();
        int depth = 1;
        while (depth > 0) {
            switch (json.nextToken()) {
                case START_ARRAY -> depth++;
                case END_ARRAY -> depth--;
                case VALUE_NUMBER_INT -> {
                    int value = json.getIntValue();
                    if (value < 0 || value > 255) {
                        throw new UsageException("a byte is 0 to 255, not " + value);
                    }
                    inference.input.writeByte(value);
                }
                case null, default -> throw new UsageException("'data' holds something other than bytes");
            }
        }
    }

    private static void binary(Inference inference, ByteBuf body, int jsonBytes) {
        boolean prefixed = inference.binaryBytes <= -2;
        int bytes = prefixed ? -2 - inference.binaryBytes : inference.binaryBytes;
        if (bytes < 0) {
            throw new UsageException("input '" + INPUT + "' has neither data nor binary_data_size");
        }
        int there = body.readableBytes() - jsonBytes;
        if (there != bytes) {
            throw new UsageException("binary_data_size is " + bytes + ", but " + there + " bytes follow the JSON");
        }
        int from = body.readerIndex() + jsonBytes;
        if (prefixed) {
            if (bytes < 4 || body.getUnsignedIntLE(from) != bytes - 4) {
                throw new UsageException("a tensor of BYTES with one element is its length in 4 bytes, and it");
            }
            from += 4;
            bytes -= 4;
        }
        inference.input = body.retainedSlice(from, bytes);
    }
}

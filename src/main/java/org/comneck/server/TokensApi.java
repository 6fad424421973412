package org.comneck.server;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.handler.codec.http.HttpHeaderNames;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.comneck.UsageException;
import org.comneck.engine.Classification;
import org.comneck.engine.EncodeOptions;
import org.comneck.engine.TokenFormat;
import org.comneck.engine.TokenWriter;
import org.comneck.tensor.ElementType;
import org.comneck.vision.VisionEncoder;

/** {@code /v1}: a body in, a result out, options in the query. docs/server.md lists them. */
final class TokensApi implements HttpRoutes.Api {
    private static final List<String> EVERYWHERE = List.of("model", "version", "timeout_ms");
    private static final List<String> OF_PHOTOS = List.of("quality", "full");
    private static final List<String> OF_TOKENS = List.of("layer", "tokens", "post_ln", "proj", "dtype", "format");
    private static final int CLASSES = 5;
    private static final int MAX_CLASSES = 1000;
    static final ElementType[] TYPES_OF_TOKENS = {ElementType.F32, ElementType.F16, ElementType.BF16};
    private static final String ANY = "*/*";
    private static final Map<String, TokenFormat> TYPES = Map.of(
            "application/octet-stream",
            TokenFormat.BIN,
            "application/x-npy",
            TokenFormat.NPY,
            "application/npy",
            TokenFormat.NPY,
            "application/safetensors",
            TokenFormat.SAFETENSORS,
            "application/x-safetensors",
            TokenFormat.SAFETENSORS,
            "application/vnd.safetensors",
            TokenFormat.SAFETENSORS,
            "application/*",
            TokenFormat.BIN,
            ANY,
            TokenFormat.BIN);

    private final Map<String, Route> routes;

    TokensApi(Core core) {
        long body = core.limits().bodyBytes();
        this.routes = Map.of(
                "tokens", Route.post(body, TokensApi::tokens),
                "encode", Route.post(body, TokensApi::encode),
                "decode", Route.post(body, TokensApi::decode),
                "classify", Route.post(body, TokensApi::classify));
    }

    @Override
    public List<Route> at(List<String> segments) {
        if (segments.size() != 2 || !segments.getFirst().equals("v1")) {
            return List.of();
        }
        Route route = routes.get(segments.get(1));
        return route == null ? List.of() : List.of(route);
    }

    private static void tokens(HttpCall call) {
        call.onlyParameters(all(EVERYWHERE, OF_PHOTOS, OF_TOKENS));
        TokenChoice choice = choice(call, TokenChoice.DEFAULT.type());
        TokenFormat format = format(call);
        if (format == null) {
            call.reject(
                    Reason.NOT_ACCEPTABLE,
                    "tokens come as application/octet-stream, application/x-npy or application/safetensors");
            return;
        }
        TokenWriter.check(format, choice.type());
        call.submit(
                request(call, TokenRequest.Kind.TOKENS, choice, 0),
                (answer, timing) -> sendTokens(call, format, (Answer.Tokens) answer, timing));
    }

    private static void sendTokens(HttpCall call, TokenFormat format, Answer.Tokens tokens, Responder.Timing timing) {
        Map<String, String> headers = timed(timing);
        String layer = Integer.toString(tokens.layer());
        String model = HexFormat.of().formatHex(tokens.identity());
        headers.put(
                "x-comneck-shape",
                String.join(
                        ",",
                        Arrays.stream(tokens.shape().toArray())
                                .mapToObj(Long::toString)
                                .toList()));
        headers.put("x-comneck-dtype", tokens.type().name().toLowerCase(Locale.ROOT));
        headers.put("x-comneck-layer", layer);
        headers.put("x-comneck-model", model);
        byte[] header = TokenWriter.header(
                format,
                "tokens",
                tokens.shape(),
                tokens.type(),
                Map.of("comneck.model", model, "comneck.layer", layer));
        ByteBuf body = header.length == 0
                ? tokens.data()
                : Unpooled.wrappedBuffer(Unpooled.wrappedBuffer(header), tokens.data());
        String type = switch (format) {
            case BIN -> "application/octet-stream";
            case NPY -> "application/x-npy";
            case SAFETENSORS -> "application/safetensors";
        };
        call.send(200, type, body, headers);
    }

    private static void encode(HttpCall call) {
        call.onlyParameters(all(EVERYWHERE, OF_PHOTOS));
        call.submit(
                request(call, TokenRequest.Kind.ENCODE, TokenChoice.DEFAULT, 0),
                (answer, timing) ->
                        call.send(200, "application/octet-stream", ((Answer.Bitstream) answer).data(), timed(timing)));
    }

    private static void decode(HttpCall call) {
        call.onlyParameters(all(EVERYWHERE, OF_PHOTOS));
        call.submit(request(call, TokenRequest.Kind.DECODE, TokenChoice.DEFAULT, 0), (answer, timing) -> {
            Answer.Picture picture = (Answer.Picture) answer;
            Map<String, String> headers = timed(timing);
            headers.put("x-comneck-shape", picture.height() + "," + picture.width() + ",3");
            call.send(200, "image/png", picture.png(), headers);
        });
    }

    private static void classify(HttpCall call) {
        call.onlyParameters(all(EVERYWHERE, OF_PHOTOS, List.of("classes")));
        int most = integer(call, "classes", CLASSES, 1, MAX_CLASSES);
        call.submit(request(call, TokenRequest.Kind.CLASSIFY, TokenChoice.DEFAULT, most), (answer, timing) -> {
            ObjectNode root = HttpCall.JSON.createObjectNode();
            ArrayNode images = root.putArray("images");
            for (List<Classification> image : ((Answer.Classes) answer).images()) {
                ArrayNode classes = images.addObject().putArray("classes");
                for (Classification one : image) {
                    classes.addObject()
                            .put("synset", one.synset())
                            .put("name", one.name())
                            .put("score", Math.round(one.score() * 1e6) / 1e6);
                }
            }
            call.json(root);
        });
    }

    /** Milliseconds in the queue and altogether, as browsers show them. */
    static Map<String, String> timed(Responder.Timing timing) {
        Map<String, String> headers = new LinkedHashMap<>();
        headers.put(
                "server-timing",
                String.format(
                        Locale.ROOT, "queue;dur=%.3f, total;dur=%.3f", timing.queued() / 1e6, timing.total() / 1e6));
        return headers;
    }

    // ---------------------------------------------------------------- options

    private static TokenRequest request(HttpCall call, TokenRequest.Kind kind, TokenChoice choice, int classes) {
        String quality = call.parameter("quality");
        EncodeOptions encode = EncodeOptions.DEFAULT.withFull(flag(call, "full", false));
        if (quality != null) {
            try {
                encode = encode.withQuality(Double.parseDouble(quality));
            } catch (NumberFormatException e) {
                throw new UsageException("quality is a number, not '" + HttpCall.shown(quality) + "'", e);
            }
        }
        String model = call.parameter("model");
        String version = call.parameter("version");
        long deadline = deadline(call);
        return new TokenRequest(
                kind,
                call.id(),
                call.traceparent(),
                model,
                version,
                choice,
                encode,
                classes,
                deadline,
                call.takeBody());
    }

    /** From {@code ?timeout_ms=} or the header {@code X-Comneck-Timeout-Ms}, counted from the request's first line. */
    static long deadline(HttpCall call) {
        String text = call.parameter("timeout_ms");
        if (text == null) {
            text = call.headers().get("x-comneck-timeout-ms");
        }
        if (text == null) {
            return TokenRequest.NO_DEADLINE;
        }
        return call.begunNanos() + TimeUnit.MILLISECONDS.toNanos(number(text, "timeout_ms", 1, 86_400_000));
    }

    static TokenChoice choice(HttpCall call, ElementType otherwise) {
        String layer = call.parameter("layer");
        String proj = call.parameter("proj");
        return new TokenChoice(
                layer == null ? null : number(layer, "layer", -1024, 1024),
                named(call, "tokens", VisionEncoder.Tokens.values(), null),
                named(call, "post_ln", VisionEncoder.PostNorm.values(), null),
                proj == null ? null : flag(call, "proj", false),
                named(call, "dtype", TYPES_OF_TOKENS, otherwise));
    }

    /** What {@code ?format=} or {@code Accept} say; null when we have none of what is accepted. */
    private static TokenFormat format(HttpCall call) {
        TokenFormat named = named(call, "format", TokenFormat.values(), null);
        if (named != null) {
            return named;
        }
        String accept = String.join(",", call.headers().getAll(HttpHeaderNames.ACCEPT));
        if (accept.isBlank()) {
            return TokenFormat.BIN;
        }
        // The most wanted of what we have; of equally wanted ones the first that is no wildcard.
        TokenFormat best = null;
        double weight = 0;
        for (String range : accept.split(",")) {
            String[] parts = range.split(";");
            String type = parts[0].strip().toLowerCase(Locale.ROOT);
            double quality = type.endsWith("*") ? 0.999 : 1;
            for (int i = 1; i < parts.length; i++) {
                String parameter = parts[i].strip();
                if (parameter.startsWith("q=")) {
                    try {
                        quality *= Double.parseDouble(parameter.substring(2));
                    } catch (NumberFormatException e) {
                        throw new UsageException("Accept is malformed", e);
                    }
                }
            }
            TokenFormat format = TYPES.get(type);
            if (format != null && quality > weight) {
                best = format;
                weight = quality;
            }
        }
        return best;
    }

    private static int integer(HttpCall call, String name, int otherwise, int least, int most) {
        String text = call.parameter(name);
        return text == null ? otherwise : number(text, name, least, most);
    }

    static int number(String text, String name, int least, int most) {
        try {
            int value = Integer.parseInt(text);
            if (value >= least && value <= most) {
                return value;
            }
        } catch (NumberFormatException e) {
            // said below
        }
        throw new UsageException(
                name + " is a number from " + least + " to " + most + ", not '" + HttpCall.shown(text) + "'");
    }

    private static boolean flag(HttpCall call, String name, boolean otherwise) {
        String text = call.parameter(name);
        return switch (text == null ? "" : text) {
            case "" -> text == null ? otherwise : true;
            case "1", "true" -> true;
            case "0", "false" -> false;
            default -> throw new UsageException(name + " is true or false, not '" + HttpCall.shown(text) + "'");
        };
    }

    private static <E extends Enum<E>> E named(HttpCall call, String name, E[] values, E otherwise) {
        String text = call.parameter(name);
        return text == null ? otherwise : named(text, name, values);
    }

    static <E extends Enum<E>> E named(String text, String name, E[] values) {
        for (E value : values) {
            if (value.name().equalsIgnoreCase(text)) {
                return value;
            }
        }
        Function<E, String> shown = value -> value.name().toLowerCase(Locale.ROOT);
        throw new UsageException(name + " is one of "
                + String.join(", ", Arrays.stream(values).map(shown).toList()) + ", not '" + HttpCall.shown(text)
                + "'");
    }

    @SafeVarargs
    private static List<String> all(List<String>... groups) {
        List<String> names = new ArrayList<>();
        for (List<String> group : groups) {
            names.addAll(group);
        }
        return names;
    }
}

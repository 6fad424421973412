package org.comneck.server;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.netty.buffer.Unpooled;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Map;
import org.comneck.model.Manifest;

/** Health, metrics, and the status page with the numbers that it shows. */
final class Pages implements HttpRoutes.Api {
    private static final String PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8";

    /** The page needs nothing from elsewhere, and may take nothing from elsewhere. */
    private static final String POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
            + " connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    /** In the order of a request's way. */
    private static final List<String> STAGES =
            List.of("photo", "queue", "encode", "read", "tokens", "format", "compute");

    private final Core core;
    private byte[] page; // read when first asked for; event loops may do so twice

    Pages(Core core) {
        this.core = core;
    }

    @Override
    public List<Route> at(List<String> segments) {
        return switch (String.join("/", segments)) {
            // The page itself holds no data; what it fetches asks for a token where one is needed.
            case "" -> List.of(Route.openGet(this::page));
            case "health" -> List.of(Route.openGet(this::health));
            case "metrics" ->
                List.of(Route.get(
                        call -> call.text(200, PROMETHEUS, core.metrics().text())));
            case "v1/status" -> List.of(Route.get(this::status));
            default -> List.of();
        };
    }

    private void page(HttpCall call) {
        if (page == null) {
            try (InputStream in = Pages.class.getResourceAsStream("status.html")) {
                page = in.readAllBytes();
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
        call.send(
                200,
                "text/html; charset=utf-8",
                Unpooled.wrappedBuffer(page),
                Map.of("content-security-policy", POLICY, "x-content-type-options", "nosniff"));
    }

    private void health(HttpCall call) {
        ObjectNode json = HttpCall.JSON.createObjectNode();
        boolean ready = core.ready();
        json.put("ready", ready).put("queue", core.scheduler().waiting());
        call.text(ready ? 200 : 503, "application/json", json.toString());
    }

    /** What the page shows, from the same counters as the metrics. */
    private void status(HttpCall call) {
        Limits limits = core.limits();
        Batching batching = core.options().batching();
        ObjectNode json = HttpCall.JSON.createObjectNode();
        json.put("ready", core.ready());
        json.put("queue", core.scheduler().waiting());
        json.put("queue_capacity", batching.queue());
        json.put("in_flight", core.scheduler().inFlight());
        json.put("results", core.scheduler().results());
        json.put("refused", core.scheduler().refusals());
        json.put("connections", core.connections().size());
        Metrics.Histogram images =
                core.metrics().histograms("comneck_batch_images").get("");
        json.putObject("batches")
                .put("count", images == null ? 0 : images.count())
                .put("sum", images == null ? 0 : images.sum());
        ArrayNode bounds = json.putArray("bounds");
        for (double bound : Metrics.SECONDS) {
            bounds.add(bound);
        }
        ArrayNode stages = json.putArray("stages");
        Map<String, Metrics.Histogram> all = core.metrics().histograms("comneck_stage_seconds");
        for (String stage : STAGES) {
            stage(stages, stage, all.get(Metrics.labels("stage", stage)));
        }
        stage(
                stages,
                "whole request",
                core.metrics().histograms("comneck_request_seconds").get(""));
        ArrayNode models = json.putArray("models");
        for (Models.Entry entry : core.models().loaded()) {
            Model model = core.models().use(entry.name(), entry.version());
            if (model != null) {
                models.addObject()
                        .put("name", entry.name())
                        .put("version", entry.version())
                        .put("description", model.engine() == null ? "" : description(model));
                core.models().release(model);
            }
        }
        json.putObject("limits")
                .put("body_bytes", limits.bodyBytes())
                .put("pixels", limits.pixels())
                .put("photo_pixels", limits.photoPixels())
                .put("images", limits.images())
                .put("connections", limits.connections())
                .put("batch_images", batching.images())
                .put("batch_delay_micros", batching.delayMicros());
        call.json(json);
    }

    private static void stage(ArrayNode stages, String name, Metrics.Histogram histogram) {
        if (histogram == null) {
            return;
        }
        ObjectNode stage = stages.addObject().put("name", name).put("sum", histogram.sum());
        ArrayNode counts = stage.putArray("counts");
        for (long count : histogram.counts()) {
            counts.add(count);
        }
    }

    private static String description(Model model) {
        Manifest manifest = model.engine().manifest();
        StringBuilder text = new StringBuilder();
        if (manifest.encoder() != null) {
            long[] shape = InferenceApi.shape(model.engine());
            text.append(shape[0]).append(" tokens of ").append(shape[1]).append(", layer ");
            text.append(manifest.tokens().layer()).append("; ");
        }
        return text.append(manifest.qualities().size())
                .append(" qualities; ")
                .append(model.identity(), 0, 8)
                .toString();
    }
}

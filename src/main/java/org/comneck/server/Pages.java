package org.comneck.server;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;

/** Health, metrics and the status page. */
final class Pages implements HttpRoutes.Api {
    private static final String PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8";

    private final Core core;

    Pages(Core core) {
        this.core = core;
    }

    @Override
    public List<Route> at(List<String> segments) {
        return switch (String.join("/", segments)) {
            case "health" -> List.of(Route.openGet(this::health));
            case "metrics" ->
                List.of(Route.get(
                        call -> call.text(200, PROMETHEUS, core.metrics().text())));
            default -> List.of();
        };
    }

    private void health(HttpCall call) {
        ObjectNode json = HttpCall.JSON.createObjectNode();
        boolean ready = core.ready();
        json.put("ready", ready).put("queue", core.scheduler().waiting());
        call.text(ready ? 200 : 503, "application/json", json.toString());
    }
}

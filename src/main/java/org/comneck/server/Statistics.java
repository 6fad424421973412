package org.comneck.server;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.concurrent.atomic.LongAdder;

/** What Triton's statistics extension tells of a model. Times are sums of nanoseconds. */
final class Statistics {
    private final LongAdder succeeded = new LongAdder();
    private final LongAdder succeededNanos = new LongAdder();
    private final LongAdder failed = new LongAdder();
    private final LongAdder failedNanos = new LongAdder();
    private final LongAdder queuedNanos = new LongAdder();
    private final LongAdder executions = new LongAdder();
    private volatile long last;

    void answered(boolean success, Responder.Timing timing) {
        (success ? succeeded : failed).increment();
        (success ? succeededNanos : failedNanos).add(timing.total());
        if (success) {
            queuedNanos.add(timing.queued());
            last = System.currentTimeMillis();
        }
    }

    void executed() {
        executions.increment();
    }

    ObjectNode json(Model model) {
        long count = succeeded.sum();
        ObjectNode json = HttpCall.JSON.createObjectNode();
        json.put("name", model.name()).put("version", model.version());
        json.put("last_inference", last);
        json.put("inference_count", count).put("execution_count", executions.sum());
        ObjectNode stats = json.putObject("inference_stats");
        put(stats, "success", count, succeededNanos.sum());
        put(stats, "fail", failed.sum(), failedNanos.sum());
        put(stats, "queue", count, queuedNanos.sum());
        put(stats, "compute_input", count, 0);
        put(stats, "compute_infer", count, succeededNanos.sum() - queuedNanos.sum());
        put(stats, "compute_output", count, 0);
        put(stats, "cache_hit", 0, 0);
        put(stats, "cache_miss", 0, 0);
        json.putArray("batch_stats");
        return json;
    }

    private static void put(ObjectNode stats, String name, long count, long nanos) {
        stats.putObject(name).put("count", count).put("ns", nanos);
    }
}

package org.comneck.eval;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.comneck.engine.EngineOptions;
import org.junit.jupiter.api.Test;

/** The server's benchmark starts a server, checks what it answers and reports. Throughput and soak take too long for a test. */
class ServerBenchmarkTest {
    @Test
    void whatTheServerAnswersIsCheckedAndTimed() {
        List<Map<String, Object>> lines = new ArrayList<>();
        new ServerBenchmark(EngineOptions.DEFAULT.withThreads(1), Path.of("docs", "photo.jpg"), lines::add)
                .run(Set.of("latency", "idle"), 3, 0.1, 0.1, 50);
        assertEquals(
                List.of("latency", "idle"),
                lines.stream().map(line -> line.get("measure")).toList());
        assertTrue((long) lines.get(0).get("tcp_p50_us") > 0, lines.toString());
        assertTrue((long) lines.get(0).get("http_p50_us") > 0, lines.toString());
        assertEquals(50, lines.get(1).get("connections"));
    }
}

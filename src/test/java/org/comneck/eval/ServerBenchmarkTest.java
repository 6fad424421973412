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

/** The server's benchmark starts a server, checks what it answers and reports. No figure is judged here; answers are counted. */
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

    @Test
    void underLoadEveryRequestEndsOnce() {
        List<Map<String, Object>> lines = new ArrayList<>();
        new ServerBenchmark(EngineOptions.DEFAULT.withThreads(1), Path.of("docs", "photo.jpg"), lines::add)
                .run(Set.of("throughput", "soak"), 1, 0.5, 2, 1);
        assertEquals(
                List.of("throughput", "soak"),
                lines.stream().map(line -> line.get("measure")).toList());
        for (Map<String, Object> line : lines) {
            assertTrue((long) line.get("answered") > 0, line.toString());
            assertEquals(
                    (long) line.get("sent"),
                    (long) line.get("answered") + (long) line.get("refused"),
                    "requests, and their ends, of " + line);
            for (String wrong : List.of("failed", "doubled", "lost")) {
                assertEquals(0L, line.get(wrong), wrong + " in " + line);
            }
        }
        assertEquals(0L, lines.get(0).get("refused"), "as many under way as the queue holds");
    }

    @Test
    void goalsStandBesideTheirFigures() {
        List<String> table = ServerGoals.table(List.of(
                Map.of("measure", "latency", "tcp_added_p50_us", 250L, "tcp_added_p99_us", 1001L),
                Map.of("measure", "soak", "lost", 0L, "refusal_p99_ms", 4.9),
                Map.of("measure", "throughput", "tcp_ratio", 0.94)));
        assertEquals(6, table.size());
        assertEquals(List.of("latency", "tcp_added_p50_us", "250", "<", "300", "us", "yes"), words(table.get(1)));
        assertEquals(List.of("latency", "tcp_added_p99_us", "1001", "<", "1000", "us", "no"), words(table.get(2)));
        assertEquals(List.of("soak", "lost", "0", "0", "answers", "yes"), words(table.get(3)));
        assertEquals("yes", words(table.get(4)).getLast());
        assertEquals("no", words(table.get(5)).getLast());
    }

    private static List<String> words(String line) {
        return List.of(line.strip().split(" +"));
    }
}

package org.comneck.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.comneck.backend.cuda.CudaBackend;
import org.comneck.backend.cuda.EmulatedCuda;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What {@code bench kernels} reports; no time is asserted. */
@SuppressWarnings("try") // the device is there for its scope
class KernelsCommandTest {
    private static final ObjectMapper JSON = new ObjectMapper();

    private static List<JsonNode> lines(CommandLineRun run) throws IOException {
        assertEquals(0, run.status(), run.err());
        List<JsonNode> lines = new ArrayList<>();
        for (String line : run.out().lines().toList()) {
            lines.add(JSON.readTree(line));
        }
        return lines;
    }

    private static CommandLineRun run(String... arguments) {
        String[] all = new String[arguments.length + 2];
        all[0] = "bench";
        all[1] = "kernels";
        System.arraycopy(arguments, 0, all, 2, arguments.length);
        return CommandLineRun.of(all);
    }

    private static void check(String kernel, String shape) throws IOException {
        CommandLineRun run = run(
                "--filter",
                kernel,
                "--shape",
                shape,
                "--repeats",
                "3",
                "--precision",
                "bf16,f32,f16",
                "--backend",
                "cuda",
                "--json");
        List<JsonNode> lines = lines(run);
        assertEquals(
                List.of("bf16", "f32", "f16"),
                lines.stream().map(line -> line.path("precision").asText()).toList());
        for (JsonNode line : lines) {
            assertEquals(kernel, line.path("kernel").asText());
            assertEquals("[" + shape + "]", line.path("shape").toString());
            double median = line.path("median_us").asDouble();
            assertTrue(line.path("p10_us").asDouble() > 0 && line.path("p10_us").asDouble() <= median, line.toString());
            assertTrue(line.path("p90_us").asDouble() >= median, line.toString());
            assertEquals(3, line.path("repeats").asInt());
            assertTrue(line.path("error").asDouble(-1) >= 0, line.toString());
            assertTrue(line.path("floor_fma").asDouble() > 0
                    && line.path("floor_bytes").asDouble() > 0);
            assertEquals("cuda", line.path("backend").asText());
            assertEquals("emulation on the processor", line.path("device").asText());
            assertEquals("emulation", line.path("architecture").asText());
            assertTrue(line.path("emulated").asBoolean());
        }
        assertTrue(run.err().contains("its times say nothing"), run.err());
    }

    @Test
    void everyKernelOnTheEmulation() throws IOException {
        try (EmulatedCuda.AsTheDevice device = new EmulatedCuda.AsTheDevice()) {
            check("attention", "2,1,19,64");
            check("linear", "5,48,33");
            check("layer-norm", "3,40");
            check("embed-norm", "2,3,40");
        }
    }

    /** More timings than one execution gives, a table, and the same numbers in a file. */
    @Test
    void tableAndFile(@TempDir Path folder) throws IOException {
        Path file = folder.resolve("lines.jsonl");
        CommandLineRun run = run(
                "--filter",
                "layer-norm",
                "--shape",
                "7,16",
                "--shape",
                "1,1",
                "--precision",
                "f32",
                "--repeats",
                "21",
                "--backend",
                "cpu",
                "-o",
                file.toString());
        assertEquals(0, run.status(), run.err());
        assertEquals("", run.err());
        List<String> table = run.out().lines().toList();
        assertEquals(3, table.size(), run.out());
        assertTrue(table.get(1).matches("layer-norm +7,16 +f32( +[0-9.]+){3}"), table.get(1));
        List<String> lines = Files.readAllLines(file);
        assertEquals(2, lines.size());
        JsonNode line = JSON.readTree(lines.getFirst());
        assertEquals(21, line.path("repeats").asInt());
        assertEquals(System.getProperty("os.arch"), line.path("architecture").asText());
    }

    @Test
    void aPeerTakesTurns(@TempDir Path folder) throws IOException {
        Path peer = folder.resolve("peer.sh");
        Files.writeString(peer, """
                echo '{"torch":"9.9","stages":["attention one","attention none","linear torch"]}'
                while IFS= read -r line; do
                    echo "$line" >> "%s"
                    case $line in *none*) echo '{"us":[]}' ;; *) echo '{"us":[3,1,2]}' ;; esac
                done
                """.formatted(folder.resolve("asked")));
        JsonNode line = lines(run(
                        "--filter",
                        "attention",
                        "--shape",
                        "1,1,2,64",
                        "--precision",
                        "bf16",
                        "--repeats",
                        "20",
                        "--backend",
                        "cpu",
                        "--json",
                        "--peer",
                        "sh " + peer))
                .getFirst();
        assertEquals("PyTorch 9.9", line.path("peer").asText());
        assertEquals(2, line.path("peer_one_us").asDouble());
        assertEquals(
                2 / line.path("median_us").asDouble(), line.path("ratio_one").asDouble(), 0.01);
        assertTrue(line.path("peer_none_us").isMissingNode()
                && line.path("peer_torch_us").isMissingNode());
        assertEquals(
                List.of(
                        "attention one\tbf16\t1,1,2,64\t16",
                        "attention none\tbf16\t1,1,2,64\t16",
                        "attention one\tbf16\t1,1,2,64\t16",
                        "attention none\tbf16\t1,1,2,64\t16"),
                Files.readAllLines(folder.resolve("asked")));
    }

    @Test
    void withoutAGpu() throws IOException {
        CudaBackend.Availability availability = CudaBackend.availability(0);
        assumeFalse(availability.isAvailable(), "this machine has a GPU");
        CommandLineRun run = run("--filter", "attention", "--backend", "cuda");
        assertEquals(ExitStatus.USAGE, run.status());
        assertTrue(run.err().contains("cuda is not available here (" + availability.text() + ")"), run.err());
        run = run("--filter", "layer-norm", "--shape", "2,8", "--json");
        assertEquals("cpu", lines(run).getFirst().path("backend").asText());
        assertTrue(run.err().contains("no GPU here (" + availability.text() + "); the processor's"), run.err());
    }

    @Test
    void whatIsWrongIsSaid() {
        assertSays("no kernel is called 'x'; there are attention, linear, layer-norm, embed-norm", "--filter", "x");
        assertSays("--shape is of one kernel", "--shape", "1,2");
        assertSays("'1,x' is not a list of numbers", "--filter", "attention", "--shape", "1,x");
        for (String shape : List.of("1,2", "1,1,0,64", "1,1,4,64,1", "99999,99999,99999,99999", "1,1048577,1,1")) {
            assertSays(
                    "the shape of attention is B,HEADS,TOKENS,DEPTH",
                    "--filter",
                    "attention",
                    "--backend",
                    "cpu",
                    "--shape",
                    shape);
        }
        assertSays("0 repeats", "--repeats", "0", "--backend", "cpu");
        CommandLineRun run = CommandLineRun.of("bench");
        assertEquals(ExitStatus.USAGE, run.status());
        assertTrue(run.err().contains("--model FILE, or the verb kernels"), run.err());
        run = run("--nope");
        assertTrue(run.err().contains("see 'comneck bench kernels --help'"), run.err());
    }

    private static void assertSays(String text, String... arguments) {
        CommandLineRun run = run(arguments);
        assertEquals(ExitStatus.USAGE, run.status(), run.err());
        assertTrue(run.err().contains(text), run.err());
    }
}

package org.comneck.eval;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.OutputStreamWriter;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.comneck.UsageException;

/**
 * Another implementation, timed in its own process, one repetition at a time: benchmarks/peer/peer.py and kernels.py say what is spoken. Between its
 * repetitions it waits for a line and takes no processor time.
 */
public final class Peer implements AutoCloseable {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Process process;
    private final BufferedReader answers;
    private final Writer requests;
    private final String name;
    private final Set<String> stages = new LinkedHashSet<>();

    private Peer(Process process) {
        this.process = process;
        this.answers = process.inputReader(StandardCharsets.UTF_8);
        this.requests = new BufferedWriter(new OutputStreamWriter(process.getOutputStream(), StandardCharsets.UTF_8));
        JsonNode ready = answer();
        this.name = "PyTorch " + ready.path("torch").asText("?");
        ready.path("stages").forEach(stage -> stages.add(stage.asText()));
    }

    /**
     * Starts the peer and waits until it is ready.
     *
     * @throws UsageException when it cannot be started
     */
    public static Peer start(List<String> command) {
        try {
            return new Peer(new ProcessBuilder(command)
                    .redirectError(ProcessBuilder.Redirect.INHERIT)
                    .start());
        } catch (IOException e) {
            throw new UsageException(
                    "the peer '" + String.join(" ", command) + "' does not start: " + e.getMessage(), e);
        }
    }

    /** What it is, with its version. */
    public String name() {
        return name;
    }

    /** Whether it knows a stage. */
    public boolean has(String stage) {
        return stages.contains(stage);
    }

    /** What it knows, in its order. */
    public List<String> stages() {
        return List.copyOf(stages);
    }

    /** Microseconds of some repetitions of a kernel; none where it has none of that kind. Of benchmarks/peer/kernels.py. */
    public List<Double> times(String request) {
        List<Double> times = new ArrayList<>();
        ask(request).path("us").forEach(time -> times.add(time.asDouble()));
        return times;
    }

    /** Runs a stage once. */
    public Sample run(String stage) {
        JsonNode answer = ask(stage);
        return new Sample(
                answer.path("wall_ms").asDouble(), answer.path("cpu_ms").asDouble());
    }

    /** Relative L2 distance between its tokens for these latents and these tokens; files of little-endian f32. */
    public double check(Path latents, Path tokens) {
        return ask("check\t" + latents + "\t" + tokens).path("relative_l2").asDouble(Double.NaN);
    }

    private JsonNode ask(String line) {
        try {
            requests.write(line + "\n");
            requests.flush();
        } catch (IOException e) {
            throw new UsageException("the peer has stopped: " + e.getMessage(), e);
        }
        return answer();
    }

    private JsonNode answer() {
        try {
            String line = answers.readLine();
            if (line == null) {
                throw new UsageException("the peer has stopped without an answer");
            }
            JsonNode answer = JSON.readTree(line);
            if (answer.has("error")) {
                throw new UsageException("the peer says: " + answer.get("error").asText());
            }
            return answer;
        } catch (IOException e) {
            throw new UsageException("the peer's answer cannot be read: " + e.getMessage(), e);
        }
    }

    @Override
    public void close() {
        try {
            requests.close(); // end of input: it leaves
            if (!process.waitFor(10, TimeUnit.SECONDS)) {
                process.destroy();
            }
        } catch (IOException e) {
            process.destroy();
        } catch (InterruptedException e) {
            process.destroy();
            Thread.currentThread().interrupt();
        }
    }
}

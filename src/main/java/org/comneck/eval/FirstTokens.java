package org.comneck.eval;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.comneck.UsageException;
import org.comneck.engine.EncodeOptions;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;

/**
 * How long a fresh process takes to its first tokens: {@code comneck tokens} on one bitstream, as a user starts it.
 *
 * @param wallMs from the start of the process to its end, tokens written; median
 * @param leastMs the shortest
 * @param openMs of that, until the model was open; median
 * @param callMs of that, the first call: layers packed or uploaded, the run prepared (on a GPU: captured), executed; median
 */
public record FirstTokens(double wallMs, double leastMs, double openMs, double callMs) {
    private static final ObjectMapper JSON = new ObjectMapper();

    /**
     * Starts the process so many times, one after the other.
     *
     * @param model model file
     * @param flags of {@code comneck tokens}: backend, threads, precision
     * @param size side of the picture in pixels
     * @throws UsageException when a process fails
     */
    public static FirstTokens measure(Path model, List<String> flags, int size, int repeats) {
        try {
            Path folder = Files.createTempDirectory("comneck-bench");
            Path bitstream = folder.resolve("picture.cnk");
            Path tokens = folder.resolve("tokens.npy");
            try {
                try (NativeEngine engine = NativeEngine.open(model, EngineOptions.DEFAULT.withBackend("cpu"))) {
                    Photo photo = Photo.of(size, size, new byte[3 * size * size]);
                    Files.write(bitstream, engine.encode(List.of(photo), EncodeOptions.DEFAULT.withFull(true)));
                }
                double[] wall = new double[repeats];
                double[] open = new double[repeats];
                double[] call = new double[repeats];
                double least = Double.POSITIVE_INFINITY;
                for (int i = -1; i < repeats; i++) { // one more, which brings the files into memory
                    long start = System.nanoTime();
                    JsonNode said = run(model, flags, bitstream, tokens);
                    double milliseconds = (System.nanoTime() - start) / 1e6;
                    if (i >= 0) {
                        wall[i] = milliseconds;
                        open[i] = said.path("opened_after_milliseconds").asDouble();
                        call[i] = said.path("milliseconds").asDouble();
                        least = Math.min(least, milliseconds);
                    }
                }
                return new FirstTokens(Sample.median(wall), least, Sample.median(open), Sample.median(call));
            } finally {
                Files.deleteIfExists(bitstream);
                Files.deleteIfExists(tokens);
                Files.deleteIfExists(folder);
            }
        } catch (IOException e) {
            throw new UsageException("no room for temporary files, or no process: " + e.getMessage(), e);
        }
    }

    private static JsonNode run(Path model, List<String> flags, Path bitstream, Path tokens) throws IOException {
        List<String> command = new ArrayList<>(OwnProcess.java());
        command.addAll(List.of("tokens", bitstream.toString(), "-o", tokens.toString(), "--json"));
        command.addAll(List.of("--model", model.toString()));
        command.addAll(flags);
        Process process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        try {
            byte[] said = process.getInputStream().readAllBytes();
            if (process.waitFor() != 0) {
                throw new UsageException("the process to be timed failed: " + String.join(" ", command));
            }
            return JSON.readTree(said);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new UsageException("interrupted while a process was timed");
        } finally {
            process.destroyForcibly();
        }
    }
}

package org.comneck.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Map;
import org.comneck.UsageException;
import picocli.CommandLine.Option;

/** Where the JSON lines of a benchmark go, and what each of them says about its run. */
final class ResultLines {
    private static final ObjectMapper JSON = new ObjectMapper();

    @Option(
            names = {"-o", "--output"},
            paramLabel = "FILE",
            description = "Appends the lines to a file as well.")
    private Path output;

    @Option(names = "--commit", paramLabel = "ID", defaultValue = "unknown", description = "Named in the results.")
    private String commit;

    /** Adds what was measured, on what, when, and beside how much other work. */
    void describeRun(Map<String, Object> line) {
        line.put("commit", commit);
        line.put("machine", machine());
        line.put("jdk", Runtime.version().toString());
        line.put("time", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
        line.put("load", load());
    }

    /** Prints the line, and appends it to the file where one was named. */
    void print(PrintStream out, Map<String, Object> line) {
        out.println(text(line));
        out.flush();
        append(line);
    }

    /** Appends the line to the file where one was named. */
    void append(Map<String, Object> line) {
        if (output == null) {
            return;
        }
        try {
            Files.writeString(output, text(line) + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException e) {
            throw new UsageException(output + " cannot be written: " + e.getMessage(), e);
        }
    }

    private static String text(Map<String, Object> line) {
        try {
            return JSON.writeValueAsString(line);
        } catch (JsonProcessingException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Processor and number of cores. */
    private static String machine() {
        String processor = System.getProperty("os.arch");
        try {
            for (String line : Files.readAllLines(Path.of("/proc/cpuinfo"))) {
                if (line.startsWith("model name")) {
                    processor = line.substring(line.indexOf(':') + 1).strip();
                    break;
                }
            }
        } catch (IOException e) {
            // not Linux: the architecture has to do
        }
        return processor + ", " + Runtime.getRuntime().availableProcessors() + " cores";
    }

    /** Average number of runnable processes of the last minute: above the number of cores, others are at work too. */
    private static double load() {
        return Math.round(ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage() * 100) / 100.0;
    }
}

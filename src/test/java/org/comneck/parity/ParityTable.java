package org.comneck.parity;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Errors against expected values, one line each; written to {@code target/parity-NAME.txt} before anything is asserted. */
public final class ParityTable {
    private final String name;
    private final List<String> lines = new ArrayList<>();
    private final List<String> failures = new ArrayList<>();

    public ParityTable(String name) {
        this.name = name;
    }

    /** Adds the relative L2 error of {@code actual} and the worst element. */
    public double compare(String what, float[] expected, float[] actual, double limit) {
        assertEquals(expected.length, actual.length, what);
        double difference = 0;
        double norm = 0;
        int worst = 0;
        for (int i = 0; i < expected.length; i++) {
            double d = (double) actual[i] - expected[i];
            difference += d * d;
            norm += (double) expected[i] * expected[i];
            if (Math.abs(d) > Math.abs((double) actual[worst] - expected[worst]) || Double.isNaN(d)) {
                worst = i;
            }
        }
        double error = Math.sqrt(difference / norm);
        String line = "%-44s relative L2 %.2e  (limit %.0e)  worst at %d: %.7g, expected %.7g"
                .formatted(name + " " + what, error, limit, worst, actual[worst], expected[worst]);
        lines.add(line);
        if (!(error <= limit)) {
            failures.add(line);
        }
        return error;
    }

    /** Adds a count that must not exceed a limit; a negative limit allows any. */
    public void count(String what, long count, long of, long limit) {
        String line = "%-44s %d of %d".formatted(name + " " + what, count, of);
        lines.add(line);
        if (limit >= 0 && count > limit) {
            failures.add(line + ", allowed " + limit);
        }
    }

    /** Writes the table, then fails if a limit was exceeded. */
    public void finish() {
        try {
            Path target = Path.of("target");
            Files.createDirectories(target);
            Files.write(target.resolve("parity-" + name.replace(' ', '-') + ".txt"), lines);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        assertTrue(failures.isEmpty(), () -> String.join("\n", failures));
    }
}

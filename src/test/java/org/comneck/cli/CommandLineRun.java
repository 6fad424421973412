package org.comneck.cli;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/**
 * One verb, run in this process.
 *
 * @param status exit status
 * @param out what it printed
 * @param err what it complained about
 * @param bytes what it wrote to standard output as {@code -}
 */
record CommandLineRun(int status, String out, String err, byte[] bytes) {
    static CommandLineRun of(String... arguments) {
        return with(new byte[0], arguments);
    }

    static CommandLineRun with(byte[] input, String... arguments) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        int status = Main.run(
                new Main.Streams(
                        new ByteArrayInputStream(input),
                        bytes,
                        new PrintStream(out, true, StandardCharsets.UTF_8),
                        new PrintStream(err, true, StandardCharsets.UTF_8)),
                arguments);
        return new CommandLineRun(
                status,
                out.toString(StandardCharsets.UTF_8),
                err.toString(StandardCharsets.UTF_8),
                bytes.toByteArray());
    }
}

package org.comneck.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Function;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import picocli.CommandLine.Model.CommandSpec;

/** Works on many files at once, with one engine: while one is computed, others are read and written. Prints in the order of the inputs. */
final class Batch {
    /** From this many inputs on a progress bar is worth its line. */
    private static final int PROGRESS_FROM = 4;

    private Batch() {}

    /**
     * Works on each input; a failure is one line and leaves the others alone.
     *
     * @param work makes the line to print; called from several threads
     * @return the worst status
     */
    static int run(CommandSpec verb, List<Inputs.Input> inputs, Function<Inputs.Input, String> work) {
        Main.Streams streams = Main.streams(verb);
        int workers = Math.min(inputs.size(), Runtime.getRuntime().availableProcessors());
        int status = ExitStatus.OK;
        try (ExecutorService executor = Executors.newFixedThreadPool(Math.max(workers, 1));
                Progress progress = inputs.size() < PROGRESS_FROM
                        ? Progress.none()
                        : Progress.ofCount(verb.name(), inputs.size())) {
            List<Future<String>> lines = new ArrayList<>();
            for (Inputs.Input input : inputs) {
                lines.add(executor.submit(() -> named(input, work)));
            }
            for (Future<String> line : lines) {
                try {
                    String text = line.get();
                    if (text != null) {
                        streams.out().println(text);
                    }
                } catch (ExecutionException e) {
                    status = Math.max(status, Main.fail(verb, e.getCause()));
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    executor.shutdownNow();
                    return ExitStatus.INTERRUPTED;
                }
                progress.step();
            }
        }
        return status;
    }

    /** What is wrong with an input names it. */
    private static String named(Inputs.Input input, Function<Inputs.Input, String> work) {
        try {
            return work.apply(input);
        } catch (DamagedDataException e) {
            throw e.getMessage().startsWith(input.name())
                    ? e
                    : new DamagedDataException(input.name() + ": " + e.getMessage(), -1, e);
        } catch (UsageException e) {
            throw e.getMessage().contains(input.name())
                    ? e
                    : new UsageException(input.name() + ": " + e.getMessage(), e.getCause());
        }
    }
}

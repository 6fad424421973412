package org.comneck.train;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.comneck.UsageException;

/** Training in a process of its own, to be interrupted. */
final class TrainingProcess {
    private TrainingProcess() {}

    /**
     * Arguments: recipe file, data, run folder, a step after which it waits for a signal (or 0). Goes on where checkpoints stand, and prints
     * steps, notes and errors.
     */
    public static void main(String[] arguments) {
        long last = Long.parseLong(arguments[3]);
        CountDownLatch signal = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(signal::countDown));
        Trainer.Listener listener = new Trainer.Listener() {
            @Override
            public void step(
                    String stage, long step, double fraction, Map<String, Double> terms, double speed, double left) {
                System.out.println("step " + step);
                if (step == last) {
                    await(signal);
                }
            }

            @Override
            public void note(String text) {
                System.out.println("note " + text);
            }
        };
        try {
            Trainer.run(Recipe.load(arguments[0]), Path.of(arguments[1]), Path.of(arguments[2]), true, listener);
            System.out.println("end");
        } catch (UsageException e) {
            System.out.println("error " + e.getMessage());
        }
    }

    private static void await(CountDownLatch signal) {
        try {
            signal.await();
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Starts one. @param last step before it waits for a signal, or 0. @param limit of written files in KiB, or 0 */
    static Process start(Path recipe, Path data, Path runFolder, long last, int limit) throws IOException {
        List<String> java = List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "--sun-misc-unsafe-memory-access=allow",
                "-XX:-UsePerfData",
                "-Xmx512m",
                "-cp",
                System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
                TrainingProcess.class.getName(),
                recipe.toString(),
                data.toString(),
                runFolder.toString(),
                Long.toString(last));
        // Where the build runs in the background of a script, SIGINT is ignored, by its children too.
        List<String> command = new ArrayList<>(List.of("env", "--default-signal=INT"));
        if (limit > 0) {
            command.addAll(List.of("bash", "-c", "ulimit -f " + limit + "; exec \"$@\"", "bash"));
        }
        command.addAll(java);
        return new ProcessBuilder(command)
                .redirectErrorStream(true)
                .directory(new File(System.getProperty("user.dir")))
                .start();
    }

    /** Reads lines until one begins so; all lines when none does. */
    static List<String> until(BufferedReader output, String beginning) throws IOException {
        List<String> lines = new ArrayList<>();
        for (String line = output.readLine(); line != null; line = output.readLine()) {
            lines.add(line);
            if (line.startsWith(beginning)) {
                break;
            }
        }
        return lines;
    }
}

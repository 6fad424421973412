package org.comneck.cli;

import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.IntSupplier;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Option;
import picocli.CommandLine.ScopeType;

/** Entry point of the command line: one verb, one status, one line for each failure. */
@Command(
        name = "comneck",
        mixinStandardHelpOptions = true,
        versionProvider = Main.Version.class,
        synopsisSubcommandLabel = "VERB",
        description = "From the bitstream of a learned image codec straight to visual tokens.",
        subcommands = {
            EncodeCommand.class,
            TokensCommand.class,
            DecodeCommand.class,
            LatentsCommand.class,
            ClassifyCommand.class,
            InfoCommand.class,
            ImportCommand.class,
            ServeCommand.class,
            BenchCommand.class,
            BenchServerCommand.class,
            EvalCommand.class,
            TrainCommand.class
        },
        footerHeading = "%nExit status:%n",
        footer = {
            "  0    all was done",
            "  2    wrong options, wrong kind of file, wrong model",
            "  3    damaged data",
            "  4    a file cannot be read or written",
            "  70   a bug of ours",
            "  130  interrupted",
            "",
            "Example: comneck tokens photo.jpg -o t.npy"
        })
public final class Main implements Runnable {
    @Option(names = "--verbose", scope = ScopeType.INHERIT, description = "Show where an error came from.")
    private boolean verbose;

    @CommandLine.Spec
    private CommandLine.Model.CommandSpec spec;

    private final Streams streams;

    private Main(Streams streams) {
        this.streams = streams;
    }

    /** What SIGTERM and Ctrl-C call instead of ending the process: it returns the exit status. */
    private static final AtomicReference<IntSupplier> STOP = new AtomicReference<>();

    /** From now on SIGTERM and Ctrl-C mean this. */
    static void onStop(IntSupplier stop) {
        STOP.set(stop);
    }

    /** Where a verb reads and writes what is {@code -}, and prints. */
    record Streams(InputStream in, OutputStream bytes, PrintStream out, PrintStream err) {}

    /** Runs one verb and exits with its status. */
    public static void main(String[] arguments) {
        AtomicBoolean ended = new AtomicBoolean();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            IntSupplier stop = STOP.get();
            if (stop != null) {
                // Status 143 is what the JVM would end with, whatever was done here.
                Runtime.getRuntime().halt(stop.getAsInt());
            }
            if (!ended.get()) {
                System.err.println("comneck: interrupted");
            }
        }));
        int status = run(
                new Streams(
                        new FileInputStream(FileDescriptor.in),
                        new FileOutputStream(FileDescriptor.out),
                        System.out,
                        System.err),
                arguments);
        ended.set(true);
        System.exit(status);
    }

    /** Runs one verb in this process and returns its status. */
    static int run(Streams streams, String... arguments) {
        Main main = new Main(streams);
        CommandLine line = new CommandLine(main);
        line.setOut(new PrintWriter(streams.out(), true, StandardCharsets.UTF_8));
        line.setErr(new PrintWriter(streams.err(), true, StandardCharsets.UTF_8));
        line.setCaseInsensitiveEnumValuesAllowed(true);
        line.setParameterExceptionHandler((error, ignored) -> {
            streams.err()
                    .println("comneck: " + firstLine(error.getMessage()) + "; see 'comneck "
                            + path(error.getCommandLine()) + "--help'");
            return ExitStatus.USAGE;
        });
        line.setExecutionExceptionHandler((error, ignored, result) -> main.fail(error));
        int status;
        try {
            status = line.execute(arguments);
        } catch (Error e) {
            status = main.fail(e);
        }
        streams.out().flush();
        if (status == ExitStatus.OK && streams.out().checkError()) {
            streams.err().println("comneck: standard output cannot be written");
            status = ExitStatus.IO;
        }
        return status;
    }

    private static String path(CommandLine line) {
        return line.getParent() == null ? "" : path(line.getParent()) + line.getCommandName() + " ";
    }

    /** The streams of the process that a verb runs in. */
    static Streams streams(CommandLine.Model.CommandSpec verb) {
        return ((Main) verb.root().userObject()).streams;
    }

    /** Prints one line about a failure and says which status it means. */
    int fail(Throwable error) {
        return report(streams.err(), error, verbose);
    }

    /** {@link #fail} for a verb that goes on with other files. */
    static int fail(CommandLine.Model.CommandSpec verb, Throwable error) {
        return ((Main) verb.root().userObject()).fail(error);
    }

    private static int report(PrintStream err, Throwable error, boolean verbose) {
        String message = error.getMessage() == null ? error.toString() : firstLine(error.getMessage());
        int status = switch (error) {
            case UsageException usage -> usage.getCause() instanceof IOException ? ExitStatus.IO : ExitStatus.USAGE;
            case DamagedDataException damaged -> ExitStatus.DAMAGED;
            case IOException io -> ExitStatus.IO;
            case OutOfMemoryError memory -> {
                message = "not enough memory (" + message + "); set COMNECK_JAVA_OPTS=-Xmx8g or so";
                yield ExitStatus.USAGE;
            }
            default -> {
                message = "internal error, please report it with the output of --verbose: "
                        + error.getClass().getSimpleName() + ": " + message;
                yield ExitStatus.INTERNAL;
            }
        };
        err.println("comneck: " + message);
        if (verbose) {
            error.printStackTrace(err);
        }
        return status;
    }

    private static String firstLine(String text) {
        return text.lines().findFirst().orElse("");
    }

    /** Without a verb: the help. */
    @Override
    public void run() {
        spec.commandLine().usage(streams.out());
    }

    static final class Version implements IVersionProvider {
        @Override
        public String[] getVersion() {
            String version = Main.class.getPackage().getImplementationVersion();
            return new String[] {"comneck " + (version == null ? "(unpacked build)" : version)};
        }
    }
}

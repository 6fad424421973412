package org.comneck.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.tools.JavaCompiler;
import javax.tools.ToolProvider;
import org.comneck.engine.Photo;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs what the README shows: every command, as a process of its own, and the Java example. {@code ...} in it stands for any text. */
class ReadmeTest {
    private static final Path README = Path.of("README.md");
    private static final Path PHOTO = Path.of("docs", "photo.jpg");

    @TempDir
    Path folder;

    private record Command(List<String> words, String output) {}

    @Test
    void commandsPrintWhatTheReadmeSays() throws Exception {
        Files.createDirectories(folder.resolve("docs"));
        Files.copy(PHOTO, folder.resolve(PHOTO));
        List<Command> commands = commands();
        assertTrue(commands.size() >= 7, commands.toString());
        for (Command command : commands) {
            assertEquals("./comneck", command.words.getFirst());
            List<String> line = java("-cp", classPath(), "org.comneck.cli.Main");
            line.addAll(command.words.subList(1, command.words.size()));
            String found = run(line);
            String expected = Arrays.stream(command.output.split(Pattern.quote("..."), -1))
                    .map(Pattern::quote)
                    .collect(Collectors.joining("(?s:.*)"));
            assertTrue(
                    found.strip().matches(expected),
                    String.join(" ", command.words) + " printed\n" + found + "\ninstead of\n" + command.output);
        }
        // NumPy's header and 256 x 192 floats
        assertEquals(128 + 4 * 256 * 192, Files.size(folder.resolve("t.npy")));
        assertEquals("photo 256x256", Photo.read(folder.resolve("photo.png")).toString());
        try (var files = Files.list(folder)) {
            assertTrue(files.noneMatch(file -> file.toString().endsWith(".tmp")));
        }
    }

    @Test
    void javaExampleCompilesAndRuns() throws Exception {
        Files.createDirectories(folder.resolve("docs"));
        Files.copy(PHOTO, folder.resolve(PHOTO));
        Matcher block = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(Files.readString(README));
        assertTrue(block.find());
        String source = """
                import java.nio.file.Path;
                import org.comneck.engine.*;
                import org.comneck.tensor.*;
                public class Example {
                    public static void main(String[] arguments) {
                """ + block.group(1) + "}}";
        Path file = Files.writeString(folder.resolve("Example.java"), source);
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        assertNotNull(compiler, "no compiler in this JDK");
        int status = compiler.run(null, null, null, "-cp", classPath(), "-d", folder.toString(), file.toString());
        assertEquals(0, status, source);
        List<String> line = java("-cp", folder + java.io.File.pathSeparator + classPath(), "Example");
        assertEquals("[256,192] photo 256x256", run(line).strip());
    }

    @Test
    void readmeNamesTheTestCommandOfCi() throws IOException {
        assertTrue(Files.readString(README).contains("\n    ./mvnw verify\n"));
        assertTrue(Files.readString(Path.of(".ci", "run")).contains("./mvnw -B verify"));
    }

    /** Lines that begin with {@code $} in console blocks, each with what follows it. */
    private static List<Command> commands() throws IOException {
        List<Command> commands = new ArrayList<>();
        Matcher block = Pattern.compile("```console\n(.*?)```", Pattern.DOTALL).matcher(Files.readString(README));
        while (block.find()) {
            for (String part : block.group(1).split("(?m)^\\$ ")) {
                if (!part.isBlank()) {
                    int end = part.indexOf('\n');
                    commands.add(new Command(
                            List.of(part.substring(0, end).split(" ")),
                            part.substring(end + 1).strip()));
                }
            }
        }
        return commands;
    }

    private static String classPath() {
        return Arrays.stream(System.getProperty("java.class.path").split(java.io.File.pathSeparator))
                .map(entry -> Path.of(entry).toAbsolutePath().toString())
                .collect(Collectors.joining(java.io.File.pathSeparator));
    }

    private static List<String> java(String... arguments) {
        List<String> line = new ArrayList<>();
        line.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        line.add("--enable-native-access=ALL-UNNAMED");
        line.addAll(List.of(arguments));
        return line;
    }

    private String run(List<String> line) throws Exception {
        Path errors = folder.resolve("errors.txt");
        Process process = new ProcessBuilder(line)
                .directory(folder.toFile())
                .redirectError(errors.toFile())
                .start();
        String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertTrue(process.waitFor(120, TimeUnit.SECONDS), "it did not end");
        assertEquals(0, process.exitValue(), line + "\n" + Files.readString(errors));
        return text;
    }
}

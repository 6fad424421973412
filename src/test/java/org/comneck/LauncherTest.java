package org.comneck;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What {@code mvnw} says on a machine where something is missing: one line, with what to install. */
class LauncherTest {
    /** What a POSIX shell script may take for granted. */
    private static final List<String> BASICS = List.of(
            "sh", "sed", "dirname", "readlink", "cat", "mkdir", "grep", "tail", "uname", "head", "tr", "test", "ls");

    @TempDir
    Path directory;

    private record Outcome(int status, String text) {}

    @ParameterizedTest
    @CsvSource({
        "mvn, 'mvnw: Maven is missing. Install it:'",
        "cmake, 'mvnw: CMake is missing. Install it:'",
        "ninja, 'mvnw: Ninja is missing. Install it:'",
        "g++, 'mvnw: a C++20 compiler is missing. Install it:'"
    })
    void namesTheMissingTool(String missing, String message) throws Exception {
        Path bin = tools(missing);
        Outcome outcome = run(bin, System.getProperty("java.home"), "./mvnw", "--version");
        assertEquals(1, outcome.status(), outcome.text());
        assertTrue(outcome.text().startsWith(message), outcome.text());
        assertEquals(1, outcome.text().lines().count(), outcome.text());
    }

    @Test
    void startsWhenNothingIsMissing() throws Exception {
        Outcome outcome = run(tools(""), System.getProperty("java.home"), "./mvnw", "--version");
        assertEquals(0, outcome.status(), outcome.text());
        assertEquals("mvn ran", outcome.text().strip());
    }

    @Test
    void skipsAnOldJdk() throws Exception {
        Path old = directory.resolve("old-jdk");
        Files.createDirectories(old.resolve("bin"));
        script(old.resolve("bin/javac"), "echo javac 17.0.15");
        Files.writeString(old.resolve("release"), "JAVA_VERSION=\"17.0.15\"\n");
        Outcome outcome = run(tools(""), old.toString(), "./mvnw", "--print-java-home");
        // Either another JDK is found, or the message says what to install; the old one is never taken.
        if (outcome.status() == 0) {
            assertTrue(!outcome.text().contains("old-jdk"), outcome.text());
        } else {
            assertTrue(outcome.text().startsWith("mvnw: no JDK 25 or newer found. Install one"), outcome.text());
        }
    }

    /** A folder of tools that only say their names, all but one, beside the basic commands. */
    private Path tools(String missing) throws IOException {
        Path bin = Files.createDirectories(directory.resolve("bin"));
        for (String name : List.of("mvn", "cmake", "ninja", "g++")) {
            if (!name.equals(missing)) {
                script(bin.resolve(name), "echo " + name + " ran");
            }
        }
        for (String name : BASICS) {
            for (String folder : List.of("/bin", "/usr/bin")) {
                Path command = Path.of(folder, name);
                if (Files.exists(command) && !Files.exists(bin.resolve(name))) {
                    Files.writeString(bin.resolve(name), "#!/bin/sh\nexec " + command + " \"$@\"\n");
                    assertTrue(bin.resolve(name).toFile().setExecutable(true));
                }
            }
        }
        return bin;
    }

    private static void script(Path file, String body) throws IOException {
        Files.writeString(file, "#!/bin/sh\n" + body + "\n");
        assertTrue(file.toFile().setExecutable(true));
    }

    private Outcome run(Path bin, String javaHome, String... command) throws Exception {
        ProcessBuilder builder = new ProcessBuilder(command);
        builder.environment().clear();
        builder.environment().put("PATH", bin.toString());
        builder.environment().put("HOME", directory.toString());
        builder.environment().put("JAVA_HOME", javaHome);
        Process process = builder.redirectErrorStream(true).start();
        String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertTrue(process.waitFor(60, TimeUnit.SECONDS), "the launcher did not end");
        return new Outcome(process.exitValue(), text);
    }
}

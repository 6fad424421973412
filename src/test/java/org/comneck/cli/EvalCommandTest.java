package org.comneck.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.comneck.engine.Photo;
import org.comneck.engine.Resample;
import org.comneck.model.ModelFile;
import org.comneck.model.Progress;
import org.comneck.model.SeededModel;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code comneck eval} as its users see it: the quick report, and what goes wrong on the way. */
class EvalCommandTest {
    /** Photos of a set: more than one batch. */
    private static final int PHOTOS = 6;

    /** Results of a set under the seeded model: uncompressed, and both paths at two qualities. */
    private static final int RESULTS = PHOTOS * (1 + 2 * 2);

    @TempDir
    static Path shared;

    @TempDir
    Path folder;

    private static Path photos;
    private static Path seeded;

    @BeforeAll
    static void photos() throws IOException {
        photos = Files.createDirectories(shared.resolve("photos"));
        Photo photo = Photo.read(Path.of("docs", "photo.jpg"));
        for (int i = 0; i < PHOTOS; i++) {
            try (OutputStream out =
                    Files.newOutputStream(photos.resolve((i % 2 == 0 ? "n01440764_" : "n01443537_") + i + ".png"))) {
                photo.crop(12 * i, 9 * i, 180, 190)
                        .resize(90, 95, Resample.BICUBIC)
                        .writePng(out);
            }
        }
        seeded = shared.resolve("seeded.safetensors");
        SeededModel.named(SeededModel.TINY).write(seeded, Progress.NONE);
    }

    private static CommandLineRun eval(String... arguments) {
        return CommandLineRun.of(
                Stream.concat(Stream.of("eval"), Arrays.stream(arguments)).toArray(String[]::new));
    }

    private String[] seeded(String... more) {
        return Stream.concat(
                        Stream.of(photos.toString(), "--model", "seeded=" + seeded, "--labels", "none"),
                        Arrays.stream(more))
                .toArray(String[]::new);
    }

    @Test
    void aQuickReportOfTheEmbeddedModelComputesNothingTwice() throws IOException {
        Assumptions.assumeTrue(ModelFile.hasEmbedded(), "skipped: this build has no embedded model");
        Path report = folder.resolve("report");
        String[] arguments = {"--quick", "--limit", "2", "--report", report.toString(), photos.toString()};
        CommandLineRun first = eval(arguments);
        assertEquals(0, first.status(), first.err());
        for (String row : List.of("| uncompressed |", "| tokens | 0 |", "| reconstruction | 3 |", "| jpeg | 85 |")) {
            assertTrue(first.out().contains(row), row + " in " + first.out());
        }
        assertTrue(first.err().contains("28 results measured, 0 were there already"), first.err());
        for (String name : List.of("report.md", "report.json", "figures.csv", "results.jsonl")) {
            assertTrue(Files.size(report.resolve(name)) > 0, name);
        }
        String page = Files.readString(report.resolve("index.html"));
        assertTrue(page.contains("comneck eval --quick --limit 2"));

        CommandLineRun second = eval(arguments);
        assertEquals(first.out(), second.out());
        assertTrue(second.err().contains("0 results measured, 28 were there already"), second.err());
    }

    @Test
    void aFullDiskLosesNoFinishedResult() throws IOException, InterruptedException {
        Path report = folder.resolve("report");
        String[] arguments = seeded("--anchor", "none", "--report", report.toString());
        List<String> command = new ArrayList<>(List.of("bash", "-c", "ulimit -f 8; exec \"$@\"", "bash")); // KiB
        command.addAll(List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED",
                "-XX:-UsePerfData",
                "-Xmx512m",
                "-cp",
                System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
                "org.comneck.cli.Main",
                "eval"));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(ExitStatus.IO, process.waitFor(), said);
        assertTrue(said.contains("what was finished is kept, run the same command again when there is room"), said);
        assertFalse(said.contains("\tat "), said);

        long kept = Files.readAllLines(report.resolve("results.jsonl")).size() - 1; // the last line is torn
        assertTrue(kept > 0 && kept < RESULTS, kept + " of " + RESULTS);
        CommandLineRun again = eval(arguments);
        assertEquals(0, again.status(), again.err());
        assertTrue(
                again.err().contains((RESULTS - kept) + " results measured, " + kept + " were there already"),
                again.err());
        assertEquals(eval(seeded("--anchor", "none")).out(), again.out());
    }

    @Test
    void whatCannotBeMeasuredIsNamedAndTheRestIsMeasured() throws IOException {
        Path broken = folder.resolve("broken.png");
        Files.writeString(broken, "no photo");
        CommandLineRun run = eval(seeded(
                broken.toString(),
                "--quality",
                "1",
                "--anchor",
                "fails@1: ls --no-such-option {in} {out} | cp {out} {png}",
                "--anchor",
                "copy@1: cp {in} {out} | cp {out} {png}"));
        assertEquals(0, run.status(), run.err());
        assertTrue(run.err().contains("skipped: " + broken), run.err());
        assertTrue(run.err().contains("anchor left out: fails: 'ls --no-such-option"), run.err());
        assertTrue(run.out().contains("6 photos") && run.out().contains("| copy | 1 |"), run.out());
        assertFalse(run.out().contains("| fails |"), run.out());
    }

    @Test
    void aLabelThatTheModelDoesNotKnowIsAnErrorThatNamesTheFile() {
        CommandLineRun run = eval(photos.toString(), "--model", seeded.toString(), "--labels", "names");
        assertEquals(ExitStatus.USAGE, run.status());
        assertTrue(run.err().contains("n01440764_0.png: its label 'n01440764'"), run.err());
        assertEquals(
                1,
                run.err()
                        .lines()
                        .filter(line -> !line.contains(" is not installed"))
                        .count(),
                run.err());
    }
}

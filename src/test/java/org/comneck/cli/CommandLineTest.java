package org.comneck.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The command line as its users see it: forms, files, statuses, one line an error, nothing half-written. */
class CommandLineTest {
    private static final String PHOTO = "src/test/resources/org/comneck/engine/apple.jpg";
    private static final ObjectMapper JSON = new ObjectMapper();

    @TempDir
    static Path shared;

    @TempDir
    Path folder;

    private static Path bitstream;

    @BeforeAll
    static void encode() {
        bitstream = shared.resolve("photo.cnk");
        CommandLineRun run = CommandLineRun.of("encode", PHOTO, "-o", bitstream.toString());
        assertEquals(0, run.status(), run.err());
    }

    @Test
    void photoToBitstreamToTokensIsPhotoToTokens() throws IOException {
        Path direct = folder.resolve("direct.npy");
        Path two = folder.resolve("two.npy");
        assertEquals(
                0, CommandLineRun.of("tokens", PHOTO, "-o", direct.toString()).status());
        assertEquals(
                0,
                CommandLineRun.of("tokens", bitstream.toString(), "-o", two.toString())
                        .status());
        assertArrayEquals(Files.readAllBytes(direct), Files.readAllBytes(two));
    }

    @Test
    void threadsAndBackendsDoNotChangeLatents() throws IOException {
        byte[] first = null;
        for (String[] flags : new String[][] {{"--threads", "1"}, {"--threads", "3"}, {"--backend", "reference"}}) {
            Path out = folder.resolve("l.safetensors");
            String[] arguments = Stream.concat(
                            Stream.of("latents", bitstream.toString(), "-o", out.toString()), Arrays.stream(flags))
                    .toArray(String[]::new);
            CommandLineRun run = CommandLineRun.of(arguments);
            assertEquals(0, run.status(), run.err());
            byte[] bytes = Files.readAllBytes(out);
            if (first == null) {
                first = bytes;
            }
            assertArrayEquals(first, bytes, String.join(" ", flags));
        }
    }

    @Test
    void standardInputAndOutput() throws IOException {
        CommandLineRun encoded = CommandLineRun.with(Files.readAllBytes(Path.of(PHOTO)), "encode", "-", "-o", "-");
        assertEquals(0, encoded.status(), encoded.err());
        assertArrayEquals(Files.readAllBytes(bitstream), encoded.bytes());
        CommandLineRun tokens =
                CommandLineRun.with(encoded.bytes(), "tokens", "-", "-o", "-", "--format", "bin", "--dtype", "f16");
        assertEquals(0, tokens.status(), tokens.err());
        assertEquals(256 * 192 * 2, tokens.bytes().length);
        assertEquals("", tokens.out());
    }

    @Test
    void optionsOfTokensChangeTheirShape() throws IOException {
        assertEquals("[257,192]", shape("--tokens", "all"));
        assertEquals("[1,192]", shape("--tokens", "cls"));
        assertEquals("[1,768]", shape("--layer", "-1", "--tokens", "cls", "--post-ln", "once", "--proj"));
        assertEquals("[256,192]", shape("--layer", "5", "--post-ln", "twice", "--precision", "bf16"));
    }

    private String shape(String... flags) throws IOException {
        Path out = folder.resolve("t.safetensors");
        String[] arguments = Stream.concat(
                        Stream.of("tokens", bitstream.toString(), "-o", out.toString(), "--json"), Arrays.stream(flags))
                .toArray(String[]::new);
        CommandLineRun run = CommandLineRun.of(arguments);
        assertEquals(0, run.status(), run.err());
        return JSON.readTree(run.out()).get("shape").toString();
    }

    @Test
    void decodesToThePictureThatWasCoded() {
        Path out = folder.resolve("p.png");
        CommandLineRun run = CommandLineRun.of("decode", bitstream.toString(), "-o", out.toString());
        assertEquals(0, run.status(), run.err());
        assertTrue(run.out().endsWith("256x256 pixels\n"), run.out());
        assertTrue(CommandLineRun.of("info", out.toString()).out().contains("format: PNG"));
    }

    @Test
    void fullKeepsEveryPixelAndSaysThatPositionsAreInterpolated() {
        Path full = folder.resolve("full.cnk");
        Path png = folder.resolve("full.png");
        assertEquals(
                0,
                CommandLineRun.of("encode", PHOTO, "--full", "-o", full.toString())
                        .status());
        assertTrue(CommandLineRun.of("decode", full.toString(), "-o", png.toString())
                .out()
                .endsWith("480x320 pixels\n"));
        CommandLineRun tokens = CommandLineRun.of(
                "tokens", full.toString(), "-o", folder.resolve("t.npy").toString());
        assertEquals(0, tokens.status(), tokens.err());
        assertEquals(1, tokens.err().lines().count(), tokens.err());
        assertTrue(tokens.err().contains("interpolated"), tokens.err());
    }

    @Test
    void qualityOrdersSizes() throws IOException {
        long last = 0;
        for (String quality : List.of("0", "1.5", "4")) {
            Path out = folder.resolve("q" + quality + ".cnk");
            CommandLineRun run = CommandLineRun.of("encode", PHOTO, "-o", out.toString(), "--quality", quality);
            assertEquals(0, run.status(), run.err());
            assertTrue(Files.size(out) > last, quality);
            last = Files.size(out);
        }
        fails(
                ExitStatus.USAGE,
                "quality",
                "encode",
                PHOTO,
                "-o",
                folder.resolve("x.cnk").toString(),
                "--quality",
                "9");
    }

    @Test
    void classifyPrintsWhatOthersParse() throws IOException {
        for (String[] arguments : new String[][] {
            {"classify", PHOTO, "--json"},
            {"classify", PHOTO, "--json", "--pixels"},
            {"classify", bitstream.toString(), "--json"}
        }) {
            CommandLineRun run = CommandLineRun.of(arguments);
            assertEquals(0, run.status(), run.err());
            JsonNode node = JSON.readTree(run.out());
            assertEquals(arguments[1], node.get("input").asText());
            assertTrue(node.get("width").asInt() >= 256);
            assertTrue(node.get("bytes").asInt() > 0);
            assertEquals(5, node.get("classes").size());
            double last = Double.POSITIVE_INFINITY;
            for (JsonNode one : node.get("classes")) {
                assertTrue(one.get("synset").asText().matches("n\\d{8}"), one.toString());
                assertFalse(one.get("name").asText().isEmpty());
                assertTrue(one.get("score").asDouble() <= last);
                last = one.get("score").asDouble();
            }
        }
    }

    @Test
    void foldersAndPatternsGoToAFolder() throws IOException {
        Path in = Files.createDirectories(folder.resolve("in/deeper"));
        Files.copy(Path.of(PHOTO), folder.resolve("in/a.jpg"));
        Files.copy(Path.of(PHOTO), in.resolve("b.jpg"));
        Files.writeString(in.resolve("notes.txt"), "not a photo");
        Path out = folder.resolve("out");
        CommandLineRun run = CommandLineRun.of("encode", folder.resolve("in").toString(), "-o", out + "/");
        assertEquals(0, run.status(), run.err());
        assertEquals(2, run.out().lines().count());
        assertArrayEquals(Files.readAllBytes(bitstream), Files.readAllBytes(out.resolve("a.cnk")));
        assertArrayEquals(Files.readAllBytes(bitstream), Files.readAllBytes(out.resolve("deeper/b.cnk")));
        CommandLineRun pattern = CommandLineRun.of("info", folder + "/out/**.cnk");
        assertEquals(0, pattern.status(), pattern.err());
        assertTrue(pattern.out().contains("b.cnk") || pattern.out().contains("a.cnk"), pattern.out());
    }

    @Test
    void oneBadFileLeavesTheOthersAlone() throws IOException {
        Path bad = folder.resolve("bad.jpg");
        Files.write(bad, Arrays.copyOf(Files.readAllBytes(Path.of(PHOTO)), 700));
        Path out = folder.resolve("out");
        CommandLineRun run = CommandLineRun.of("encode", bad.toString(), PHOTO, "-o", out.toString());
        assertEquals(ExitStatus.DAMAGED, run.status());
        assertEquals(1, run.err().lines().count(), run.err());
        assertTrue(run.err().startsWith("comneck: " + bad), run.err());
        assertTrue(Files.exists(out.resolve("apple.cnk")));
        assertEquals(List.of("apple.cnk"), names(out));
    }

    @Test
    void infoTellsKindsApart() {
        assertTrue(CommandLineRun.of("info", bitstream.toString()).out().contains("kind: bitstream"));
        assertTrue(CommandLineRun.of("info", PHOTO).out().contains("width: 480"));
        CommandLineRun model = CommandLineRun.of("info");
        assertTrue(model.out().contains("name: comneck-tiny"), model.out());
        Path seeded = folder.resolve("m.safetensors");
        CommandLineRun made = CommandLineRun.of("import", "--seeded", "tiny", "-o", seeded.toString());
        assertEquals(0, made.status(), made.err());
        assertTrue(CommandLineRun.of("info", seeded.toString()).out().contains("kind: model"));
        fails(
                ExitStatus.USAGE,
                "made with model",
                "tokens",
                bitstream.toString(),
                "--model",
                seeded.toString(),
                "-o",
                folder.resolve("t.npy").toString());
    }

    @Test
    void errorsAreOneLineThatSaysWhatToDo() throws IOException {
        String out = folder.resolve("o.npy").toString();
        fails(ExitStatus.IO, "no such file", "tokens", "absent.cnk", "-o", out);
        fails(ExitStatus.USAGE, "not a ComNeck bitstream", "tokens", "pom.xml", "-o", out);
        fails(ExitStatus.USAGE, "not a ComNeck bitstream", "decode", PHOTO, "-o", out);
        fails(ExitStatus.USAGE, ".npy, .safetensors or .bin", "tokens", PHOTO, "-o", folder.resolve("o.txt") + "");
        fails(ExitStatus.USAGE, "bf16", "tokens", PHOTO, "-o", out, "--dtype", "bf16");
        fails(ExitStatus.USAGE, "layer 99", "tokens", PHOTO, "-o", out, "--layer", "99");
        fails(ExitStatus.USAGE, "cuda", "tokens", PHOTO, "-o", out, "--backend", "cuda");
        fails(ExitStatus.USAGE, "tokns", "tokns");
        fails(ExitStatus.USAGE, "limit", "encode", PHOTO, "-o", out, "--max-pixels", "1000");
        fails(ExitStatus.IO, "cannot be written", "tokens", PHOTO, "-o", "/dev/full");
        fails(ExitStatus.IO, "cannot be written", "tokens", PHOTO, "-o", folder.resolve("no/folder/t.npy") + "");
        fails(ExitStatus.USAGE, "nothing to import", "import", "-o", folder.resolve("m.safetensors") + "");
        byte[] damaged = Files.readAllBytes(bitstream);
        damaged[damaged.length / 2] ^= 1;
        Path file = folder.resolve("damaged.cnk");
        Files.write(file, damaged);
        fails(ExitStatus.DAMAGED, file.toString(), "tokens", file.toString(), "-o", out);
        Files.write(file, Arrays.copyOf(damaged, 100));
        fails(ExitStatus.DAMAGED, file.toString(), "decode", file.toString(), "-o", folder.resolve("o.png") + "");
        assertEquals(List.of("damaged.cnk"), names(folder));
    }

    private static void fails(int status, String words, String... arguments) {
        CommandLineRun run = CommandLineRun.of(arguments);
        assertEquals(status, run.status(), run.err());
        assertEquals(1, run.err().lines().count(), run.err());
        assertTrue(run.err().startsWith("comneck: "), run.err());
        assertTrue(run.err().contains(words), run.err());
        assertEquals("", run.out());
    }

    private static List<String> names(Path directory) throws IOException {
        try (Stream<Path> files = Files.list(directory)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }
}

package org.comneck.eval;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.comneck.UsageException;
import org.comneck.engine.EncodeOptions;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.engine.Resample;
import org.comneck.model.ModelFile;
import org.comneck.model.ModelWriter;
import org.comneck.model.SeededModel;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** One handful of photos through every path, and what the paths say compared with the engine's public methods. */
class EvaluationTest {
    private static final Evaluation.NamedModel EMBEDDED = new Evaluation.NamedModel("tiny", null);
    private static final Anchor COPY = Anchor.command("copy@1: cp {in} {out} | cp {out} {png}");

    @TempDir
    static Path folder;

    private static List<Path> photos;

    @BeforeAll
    static void photos() throws IOException {
        Assumptions.assumeTrue(ModelFile.hasEmbedded(), "skipped: this build has no embedded model");
        Photo photo = Photo.read(Path.of("docs", "photo.jpg"));
        photos = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Path file = folder.resolve("n01443537_" + i + ".png");
            try (OutputStream out = Files.newOutputStream(file)) {
                photo.crop(20 * i, 10 * i, 200, 210)
                        .resize(262, 270, Resample.BICUBIC)
                        .writePng(out);
            }
            photos.add(file);
        }
    }

    private static Evaluation.Options options(List<Path> files, List<Anchor> anchors, Labels labels, Path report) {
        return new Evaluation.Options(
                List.of(EMBEDDED),
                files,
                List.of(),
                List.of(0.0, 1.5),
                anchors,
                labels,
                false,
                report,
                EngineOptions.DEFAULT,
                1);
    }

    /** Notes what it is told. */
    private static final class Notes implements Evaluation.Listener {
        final List<String> lines = new ArrayList<>();

        @Override
        public void progress(String what, long done, long total) {
            assertTrue(done <= total);
        }

        @Override
        public void note(String text) {
            lines.add(text);
        }
    }

    @Test
    void everyPathSaysWhatTheEngineSays() {
        Outcome outcome =
                new Evaluation(options(photos, List.of(COPY, Anchor.jpeg()), Labels.NAMES, null), new Notes()).run();
        Outcome.Measured model = outcome.models().get("tiny");
        try (NativeEngine engine = NativeEngine.openDefault()) {
            for (int i = 0; i < photos.size(); i++) {
                Photo photo = Photo.read(photos.get(i));
                Photo picture = photo.prepare(256, Resample.BICUBIC);
                byte[] file = engine.encode(List.of(photo), new EncodeOptions(1.5, false));
                Row tokens =
                        model.rows().get(new Outcome.Setting("tokens", 1.5)).get(i);
                Row pixels = model.rows()
                        .get(new Outcome.Setting("reconstruction", 1.5))
                        .get(i);
                Row raw =
                        model.rows().get(new Outcome.Setting("uncompressed", 0)).get(i);
                assertEquals(file.length, tokens.bytes());
                assertEquals(file.length, pixels.bytes());
                assertEquals(8.0 * file.length, tokens.estimatedBits(), 0.03 * 8 * file.length + 8 * 100);
                assertEquals(name(engine.classify(engine.read(file), 1).getFirst()), name(model, tokens));
                assertEquals(name(engine.classifyPixels(photo, 1)), name(model, raw));
                Photo decoded = engine.decode(file);
                assertEquals(name(engine.classifyPixels(decoded, 1)), name(model, pixels));
                assertEquals(PictureQuality.psnr(picture, decoded), pixels.psnr(), 1e-5);
                assertTrue(Double.isNaN(tokens.psnr()));

                Row copy = model.rows().get(new Outcome.Setting("copy", 1)).get(i);
                assertEquals(100, copy.psnr());
                for (double[] layer : copy.similarity()) {
                    assertEquals(1, layer[0], 1e-6);
                    assertEquals(0, layer[1], 1e-6);
                    assertEquals(1, layer[2], 1e-6);
                    assertEquals(0, layer[3], 1e-6);
                }
                assertEquals(13, tokens.similarity().length);
                assertEquals(null, tokens.similarity()[0]); // before the neck's entry
                assertTrue(tokens.similarity()[12][1] > 0);
            }
        }
        Outcome.Figure copy = outcome.figure("tiny", "copy", 1);
        assertEquals(1, copy.values().get(Measure.AGREE1).value());
        assertEquals(1, copy.values().get(Measure.AGREE5).value());
        assertTrue(outcome.figure("tiny", "tokens", 0).values().containsKey(Measure.TOP5));
        assertFalse(copy.values().containsKey(Measure.SHOT1)); // one class only
        assertTrue(outcome.savings("tiny").stream()
                .anyMatch(s -> s.path().equals("tokens") && s.reference().equals("reconstruction")));
        assertTrue(MarkdownReport.of(outcome).contains("| tokens | 1.5 |"));
    }

    @Test
    void aSecondModelIsComparedWithTheFirstOnesPicturesToo() {
        Evaluation.Options options = new Evaluation.Options(
                List.of(EMBEDDED, new Evaluation.NamedModel("again", null)),
                photos,
                List.of(),
                List.of(0.0, 1.0, 2.0),
                List.of(),
                Labels.NONE,
                false,
                null,
                EngineOptions.DEFAULT,
                1);
        Outcome outcome = new Evaluation(options, new Notes()).run();
        List<Outcome.Saving> savings = outcome.savings("again");
        Outcome.Saving own = saving(savings, "reconstruction");
        Outcome.Saving first = saving(savings, "tiny's reconstruction");
        assertEquals(own.difference(), first.difference());
        assertEquals(own.low(), first.low());
        assertEquals(own.atQuality(), first.atQuality());
        assertEquals(0, saving(savings, "tiny's tokens").difference().percent(), 1e-9);
        assertTrue(outcome.savings("tiny").stream().noneMatch(s -> s.reference().contains("'s")));
    }

    private static Outcome.Saving saving(List<Outcome.Saving> savings, String reference) {
        return savings.stream()
                .filter(s -> s.measure() == Measure.CLASS_COSINE)
                .filter(s -> s.reference().equals(reference))
                .findFirst()
                .orElseThrow();
    }

    private static String name(List<org.comneck.engine.Classification> classes) {
        return classes.getFirst().synset();
    }

    private static String name(Outcome.Measured model, Row row) {
        return model.manifest().labels().get(row.top()[0]).synset();
    }

    @Test
    void nothingIsMeasuredTwiceAndNothingFinishedIsLost() throws IOException {
        Path report = folder.resolve("report");
        Evaluation.Options options = options(photos, List.of(COPY), Labels.NAMES, report);
        Outcome first = new Evaluation(options, new Notes()).run();
        assertEquals(3 * (1 + 2 * 2 + 1), first.measured());
        Outcome second = new Evaluation(options, new Notes()).run();
        assertEquals(0, second.measured());
        assertEquals(first.measured(), second.found());
        assertEquals(MarkdownReport.of(first), MarkdownReport.of(second));
        written(second, report);

        Path file = report.resolve("results.jsonl");
        byte[] bytes = Files.readAllBytes(file);
        Files.write(file, java.util.Arrays.copyOf(bytes, bytes.length - 9)); // a full disk, or kill -9
        Outcome third = new Evaluation(options, new Notes()).run();
        assertEquals(1, third.measured());
        assertEquals(MarkdownReport.of(first), MarkdownReport.of(third));
        assertEquals(0, new Evaluation(options, new Notes()).run().measured());
    }

    private static void written(Outcome outcome, Path report) throws IOException {
        ReportFolder.write(outcome, report, "comneck eval <photos>", "comneck test");
        String page = Files.readString(report.resolve("index.html"));
        assertTrue(page.contains("<svg") && page.contains("comneck eval &lt;photos&gt;"));
        assertEquals(
                3 * (1 + 2 + 2),
                page.split("data:image/png;base64,", -1).length - 1); // two rates: photo and heat map each
        assertFalse(page.contains("http"), "the page must stand alone");
        var json = new com.fasterxml.jackson.databind.ObjectMapper()
                .readTree(report.resolve("report.json").toFile())
                .get("models")
                .get(0);
        Outcome.Figure tokens = outcome.figure("tiny", "tokens", 1.5);
        assertEquals(
                tokens.bitsPerPixel(),
                json.get("figures").get(3).get("bits_per_pixel").asDouble());
        assertEquals(64, json.get("sha256").asText().length());
        List<String> lines = Files.readAllLines(report.resolve("figures.csv"));
        assertTrue(lines.stream().allMatch(line -> line.split(",").length == 11), lines.getFirst());
        assertEquals(MarkdownReport.of(outcome), Files.readString(report.resolve("report.md")));
    }

    @Test
    void badInput() throws IOException {
        Path broken = folder.resolve("n01443537_broken.png");
        Files.write(broken, new byte[] {(byte) 0x89, 'P', 'N', 'G', 13, 10, 26, 10, 0, 0});
        Path missing = folder.resolve("n01443537_missing.png");
        Anchor fails = Anchor.command("fails@1: ls --no-such-option {in} {out} | cp {out} {png}");
        Notes notes = new Notes();
        Outcome outcome = new Evaluation(
                        options(List.of(photos.get(0), broken, missing), List.of(fails), Labels.NAMES, null), notes)
                .run();
        assertEquals(2, outcome.skipped().size());
        assertEquals(1, outcome.figure("tiny", "tokens", 0).count());
        assertEquals(null, outcome.figure("tiny", "fails", 1));
        assertTrue(notes.lines.stream().anyMatch(l -> l.contains("n01443537_broken.png")), notes.lines.toString());
        assertTrue(notes.lines.stream().anyMatch(l -> l.contains("no-such-option") && l.contains("status 2")));
        Files.delete(broken);

        Path unknown = folder.resolve("n99999999_x.png");
        Files.copy(photos.get(0), unknown);
        UsageException error = assertThrows(
                UsageException.class,
                () -> new Evaluation(options(List.of(unknown), List.of(), Labels.NAMES, null), new Notes()).run());
        assertTrue(error.getMessage().startsWith(unknown + ": its label 'n99999999'"), error.getMessage());
        Files.delete(unknown);
        assertThrows(
                UsageException.class,
                () -> new Evaluation(options(List.of(missing), List.of(), Labels.NONE, null), new Notes()).run());
        for (String template :
                List.of("", "x: a {in} {out}", "x@1,b: a {in} {out} | b {out} {png}", "x: a | b {png}")) {
            assertThrows(UsageException.class, () -> Anchor.command(template), template);
        }
    }

    /** A U-Net whose last layer is zero leaves pictures as they are: both paths then say the same. */
    @Test
    void postProcessingThatDoesNothingIsReconstruction() {
        SeededModel seeded = SeededModel.named(SeededModel.TINY);
        ModelWriter writer = ModelWriter.of(seeded.manifest());
        seeded.tensors().forEach(writer::add);
        writer.add("post.down.0.0.weight", Tensor.of(new float[4 * 27], 4, 3, 3, 3));
        writer.add("post.down.0.1.weight", Tensor.of(new float[144], 4, 4, 3, 3));
        writer.add("post.out.weight", Tensor.of(new float[12], 3, 4, 1, 1));
        Path file = folder.resolve("post.safetensors");
        writer.write(file);
        Evaluation.Options options = new Evaluation.Options(
                List.of(new Evaluation.NamedModel("post", file)),
                photos,
                List.of(),
                List.of(1.0),
                List.of(),
                Labels.NONE,
                false,
                null,
                EngineOptions.DEFAULT,
                1);
        Outcome outcome = new Evaluation(options, new Notes()).run();
        assertEquals(3 * (1 + 3), outcome.measured());
        var rows = outcome.models().get("post").rows();
        for (int i = 0; i < photos.size(); i++) {
            Row plain = rows.get(new Outcome.Setting("reconstruction", 1)).get(i);
            Row post = rows.get(new Outcome.Setting("post-processing", 1)).get(i);
            assertEquals(plain.bytes(), post.bytes());
            assertArrayEquals(plain.feature(), post.feature());
            assertEquals(plain.psnr(), post.psnr());
        }
        assertTrue(outcome.models().get("post").costs().stream()
                .anyMatch(c -> c.stage().equals("post-processing U-Net") && c.macs() == 64L * 64 * (108 + 144 + 12)));
    }

    @Test
    void wholePictures() {
        Evaluation.Options options = new Evaluation.Options(
                List.of(EMBEDDED),
                photos.subList(0, 1),
                List.of(),
                List.of(2.0),
                List.of(Anchor.jpeg()),
                Labels.NONE,
                true,
                null,
                EngineOptions.DEFAULT,
                1);
        Outcome outcome = new Evaluation(options, new Notes()).run();
        Photo photo = Photo.read(photos.getFirst());
        try (NativeEngine engine = NativeEngine.openDefault()) {
            byte[] file = engine.encode(List.of(photo), new EncodeOptions(2, true));
            Outcome.Figure figure = outcome.figure("tiny", "reconstruction", 2);
            assertEquals(8.0 * file.length / (262 * 270), figure.bitsPerPixel(), 1e-9);
            assertEquals(
                    PictureQuality.psnr(photo, engine.decode(file)),
                    figure.values().get(Measure.PSNR).value(),
                    1e-5);
        }
        double[] jpeg = outcome.curve("tiny", "jpeg", Measure.PSNR).points().stream()
                .mapToDouble(Curve.Point::value)
                .toArray();
        assertEquals(7, jpeg.length); // every quality costs more and is better
        assertEquals(null, outcome.figure("tiny", "tokens", 2));
    }
}

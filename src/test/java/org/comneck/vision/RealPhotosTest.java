package org.comneck.vision;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.SafetensorsFile;
import org.comneck.model.TensorSource;
import org.comneck.parity.Fixture;
import org.comneck.parity.ParityTable;
import org.comneck.parity.TestBackends;
import org.comneck.tensor.ElementType;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/** Real weights on real photos: DeiT-Tiny's accuracy is known (../shared/data/README.md). */
class RealPhotosTest {
    private static final int BATCH = 9;

    private static Path data() {
        Path path = Path.of(System.getProperty("comneck.shared", "../shared")).resolve("data");
        Assumptions.assumeTrue(Files.isDirectory(path.resolve("vision")), "skipped: " + path + " is not there");
        return path;
    }

    private static ModelFile deitTiny() {
        Map<String, TensorSource> tensors = new LinkedHashMap<>();
        try (SafetensorsFile file = SafetensorsFile.open(data().resolve("vision/deit-tiny-patch16-224.safetensors"))) {
            file.tensors().forEach((name, tensor) -> tensors.put("visual.trunk." + name, TensorSource.of(tensor)));
            Manifest.Encoder encoder = new Manifest.Encoder(
                    "timm",
                    192,
                    12,
                    3,
                    16,
                    224,
                    "gelu",
                    1e-6,
                    List.of(0.485, 0.456, 0.406),
                    List.of(0.229, 0.224, 0.225),
                    0);
            return ModelFile.inMemory(
                    new Manifest(
                            "deit-tiny",
                            Manifest.PROFILE,
                            null,
                            null,
                            null,
                            encoder,
                            List.of(),
                            List.of(),
                            new Manifest.Tokens(-1, "all")),
                    tensors);
        }
    }

    @Test
    void deitTinyClassifiesAsWellAsItIsKnownTo() throws IOException {
        Path data = data();
        List<String> classes = Files.readAllLines(data.resolve("vision/imagenet-classes.txt")).stream()
                .map(line -> line.split("\\s")[0])
                .toList();
        List<Path> photos;
        try (Stream<Path> files = Files.list(data.resolve("photos/imagenet"))) {
            photos = files.filter(f -> f.toString().endsWith(".jpg")).sorted().toList();
        }
        int crop = Integer.getInteger("comneck.deit.crop", 224);
        try (Backend backend = TestBackends.fastest();
                ModelFile model = deitTiny();
                VisionEncoder encoder = VisionEncoder.load(backend, model, Precision.F32)) {
            RunBuilder builder = backend.newRun();
            Activation pixels = builder.input(ElementType.U8, BATCH, crop, crop, 3);
            Activation logits =
                    encoder.classLogits(builder, encoder.blocks(builder, encoder.embed(builder, pixels), 0, -1));
            builder.output(logits);
            int first = 0;
            int five = 0;
            try (Run run = builder.build()) {
                for (int start = 0; start < photos.size(); start += BATCH) {
                    int count = Math.min(BATCH, photos.size() - start);
                    for (int i = 0; i < count; i++) {
                        byte[] rgb = centre(photos.get(start + i), crop);
                        MemorySegment.copy(
                                MemorySegment.ofArray(rgb), 0, run.memory(pixels), (long) i * rgb.length, rgb.length);
                    }
                    run.execute();
                    float[] scores = Fixture.read(run, logits);
                    for (int i = 0; i < count; i++) {
                        String name = photos.get(start + i).getFileName().toString();
                        int label = classes.indexOf(name.substring(0, name.indexOf('_')));
                        int better = 0;
                        for (int c = 0; c < 1000; c++) {
                            better += scores[i * 1000 + c] > scores[i * 1000 + label] ? 1 : 0;
                        }
                        first += better == 0 ? 1 : 0;
                        five += better < 5 ? 1 : 0;
                    }
                }
            }
            ParityTable table = new ParityTable("deit-tiny " + crop);
            table.count("right, top-1", first, photos.size(), -1);
            table.count("right, top-5", five, photos.size(), -1);
            table.finish();
            assertEquals(crop == 224 ? 77.5 : 78.5, 100.0 * first / photos.size(), 0.3);
            assertEquals(93.8, 100.0 * five / photos.size(), 0.5);
        }
    }

    /** The centre of a photo whose short side is made 256 first. */
    private static byte[] centre(Path file, int side) throws IOException {
        BufferedImage image = ImageIO.read(file.toFile());
        int width = image.getWidth();
        int height = image.getHeight();
        float[] rgb = new float[width * height * 3];
        for (int i = 0; i < width * height; i++) {
            int value = image.getRGB(i % width, i / width);
            rgb[3 * i] = value >> 16 & 0xFF;
            rgb[3 * i + 1] = value >> 8 & 0xFF;
            rgb[3 * i + 2] = value & 0xFF;
        }
        int shorter = Math.min(width, height);
        if (shorter != 256) {
            int newWidth = 256 * width / shorter;
            int newHeight = 256 * height / shorter;
            rgb = enlarge(rgb, height, width * 3, 3, width, newWidth);
            rgb = enlarge(rgb, 1, height * newWidth * 3, newWidth * 3, height, newHeight);
            width = newWidth;
            height = newHeight;
        }
        int left = (width - side) / 2;
        int top = (height - side) / 2;
        byte[] out = new byte[side * side * 3];
        for (int i = 0; i < out.length; i++) {
            int at = (top + i / (3 * side)) * width + left + i / 3 % side;
            out[i] = (byte) (int) rgb[3 * at + i % 3];
        }
        return out;
    }

    /** Bicubic (a = -0.5) along one dimension, rounded to bytes as Pillow does; only for growing. */
    private static float[] enlarge(float[] in, int rows, int rowSize, int step, int from, int to) {
        float[] out = new float[rows * step * to];
        for (int row = 0; row < rows; row++) {
            for (int x = 0; x < to; x++) {
                double centre = (x + 0.5) * from / to;
                int first = Math.max(0, (int) (centre - 2 + 0.5));
                int end = Math.min(from, (int) (centre + 2 + 0.5));
                double total = 0;
                for (int k = first; k < end; k++) {
                    total += keys(k + 0.5 - centre);
                }
                for (int c = 0; c < step; c++) {
                    double sum = 0;
                    for (int k = first; k < end; k++) {
                        sum += keys(k + 0.5 - centre) / total * in[row * rowSize + k * step + c];
                    }
                    out[(row * to + x) * step + c] = Math.clamp(Math.round(sum), 0, 255);
                }
            }
        }
        return out;
    }

    private static double keys(double distance) {
        double d = Math.abs(distance);
        return d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
    }
}

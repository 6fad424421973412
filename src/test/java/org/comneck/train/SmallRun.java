package org.comneck.train;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import javax.imageio.ImageIO;
import org.comneck.model.ModelWriter;
import org.comneck.tensor.Tensor;

/** Photos, a teacher and recipes that are small enough to train on within seconds. */
final class SmallRun {
    private static final int WIDTH = 16;
    private static final int LAYERS = 3;
    private static final int CLASSES = 8;
    private static final int PROJECTION = 24;

    private final Path data;

    SmallRun(Path data) throws IOException {
        this.data = data;
        photos();
        teacher();
        texts();
        List<String> labels = new ArrayList<>();
        for (int i = 0; i < CLASSES; i++) {
            labels.add("n0000000" + i + " class " + i);
        }
        Files.write(data.resolve("labels.txt"), labels);
    }

    Path data() {
        return data;
    }

    /** Smooth gradients with a bright square, labelled by file name. */
    private void photos() throws IOException {
        Path folder = Files.createDirectories(data.resolve("photos"));
        SplittableRandom random = new SplittableRandom(7);
        for (int k = 0; k < 15; k++) {
            BufferedImage image = new BufferedImage(96, 80, BufferedImage.TYPE_INT_RGB);
            int left = random.nextInt(60);
            int top = random.nextInt(50);
            int base = random.nextInt(0x1000000);
            for (int y = 0; y < 80; y++) {
                for (int x = 0; x < 96; x++) {
                    boolean inside = x >= left && x < left + 24 && y >= top && y < top + 24;
                    int red = ((base >> 16) & 0x7F) + x;
                    int green = ((base >> 8) & 0x7F) + y;
                    int blue = (base & 0x7F) + (x + y) / 2;
                    image.setRGB(x, y, inside ? 0xFFFFFF ^ base : red << 16 | green << 8 | blue);
                }
            }
            Path file = folder.resolve(String.format("n0000000%d_%02d.png", k % CLASSES, k));
            ImageIO.write(image, "png", file.toFile());
        }
    }

    private void teacher() {
        SplittableRandom random = new SplittableRandom(3);
        Map<String, Tensor> w = new LinkedHashMap<>();
        put(w, random, "cls_token", 0.1, 1, 1, WIDTH);
        put(w, random, "pos_embed", 0.5, 1, 10, WIDTH);
        put(w, random, "patch_embed.proj.weight", 0.3, WIDTH, 3, 16, 16);
        put(w, random, "patch_embed.proj.bias", 0.1, WIDTH);
        for (int i = 0; i < LAYERS; i++) {
            String p = "blocks." + i;
            norm(w, p + ".norm1");
            put(w, random, p + ".attn.qkv.weight", 0.8, 3 * WIDTH, WIDTH);
            put(w, random, p + ".attn.qkv.bias", 0.1, 3 * WIDTH);
            put(w, random, p + ".attn.proj.weight", 0.4, WIDTH, WIDTH);
            put(w, random, p + ".attn.proj.bias", 0.1, WIDTH);
            norm(w, p + ".norm2");
            put(w, random, p + ".mlp.fc1.weight", 0.4, 4 * WIDTH, WIDTH);
            put(w, random, p + ".mlp.fc1.bias", 0.1, 4 * WIDTH);
            put(w, random, p + ".mlp.fc2.weight", 0.2, WIDTH, 4 * WIDTH);
            put(w, random, p + ".mlp.fc2.bias", 0.1, WIDTH);
        }
        norm(w, "norm");
        put(w, random, "head.weight", 0.8, CLASSES, WIDTH);
        put(w, random, "head.bias", 0.1, CLASSES);
        ModelWriter writer = ModelWriter.plain();
        w.forEach(writer::add);
        writer.write(data.resolve("teacher.safetensors"));
    }

    private void texts() {
        Map<String, Tensor> w = new LinkedHashMap<>();
        put(w, new SplittableRandom(5), "text", 1, CLASSES, PROJECTION);
        ModelWriter.plain().add("text", w.get("text")).write(data.resolve("texts.safetensors"));
    }

    private static void norm(Map<String, Tensor> w, String name) {
        float[] ones = new float[WIDTH];
        java.util.Arrays.fill(ones, 1f);
        w.put(name + ".weight", Tensor.of(ones, WIDTH));
        w.put(name + ".bias", Tensor.of(new float[WIDTH], WIDTH));
    }

    private static void put(Map<String, Tensor> w, SplittableRandom random, String name, double bound, long... shape) {
        long count = 1;
        for (long size : shape) {
            count *= size;
        }
        float[] values = new float[(int) count];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) random.nextDouble(-bound, bound);
        }
        w.put(
                name,
                new Tensor(
                        org.comneck.tensor.ElementType.F32,
                        org.comneck.tensor.Shape.of(shape),
                        MemorySegment.ofArray(values)));
    }

    static Recipe codec(int steps, String lambdas, String more) {
        return Recipe.parse("small-codec", """
                stage = codec
                threads = 1
                data.holdout = photos
                budget.steps = %d
                batch = 2
                crop = 64
                rate = 2e-3
                warmup = 3
                average = 0.9
                log.steps = 1
                codec.n = 8
                codec.m = 12
                codec.slices = 2 4 6
                codec.aggregation = 16 12
                codec.context = 12 10
                codec.lambdas = %s
                %s
                """.formatted(steps, lambdas, more));
    }

    static Recipe encoder(int steps, String more) {
        return Recipe.parse("small-encoder", """
                stage = encoder
                threads = 1
                data.holdout = photos
                teacher = teacher.safetensors
                texts = texts.safetensors
                labels = labels.txt
                budget.steps = %d
                batch = 8
                rate = 3e-3
                warmup = 3
                average = 0.9
                log.steps = 1
                encoder.width = 16
                encoder.layers = 3
                encoder.heads = 2
                encoder.patch = 16
                encoder.image = 64
                encoder.projection = 24
                encoder.labels = 8
                %s
                """.formatted(steps, more));
    }

    /** A neck from scratch between the stages of this run folder. */
    static Recipe neck(int steps) {
        return surrogate("small-neck", steps, """
                codec = small-codec
                encoder = small-encoder
                neck = fresh
                neck.entry = 1
                neck.heads = 2
                schedule = until 1: entry + tokens + last + class.relative + 0.3 soft
                """);
    }

    /** A stage through the frozen encoder. */
    static Recipe surrogate(String name, int steps, String more) {
        return Recipe.parse(name, """
                stage = neck
                threads = 1
                data.holdout = photos
                budget.steps = %d
                batch = 8
                rate = 3e-3
                warmup = 3
                average = 0.9
                log.steps = 1
                %s
                """.formatted(steps, more));
    }

    static Recipe model() {
        return Recipe.parse("small", """
                name = small
                neck = small-neck
                """);
    }
}

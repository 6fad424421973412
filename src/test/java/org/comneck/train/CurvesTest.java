package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import javax.imageio.ImageIO;
import org.comneck.UsageException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CurvesTest {
    @TempDir
    Path run;

    private static String line(int step) {
        double t = step / 3000.0;
        return step % 1000 == 0
                ? String.format(
                        Locale.ROOT,
                        "{\"kind\":\"evaluation\",\"step\":%d,\"photos\":142,\"top1\":%.3f,\"top5\":%.3f,\"bpp.0\":%.3f,\"bpp.1\":%.3f}",
                        step,
                        0.4 * t,
                        0.6 * t,
                        0.3 - 0.1 * t,
                        0.6 - 0.2 * t)
                : String.format(
                        Locale.ROOT,
                        "{\"kind\":\"step\",\"step\":%d,\"photos_per_second\":12,\"loss\":%s,\"psnr\":%.3f,\"gradient\":0.5,\"rate\":%.3g}",
                        step,
                        step == 500 ? "null" : Double.toString(3 * Math.exp(-t)),
                        20 + 5 * t,
                        1e-3 * (1 - t));
    }

    @Test
    void groupsBecomePicturesWithAPanelForEachTerm() throws IOException {
        Path folder = Files.createDirectories(run.resolve("tiny-encoder"));
        StringBuilder text = new StringBuilder();
        for (int step = 20; step <= 3000; step += 20) {
            text.append(line(step)).append('\n');
        }
        // The line of a process that was killed while it wrote.
        Files.writeString(folder.resolve("metrics.jsonl"), text + "{\"kind\":\"st");
        List<Path> files = Trainer.plot(run);
        assertEquals(
                List.of("loss.png", "rate.png", "evaluation.png"),
                files.stream().map(file -> file.getFileName().toString()).toList());
        int[] panels = {2, 3, 2};
        for (int i = 0; i < 3; i++) {
            BufferedImage image = ImageIO.read(files.get(i).toFile());
            assertEquals(panels[i] * 480, image.getWidth());
            int coloured = 0;
            for (int p = 0; p < image.getWidth() * image.getHeight(); p++) {
                int rgb = image.getRGB(p % image.getWidth(), p / image.getWidth());
                coloured += (rgb & 0xFF) > ((rgb >> 16) & 0xFF) + 60 ? 1 : 0;
            }
            assertTrue(coloured > 300, files.get(i) + " shows no line: " + coloured + " blue pixels");
        }
        assertEquals(files, Trainer.plot(folder), "the stage's folder itself does too");
    }

    @Test
    void aFolderWithoutARunIsSaid() {
        assertThrows(UsageException.class, () -> Trainer.plot(run));
        assertThrows(UsageException.class, () -> Trainer.plot(run.resolve("absent")));
    }
}

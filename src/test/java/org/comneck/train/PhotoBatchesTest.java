package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.comneck.UsageException;
import org.comneck.engine.Photo;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Batches are the same whoever makes them; what cannot be used is left out and said. */
class PhotoBatchesTest {
    @TempDir
    Path data;

    @BeforeEach
    void photos() throws IOException {
        new SmallRun(data);
    }

    private static Recipe recipe(String more) {
        return Recipe.parse("x", "data.folders = photos\n" + more);
    }

    private PhotoBatches batches(String more) {
        Recipe recipe = recipe(more);
        return new PhotoBatches(recipe, Photos.training(recipe, data), Photos.randomViews(recipe));
    }

    @Test
    void batchesDependOnTheSeedAloneAndNotOnThreadsOrOrder() {
        String colours =
                "augment.brightness = 0.3\naugment.contrast = 0.3\naugment.saturation = 0.3\naugment.grey = 0.2\n";
        try (PhotoBatches plain = batches(colours + "data.threads = 0");
                PhotoBatches threaded = batches(colours + "data.threads = 3");
                PhotoBatches other = batches(colours + "seed = 2")) {
            for (long index : new long[] {0, 1, 2, 7, 3, 40}) {
                PhotoBatches.Batch expected = plain.get(index, 4, 32);
                PhotoBatches.Batch actual = threaded.get(index, 4, 32);
                assertArrayEquals(expected.photos(), actual.photos());
                assertArrayEquals(expected.pixels(), actual.pixels());
                assertFalse(
                        Arrays.equals(expected.pixels(), other.get(index, 4, 32).pixels()));
                for (float value : expected.pixels()) {
                    assertTrue(value >= 0 && value <= 1, "pixel " + value);
                }
            }
            // Batches made ahead with another size are not taken.
            assertEquals(3 * 3 * 48 * 48, threaded.get(41, 3, 48).pixels().length);
            assertArrayEquals(
                    plain.get(42, 3, 48).pixels(), threaded.get(42, 3, 48).pixels());
        }
    }

    @Test
    void anEpochShowsEachPhotoOnce() {
        try (PhotoBatches batches = batches("")) {
            int[] shown = new int[15];
            for (int i = 0; i < 3; i++) {
                for (int photo : batches.get(i, 5, 16).photos()) {
                    shown[photo]++;
                }
            }
            int[] once = new int[15];
            Arrays.fill(once, 1);
            assertArrayEquals(once, shown);
        }
    }

    @Test
    void unreadableAndSmallPhotosAreLeftOutAndSaid() throws IOException {
        Files.writeString(data.resolve("photos/a-text.jpg"), "this is no photo");
        byte[] good = Files.readAllBytes(data.resolve("photos/n00000000_00.png"));
        Files.write(data.resolve("photos/b-cut.png"), Arrays.copyOf(good, good.length / 2));
        Files.write(data.resolve("photos/c-empty.jpeg"), new byte[0]);
        Recipe recipe = recipe("");
        Photos photos = Photos.training(recipe, data);
        try (PhotoBatches batches = new PhotoBatches(recipe, photos, Photos.randomViews(recipe))) {
            for (int i = 0; i < 8; i++) {
                for (int photo : batches.get(i, 6, 16).photos()) {
                    assertTrue(photo >= 3, "photo " + photos.file(photo));
                }
            }
        }
        List<Photos.Skipped> skipped = photos.takeSkipped();
        assertEquals(
                List.of("a-text.jpg", "b-cut.png", "c-empty.jpeg"),
                skipped.stream()
                        .map(one -> one.file().getFileName().toString())
                        .sorted()
                        .toList());
        assertEquals(List.of(), photos.takeSkipped());

        Photos all = Photos.training(recipe, data);
        try (PhotoBatches batches = new PhotoBatches(recipe, all, Photos::randomSquare)) {
            UsageException error = assertThrows(UsageException.class, () -> batches.get(0, 2, 128));
            assertTrue(error.getMessage().startsWith("none of the 18 photos can be used"), error.getMessage());
        }
        assertTrue(all.takeSkipped().stream()
                .anyMatch(one -> one.reason().contains("96x80 pixels, too few for views of 128")));
    }

    @Test
    void anEmptyFolderIsSaid() throws IOException {
        Files.createDirectories(data.resolve("none/deeper"));
        UsageException error = assertThrows(
                UsageException.class, () -> Photos.training(Recipe.parse("x", "data.folders = none"), data));
        assertTrue(error.getMessage().contains("holds no photos"), error.getMessage());
    }

    @Test
    void theHoldOutIsEveryFifthByName() {
        Recipe recipe = Recipe.parse("x", "data.holdout = photos");
        Photos held = Photos.heldOut(recipe, data);
        assertEquals(3, held.count());
        assertEquals("n00000002_02.png", held.file(0).getFileName().toString());
        assertEquals(12, Photos.training(recipe, data).count());
    }

    /** A view of whole pixels at their own size is those pixels; a view made smaller is their mean, so that nothing aliases. */
    @Test
    void viewsAreDrawnWithoutAliasing() {
        byte[] rgb = new byte[3 * 64 * 48];
        new SplittableRandom(1).nextBytes(rgb);
        Photo noise = Photo.of(64, 48, rgb);
        float[] own = new float[3 * 16 * 16];
        Photos.draw(noise, new Photos.View(5, 7, 16, 16, false), 16, own, 0);
        float[] flipped = new float[3 * 16 * 16];
        Photos.draw(noise, new Photos.View(5, 7, 16, 16, true), 16, flipped, 0);
        for (int i = 0; i < own.length; i++) {
            int c = i / 256;
            int y = i % 256 / 16;
            int x = i % 16;
            float pixel = (rgb[3 * ((7 + y) * 64 + 5 + x) + c] & 0xFF) / 255f;
            assertEquals(pixel, own[i], 1e-6);
            assertEquals(own[i], flipped[(c * 16 + y) * 16 + 15 - x]);
        }
        byte[] stripes = new byte[3 * 64 * 64];
        for (int i = 0; i < stripes.length; i++) {
            stripes[i] = (byte) (i / 3 % 2 == 0 ? 255 : 0);
        }
        float[] small = new float[3 * 8 * 8];
        Photos.draw(Photo.of(64, 64, stripes), new Photos.View(0, 0, 64, 64, false), 8, small, 0);
        for (int i = 0; i < small.length; i++) {
            boolean border = i % 8 == 0 || i % 8 == 7;
            assertEquals(0.5, small[i], border ? 0.1 : 1e-4);
        }
    }
}

package org.comneck.train;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Locale;
import java.util.Queue;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.bytedeco.pytorch.Tensor;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.engine.Photo;

/**
 * The photos of a recipe, read by whoever needs one first; several threads may ask. As RGB bytes they are kept in memory up to a third of the
 * heap, and read anew each time beyond that.
 *
 * <p>Of the folders under {@code data.holdout}, every fifth photo by name (the fifth, tenth, ...) is never trained on: those are for measuring.
 * A photo that cannot be read, or is too small, is left out and listed under {@link #takeSkipped}.
 */
final class Photos {
    /** One in this many photos of the labelled folders is held out. */
    static final int HOLDOUT = 5;

    private static final List<String> EXTENSIONS = List.of(".jpg", ".jpeg", ".png", ".webp");

    /**
     * A rectangle of a photo, to be brought to a square.
     *
     * @param flip whether left and right are exchanged
     */
    record View(double x, double y, double width, double height, boolean flip) {}

    /**
     * A photo that is left out.
     *
     * @param reason as a sentence that names the file
     */
    record Skipped(Path file, String reason) {}

    private final List<Path> files;
    private final AtomicReferenceArray<Photo> kept;
    private final AtomicLong bytesLeft = new AtomicLong(Runtime.getRuntime().maxMemory() / 3);
    private final BitSet left = new BitSet();
    private final Queue<Skipped> skipped = new ConcurrentLinkedQueue<>();

    private Photos(List<Path> files) {
        this.files = List.copyOf(files);
        this.kept = new AtomicReferenceArray<>(files.size());
    }

    /** Photos to train on: {@code data.folders} and, less the held-out ones, {@code data.holdout}. */
    static Photos training(Recipe recipe, Path data) {
        return select(recipe, data, true);
    }

    /** The held-out photos of {@code data.holdout} that can be read. */
    static Photos heldOut(Recipe recipe, Path data) {
        Photos all = select(recipe, data, false);
        List<Integer> good = IntStream.range(0, all.count())
                .parallel()
                .filter(i -> all.find(i) != null)
                .boxed()
                .toList();
        Photos photos = new Photos(good.stream().map(all::file).toList());
        for (int i = 0; i < good.size(); i++) {
            photos.kept.set(i, all.kept.get(good.get(i)));
        }
        photos.bytesLeft.set(all.bytesLeft.get());
        photos.skipped.addAll(all.skipped);
        return photos;
    }

    private static Photos select(Recipe recipe, Path data, boolean training) {
        List<Path> files = new ArrayList<>();
        if (training && recipe.has("data.folders")) {
            for (String folder : recipe.words("data.folders")) {
                files.addAll(listed(resolve(data, folder)));
            }
        }
        if (recipe.has("data.holdout")) {
            for (String folder : recipe.words("data.holdout")) {
                List<Path> all = listed(resolve(data, folder));
                for (int i = 0; i < all.size(); i++) {
                    if ((i % HOLDOUT == HOLDOUT - 1) != training) {
                        files.add(all.get(i));
                    }
                }
            }
        }
        if (training && files.isEmpty()) {
            throw new UsageException("recipe " + recipe.name() + " names no photos: set data.folders or data.holdout");
        }
        return new Photos(files);
    }

    static Photos of(List<Path> files) {
        return new Photos(files);
    }

    /** A file or folder below the data folder, or below the folder beside it. */
    static Path resolve(Path data, String name) {
        Path inside = data.resolve(name);
        if (Files.exists(inside)) {
            return inside;
        }
        Path parent = data.toAbsolutePath().normalize().getParent();
        if (parent != null && Files.exists(parent.resolve(name))) {
            return parent.resolve(name);
        }
        throw new UsageException(
                inside + " does not exist; --data names the folder that the recipe's paths start from");
    }

    private static List<Path> listed(Path folder) {
        List<Path> photos = list(folder);
        if (photos.isEmpty()) {
            throw new UsageException(
                    folder + " holds no photos (" + String.join(", ", EXTENSIONS) + "), nor do its subfolders");
        }
        return photos;
    }

    /** JPEG, PNG and WebP files in a folder and its subfolders, by path. */
    static List<Path> list(Path folder) {
        try (Stream<Path> walk = Files.walk(folder)) {
            return walk.filter(file -> {
                        String name = file.getFileName().toString().toLowerCase(Locale.ROOT);
                        return EXTENSIONS.stream().anyMatch(name::endsWith) && Files.isRegularFile(file);
                    })
                    .sorted()
                    .toList();
        } catch (IOException e) {
            throw new UsageException(folder + " cannot be listed: " + e.getMessage(), e);
        }
    }

    int count() {
        return files.size();
    }

    Path file(int i) {
        return files.get(i);
    }

    /**
     * A photo.
     *
     * @throws UsageException or {@link DamagedDataException} when it cannot be read
     */
    Photo get(int i) {
        Photo photo = kept.get(i);
        if (photo == null) {
            photo = Photo.read(files.get(i));
            if (bytesLeft.addAndGet(-photo.rgb().length) >= 0) {
                kept.set(i, photo);
            } else {
                bytesLeft.addAndGet(photo.rgb().length);
            }
        }
        return photo;
    }

    /** A photo, or null when it cannot be read; it is left out then. */
    Photo find(int i) {
        try {
            return get(i);
        } catch (UsageException | DamagedDataException e) {
            skip(i, e.getMessage());
            return null;
        }
    }

    /**
     * Leaves a photo out.
     *
     * @throws UsageException when none is left
     */
    void skip(int i, String reason) {
        synchronized (left) {
            if (!left.get(i)) {
                left.set(i);
                skipped.add(new Skipped(files.get(i), reason));
            }
            if (left.cardinality() == files.size()) {
                throw new UsageException("none of the " + files.size() + " photos can be used; the last: " + reason);
            }
        }
    }

    /** Those left out since this was last asked. */
    List<Skipped> takeSkipped() {
        List<Skipped> taken = new ArrayList<>();
        for (Skipped one = skipped.poll(); one != null; one = skipped.poll()) {
            taken.add(one);
        }
        return taken;
    }

    /** Random views of at least {@code crop.area} of a photo. */
    static PhotoBatches.Cut randomViews(Recipe recipe) {
        double leastArea = recipe.number("crop.area", 0.35);
        return (photo, side, random) -> randomView(photo, leastArea, random);
    }

    /** All of a photo, (1,3,H,W) in [0,1]. */
    static Tensor pixels(Photo photo) {
        byte[] rgb = photo.rgb();
        int plane = photo.width() * photo.height();
        float[] planes = new float[3 * plane];
        for (int i = 0; i < plane; i++) {
            for (int c = 0; c < 3; c++) {
                planes[c * plane + i] = (rgb[3 * i + c] & 0xFF) / 255f;
            }
        }
        return Ops.of(planes, 1, 3, photo.height(), photo.width());
    }

    /** A random view for the encoder: some part of the area, mildly distorted, flipped half of the time. */
    static View randomView(Photo photo, double leastArea, SplittableRandom random) {
        for (int attempt = 0; attempt < 10; attempt++) {
            double area = photo.width() * (double) photo.height() * random.nextDouble(leastArea, 1);
            double aspect = Math.exp(random.nextDouble(-1, 1) * Math.log(4.0 / 3));
            double width = Math.sqrt(area * aspect);
            double height = Math.sqrt(area / aspect);
            if (width <= photo.width() && height <= photo.height()) {
                return new View(
                        random.nextDouble() * (photo.width() - width),
                        random.nextDouble() * (photo.height() - height),
                        width,
                        height,
                        random.nextBoolean());
            }
        }
        View centre = centre(photo);
        return new View(centre.x, centre.y, centre.width, centre.height, random.nextBoolean());
    }

    /** A random square for the codec, of the photo's own pixels or, half of the time, of a photo made smaller; null when it is too small. */
    static View randomSquare(Photo photo, int size, SplittableRandom random) {
        int shortSide = Math.min(photo.width(), photo.height());
        if (shortSide < size) {
            return null;
        }
        double side = size;
        if (random.nextBoolean()) {
            side = size * (1 + random.nextDouble() * (Math.min(2, shortSide / (double) size) - 1));
        }
        double x = random.nextDouble() * (photo.width() - side);
        double y = random.nextDouble() * (photo.height() - side);
        return side == size
                ? new View(Math.floor(x), Math.floor(y), side, side, random.nextBoolean())
                : new View(x, y, side, side, random.nextBoolean());
    }

    /** The centre square of the full short side. */
    static View centre(Photo photo) {
        int side = Math.min(photo.width(), photo.height());
        return new View((photo.width() - side) / 2, (photo.height() - side) / 2, side, side, false);
    }

    /**
     * The pixels that a line of outputs is made of: outputs {@code i} takes {@code weights[i * taps ...]} of the pixels from {@code from[i]} on.
     * Triangles between pixel centres, as wide as the outputs' distance where that is more than a pixel, so that nothing aliases.
     */
    private record Taps(int taps, int[] from, float[] weights) {
        static Taps of(double start, double length, int pixels, int outputs, boolean flip) {
            double step = length / outputs;
            double reach = Math.max(1, step);
            int taps = (int) Math.ceil(2 * reach) + 1;
            int[] from = new int[outputs];
            float[] weights = new float[outputs * taps];
            for (int i = 0; i < outputs; i++) {
                double centre = start + ((flip ? outputs - 1 - i : i) + 0.5) * step - 0.5;
                int first = (int) Math.floor(centre - reach) + 1;
                from[i] = Math.clamp(first, 0, Math.max(0, pixels - taps));
                double sum = 0;
                for (int k = first; k < centre + reach; k++) {
                    sum += reach - Math.abs(k - centre);
                }
                for (int k = first; k < centre + reach; k++) {
                    int inside = Math.clamp(k, 0, pixels - 1);
                    weights[i * taps + inside - from[i]] += (float) ((reach - Math.abs(k - centre)) / sum);
                }
            }
            return new Taps(taps, from, weights);
        }
    }

    /** Writes a view as size x size pixels, planes R, G, B in [0,1]. */
    static void draw(Photo photo, View view, int size, float[] out, int offset) {
        Taps columns = Taps.of(view.x, view.width, photo.width(), size, view.flip);
        Taps rows = Taps.of(view.y, view.height, photo.height(), size, false);
        int top = rows.from[0];
        int bottom = Math.min(photo.height(), rows.from[size - 1] + rows.taps);
        // lines[y - top][c][i]: the photo's rows, brought to the width of the view
        float[] lines = new float[(bottom - top) * 3 * size];
        byte[] rgb = photo.rgb();
        for (int y = top; y < bottom; y++) {
            for (int i = 0; i < size; i++) {
                float red = 0;
                float green = 0;
                float blue = 0;
                int at = 3 * (y * photo.width() + columns.from[i]);
                for (int k = 0; k < columns.taps && columns.from[i] + k < photo.width(); k++) {
                    float weight = columns.weights[i * columns.taps + k];
                    red += weight * (rgb[at + 3 * k] & 0xFF);
                    green += weight * (rgb[at + 3 * k + 1] & 0xFF);
                    blue += weight * (rgb[at + 3 * k + 2] & 0xFF);
                }
                int to = (y - top) * 3 * size + i;
                lines[to] = red;
                lines[to + size] = green;
                lines[to + 2 * size] = blue;
            }
        }
        for (int c = 0; c < 3; c++) {
            for (int j = 0; j < size; j++) {
                int to = offset + (c * size + j) * size;
                java.util.Arrays.fill(out, to, to + size, 0);
                for (int k = 0; k < rows.taps && rows.from[j] + k < bottom; k++) {
                    float weight = rows.weights[j * rows.taps + k] * (1f / 255);
                    int line = ((rows.from[j] - top + k) * 3 + c) * size;
                    for (int i = 0; i < size && weight != 0; i++) {
                        out[to + i] += weight * lines[line + i];
                    }
                }
            }
        }
    }
}

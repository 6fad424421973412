package org.comneck.train;

import java.awt.Graphics2D;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import org.comneck.UsageException;

/**
 * The photos of a recipe. Each is decoded once, when it is first needed, and kept as RGB bytes.
 *
 * <p>Of the folders under {@code data.holdout}, every fifth photo by name (the fifth, tenth, ...) is never trained on: those are for measuring.
 */
final class Photos {
    /** One in this many photos of the labelled folders is held out. */
    static final int HOLDOUT = 5;

    /** @param rgb interleaved, row by row */
    record Photo(int width, int height, byte[] rgb) {}

    /**
     * A rectangle of a photo, to be brought to a square.
     *
     * @param flip whether left and right are exchanged
     */
    record View(double x, double y, double width, double height, boolean flip) {}

    private final List<Path> files = new ArrayList<>();
    private final List<Photo> photos = new ArrayList<>();

    private Photos(List<Path> files) {
        this.files.addAll(files);
        files.forEach(file -> photos.add(null));
    }

    /** Photos to train on: {@code data.folders} and, less the held-out ones, {@code data.holdout}. */
    static Photos training(Recipe recipe, Path data) {
        return select(recipe, data, true);
    }

    /** The held-out photos of {@code data.holdout}. */
    static Photos heldOut(Recipe recipe, Path data) {
        return select(recipe, data, false);
    }

    private static Photos select(Recipe recipe, Path data, boolean training) {
        List<Path> files = new ArrayList<>();
        if (training && recipe.has("data.folders")) {
            for (String folder : recipe.words("data.folders")) {
                files.addAll(list(resolve(data, folder)));
            }
        }
        if (recipe.has("data.holdout")) {
            for (String folder : recipe.words("data.holdout")) {
                List<Path> all = list(resolve(data, folder));
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

    static List<Path> list(Path folder) {
        try (Stream<Path> walk = Files.walk(folder)) {
            return walk.filter(file -> {
                        String name = file.getFileName().toString().toLowerCase(Locale.ROOT);
                        return name.endsWith(".jpg") || name.endsWith(".jpeg") || name.endsWith(".png");
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

    Photo get(int i) {
        Photo photo = photos.get(i);
        if (photo == null) {
            photo = read(files.get(i));
            photos.set(i, photo);
        }
        return photo;
    }

    private static Photo read(Path file) {
        BufferedImage image;
        try {
            image = ImageIO.read(file.toFile());
        } catch (IOException e) {
            throw new UsageException(file + " cannot be read: " + e.getMessage(), e);
        }
        if (image == null) {
            throw new UsageException(file + " is no picture that can be read");
        }
        int width = image.getWidth();
        int height = image.getHeight();
        if (image.getType() != BufferedImage.TYPE_3BYTE_BGR) {
            BufferedImage plain = new BufferedImage(width, height, BufferedImage.TYPE_3BYTE_BGR);
            Graphics2D graphics = plain.createGraphics();
            graphics.drawImage(image, 0, 0, null);
            graphics.dispose();
            image = plain;
        }
        byte[] rgb = new byte[3 * width * height];
        int[] row = new int[width];
        for (int y = 0; y < height; y++) {
            image.getRGB(0, y, width, 1, row, 0, width);
            for (int x = 0; x < width; x++) {
                int at = 3 * (y * width + x);
                rgb[at] = (byte) (row[x] >> 16);
                rgb[at + 1] = (byte) (row[x] >> 8);
                rgb[at + 2] = (byte) row[x];
            }
        }
        return new Photo(width, height, rgb);
    }

    /** A random view for the encoder: some part of the area, mildly distorted, flipped half of the time. */
    static View randomView(Photo photo, double leastArea, SplittableRandom random) {
        for (int attempt = 0; attempt < 10; attempt++) {
            double area = photo.width * (double) photo.height * random.nextDouble(leastArea, 1);
            double aspect = Math.exp(random.nextDouble(-1, 1) * Math.log(4.0 / 3));
            double width = Math.sqrt(area * aspect);
            double height = Math.sqrt(area / aspect);
            if (width <= photo.width && height <= photo.height) {
                return new View(
                        random.nextDouble() * (photo.width - width),
                        random.nextDouble() * (photo.height - height),
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
        int shortSide = Math.min(photo.width, photo.height);
        if (shortSide < size) {
            return null;
        }
        double side = size;
        if (random.nextBoolean()) {
            side = size * (1 + random.nextDouble() * (Math.min(2, shortSide / (double) size) - 1));
        }
        double x = random.nextDouble() * (photo.width - side);
        double y = random.nextDouble() * (photo.height - side);
        return side == size
                ? new View(Math.floor(x), Math.floor(y), side, side, random.nextBoolean())
                : new View(x, y, side, side, random.nextBoolean());
    }

    /** The centre square of the full short side. */
    static View centre(Photo photo) {
        int side = Math.min(photo.width, photo.height);
        return new View((photo.width - side) / 2, (photo.height - side) / 2, side, side, false);
    }

    /** Writes a view as size x size pixels, planes R, G, B in [0,1], bilinear between pixel centres. */
    static void draw(Photo photo, View view, int size, float[] out, int offset) {
        double stepX = view.width / size;
        double stepY = view.height / size;
        int[] left = new int[size];
        int[] right = new int[size];
        float[] part = new float[size];
        for (int i = 0; i < size; i++) {
            int column = view.flip ? size - 1 - i : i;
            double x = Math.clamp(view.x + (column + 0.5) * stepX - 0.5, 0, photo.width - 1.0);
            left[i] = 3 * (int) x;
            right[i] = 3 * Math.min((int) x + 1, photo.width - 1);
            part[i] = (float) (x - (int) x);
        }
        byte[] rgb = photo.rgb;
        int plane = size * size;
        for (int j = 0; j < size; j++) {
            double y = Math.clamp(view.y + (j + 0.5) * stepY - 0.5, 0, photo.height - 1.0);
            int top = 3 * photo.width * (int) y;
            int bottom = 3 * photo.width * Math.min((int) y + 1, photo.height - 1);
            float down = (float) (y - (int) y);
            for (int i = 0; i < size; i++) {
                int at = offset + j * size + i;
                for (int c = 0; c < 3; c++) {
                    float a = rgb[top + left[i] + c] & 0xFF;
                    float b = rgb[top + right[i] + c] & 0xFF;
                    float d = rgb[bottom + left[i] + c] & 0xFF;
                    float e = rgb[bottom + right[i] + c] & 0xFF;
                    float upper = a + (b - a) * part[i];
                    float lower = d + (e - d) * part[i];
                    out[at + c * plane] = (upper + (lower - upper) * down) * (1f / 255);
                }
            }
        }
    }
}

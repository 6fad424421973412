package org.comneck.engine;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Path;
import java.util.Arrays;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;

/**
 * A picture of 8-bit RGB pixels, as they are stored: no colour management, so that published protocols reproduce. Immutable.
 *
 * <p>Pixel (x, y) lies at {@code 3 * (y * width + x)}: red, green, blue.
 */
public final class Photo {
    /** Most pixels that {@link #read(Path)} accepts: 134 million, 400 MB as RGB. */
    public static final long DEFAULT_MAX_PIXELS = 1L << 27;

    private final int width;
    private final int height;
    private final byte[] rgb;

    private Photo(int width, int height, byte[] rgb) {
        this.width = width;
        this.height = height;
        this.rgb = rgb;
    }

    /**
     * A photo over an array, which it takes over.
     *
     * @param rgb (height,width,3)
     * @throws IllegalArgumentException when the sizes do not fit
     */
    public static Photo of(int width, int height, byte[] rgb) {
        if (width < 1 || height < 1 || 3L * width * height != rgb.length) {
            throw new IllegalArgumentException(width + "x" + height + " pixels do not take " + rgb.length + " bytes");
        }
        return new Photo(width, height, rgb);
    }

    /**
     * Reads a JPEG, PNG or WebP file of at most {@link #DEFAULT_MAX_PIXELS}: colour, grey, CMYK or palette, 8 or 16 bits, transparency laid
     * over white, turned upright as its EXIF orientation says.
     *
     * @throws UsageException when the file cannot be read, is no photo, or is too large
     * @throws DamagedDataException when it is a damaged photo
     */
    public static Photo read(Path file) {
        return PhotoReader.read(file, DEFAULT_MAX_PIXELS);
    }

    /** {@link #read(Path)} with another limit, which is checked before pixels are decoded. */
    public static Photo read(Path file, long maxPixels) {
        return PhotoReader.read(file, maxPixels);
    }

    /**
     * {@link #read(Path)} of a file's bytes.
     *
     * @param name named in errors
     */
    public static Photo read(String name, byte[] bytes, long maxPixels) {
        return PhotoReader.read(name, bytes, maxPixels);
    }

    /** {@code JPEG}, {@code PNG} or {@code WebP} when a file that starts with these bytes (12 are enough) claims to be one, else null. */
    public static String formatOf(byte[] head) {
        return PhotoReader.formatOf(head);
    }

    /** Pixels in a row. */
    public int width() {
        return width;
    }

    /** Rows. */
    public int height() {
        return height;
    }

    /** The pixels, (height,width,3). Shared, not copied: do not change them. */
    public byte[] rgb() {
        return rgb;
    }

    /** Resampled to another size, as Pillow's {@code Image.resize} does it. */
    public Photo resize(int newWidth, int newHeight, Resample filter) {
        if (newWidth < 1 || newHeight < 1) {
            throw new IllegalArgumentException("size " + newWidth + "x" + newHeight);
        }
        if (newWidth == width && newHeight == height) {
            return this;
        }
        return new Photo(newWidth, newHeight, Resampler.resize(rgb, width, height, newWidth, newHeight, filter));
    }

    /** Resampled so that the shorter side has this many pixels; the other is rounded down, as torchvision's {@code Resize} does it. */
    public Photo resizeShortSide(int size, Resample filter) {
        return resize(withShortSide(width, height, size), withShortSide(height, width, size), filter);
    }

    /** What a side becomes when the shorter one of it and the other becomes {@code size}. */
    static int withShortSide(int side, int other, int size) {
        return side <= other ? size : Math.max((int) ((long) size * side / other), 1);
    }

    /** Where the middle of a side begins. */
    static int middle(int side, int size) {
        return (int) Math.rint((side - size) / 2.0);
    }

    /** The w x h pixels whose upper left is (x, y). */
    public Photo crop(int x, int y, int w, int h) {
        if (x < 0 || y < 0 || w < 1 || h < 1 || x + (long) w > width || y + (long) h > height) {
            throw new IllegalArgumentException(
                    w + "x" + h + " at (" + x + "," + y + ") of a photo of " + width + "x" + height);
        }
        if (w == width && h == height) {
            return this;
        }
        byte[] out = new byte[3 * w * h];
        for (int row = 0; row < h; row++) {
            System.arraycopy(rgb, 3 * ((y + row) * width + x), out, 3 * row * w, 3 * w);
        }
        return new Photo(w, h, out);
    }

    /** The size x size pixels in the middle; an odd remainder rounds half to even, as torchvision's {@code CenterCrop} does it. */
    public Photo centreCrop(int size) {
        return crop(middle(width, size), middle(height, size), size, size);
    }

    /** What encoders look at: short side resized, then the centre square. */
    public Photo prepare(int size, Resample filter) {
        return resizeShortSide(size, filter).centreCrop(size);
    }

    /** Extended to the right and below to multiples of this many pixels, by repeating the last column and row. */
    public Photo pad(int multiple) {
        int w = Math.ceilDiv(width, multiple) * multiple;
        int h = Math.ceilDiv(height, multiple) * multiple;
        if (w == width && h == height) {
            return this;
        }
        byte[] out = new byte[Math.multiplyExact(3, Math.multiplyExact(w, h))];
        for (int y = 0; y < h; y++) {
            int from = 3 * Math.min(y, height - 1) * width;
            int to = 3 * y * w;
            System.arraycopy(rgb, from, out, to, 3 * width);
            for (int i = 3 * width; i < 3 * w; i++) {
                out[to + i] = out[to + i - 3];
            }
        }
        return new Photo(w, h, out);
    }

    /** Writes a PNG file; the stream stays open. */
    public void writePng(OutputStream out) throws IOException {
        PngWriter.write(this, out);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Photo photo
                && photo.width == width
                && photo.height == height
                && Arrays.equals(photo.rgb, rgb);
    }

    @Override
    public int hashCode() {
        return 31 * (31 * width + height) + Arrays.hashCode(rgb);
    }

    /** {@code photo 768x512}. */
    @Override
    public String toString() {
        return "photo " + width + "x" + height;
    }
}

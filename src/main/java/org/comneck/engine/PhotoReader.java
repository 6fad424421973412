package org.comneck.engine;

import java.awt.Transparency;
import java.awt.color.ColorSpace;
import java.awt.image.BufferedImage;
import java.awt.image.ColorModel;
import java.awt.image.IndexColorModel;
import java.awt.image.Raster;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.Locale;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.stream.MemoryCacheImageInputStream;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;

/** Reads photos. Size and kind are checked before any pixel is decoded. */
final class PhotoReader {
    /** Largest file that is read into memory. */
    private static final long MAX_FILE_BYTES = 1L << 30;

    static {
        ImageIO.setUseCache(false); // no temporary files
    }

    private PhotoReader() {}

    static String formatOf(byte[] head) {
        if (head.length >= 3 && (head[0] & 0xFF) == 0xFF && (head[1] & 0xFF) == 0xD8 && (head[2] & 0xFF) == 0xFF) {
            return "JPEG";
        }
        if (head.length >= 8 && (head[0] & 0xFF) == 0x89 && head[1] == 'P' && head[2] == 'N' && head[3] == 'G') {
            return "PNG";
        }
        boolean riff = head.length >= 12 && head[0] == 'R' && head[1] == 'I' && head[2] == 'F' && head[3] == 'F';
        return riff && head[8] == 'W' && head[9] == 'E' && head[10] == 'B' && head[11] == 'P' ? "WebP" : null;
    }

    static Photo read(Path file, long maxPixels) {
        byte[] bytes;
        try {
            long size = Files.size(file);
            if (size > MAX_FILE_BYTES) {
                throw new UsageException(
                        file + ": " + size + " bytes are too many for a photo; the limit is " + MAX_FILE_BYTES);
            }
            bytes = Files.readAllBytes(file);
        } catch (IOException e) {
            throw FileErrors.unreadable(file, e);
        }
        return read(file.toString(), bytes, maxPixels);
    }

    static Photo read(String name, byte[] bytes, long maxPixels) {
        String format = formatOf(bytes);
        if (format == null) {
            throw new UsageException(name + ": not a JPEG, PNG or WebP photo");
        }
        if (format.equals("WebP")) {
            // The decoder fills what is missing with grey; the container says how long the file is.
            long claimed =
                    8 + (ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getInt(4) & 0xFFFFFFFFL);
            if (claimed > bytes.length) {
                throw new DamagedDataException(
                        name + ": truncated WebP: " + claimed + " bytes announced, " + bytes.length + " there");
            }
        }
        if (format.equals("JPEG") && !endsProperly(bytes)) {
            throw new DamagedDataException(name + ": truncated JPEG: it has no end marker");
        }
        Iterator<ImageReader> readers = ImageIO.getImageReadersByFormatName(format.toLowerCase(Locale.ROOT));
        if (!readers.hasNext()) {
            throw new UsageException(name + ": this build reads no " + format);
        }
        ImageReader reader = readers.next();
        String[] warning = new String[1];
        try {
            reader.addIIOReadWarningListener((source, text) -> {
                if (text.toLowerCase(Locale.ROOT).contains("premature end")) {
                    warning[0] = text;
                }
            });
            reader.setInput(new MemoryCacheImageInputStream(new ByteArrayInputStream(bytes)), true, true);
            long width = reader.getWidth(0);
            long height = reader.getHeight(0);
            if (width < 1 || height < 1) {
                throw new DamagedDataException(name + ": claims to have " + width + "x" + height + " pixels");
            }
            if (width * height > maxPixels) {
                throw new UsageException(name + ": " + width + "x" + height + " pixels are more than the limit of "
                        + maxPixels + "; raise it with --max-pixels");
            }
            BufferedImage image = reader.read(0);
            if (warning[0] != null) {
                throw new DamagedDataException(name + ": truncated " + format + ": " + warning[0]);
            }
            return ExifOrientation.upright(rgb(image), ExifOrientation.of(format, bytes));
        } catch (IOException | RuntimeException e) {
            if (e instanceof DamagedDataException || e instanceof UsageException) {
                throw (RuntimeException) e;
            }
            // The decoders throw all kinds of exceptions at damaged bytes.
            String why = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
            throw new DamagedDataException(name + ": damaged " + format + ": " + why, -1, e);
        } catch (OutOfMemoryError e) {
            throw new UsageException(
                    name + ": not enough memory to decode this photo; set COMNECK_JAVA_OPTS=-Xmx8g or so", e);
        } finally {
            reader.dispose();
        }
    }

    /** True when an end marker follows the last scan. Thumbnails inside segments, which end too, are stepped over. */
    private static boolean endsProperly(byte[] jpeg) {
        int at = 2;
        while (at + 4 <= jpeg.length && (jpeg[at] & 0xFF) == 0xFF) {
            int marker = jpeg[at + 1] & 0xFF;
            if (marker == 0xFF) {
                at++; // fill byte
            } else if (marker == 0xDA) {
                break;
            } else {
                at += 2 + ((jpeg[at + 2] & 0xFF) << 8 | jpeg[at + 3] & 0xFF);
            }
        }
        for (int i = jpeg.length - 2; i >= at; i--) {
            if ((jpeg[i] & 0xFF) == 0xFF && (jpeg[i + 1] & 0xFF) == 0xD9) {
                return true;
            }
        }
        return false;
    }

    /** Stored samples to RGB: no colour management for colour and grey, palettes looked up, transparency laid over white. */
    private static Photo rgb(BufferedImage image) {
        int w = image.getWidth();
        int h = image.getHeight();
        byte[] out = new byte[Math.multiplyExact(3, Math.multiplyExact(w, h))];
        ColorModel model = image.getColorModel();
        int space = model.getColorSpace().getType();
        boolean grey = space == ColorSpace.TYPE_GRAY;
        if (model instanceof IndexColorModel || !(grey || space == ColorSpace.TYPE_RGB)) {
            byPixel(image, out);
            return Photo.of(w, h, out);
        }
        Raster raster = image.getRaster();
        int bands = raster.getNumBands();
        boolean alpha = model.getTransparency() != Transparency.OPAQUE;
        boolean premultiplied = model.isAlphaPremultiplied();
        int colours = grey ? 1 : 3;
        int[] most = new int[bands];
        for (int band = 0; band < bands; band++) {
            most[band] = (1 << model.getComponentSize(band)) - 1;
        }
        int[] row = new int[Math.multiplyExact(w, bands)];
        for (int y = 0; y < h; y++) {
            raster.getPixels(0, y, w, 1, row);
            for (int x = 0; x < w; x++) {
                int from = x * bands;
                int to = 3 * (y * w + x);
                for (int c = 0; c < 3; c++) {
                    int band = colours == 1 ? 0 : c;
                    int value = scale(row[from + band], most[band]);
                    if (alpha && bands > colours) {
                        int a = scale(row[from + colours], most[colours]);
                        value = premultiplied ? value + 255 - a : (value * a + 255 * (255 - a) + 127) / 255;
                    }
                    out[to + c] = (byte) value;
                }
            }
        }
        return Photo.of(w, h, out);
    }

    /** 0..most to 0..255, rounded. */
    private static int scale(int value, int most) {
        return most == 255 ? value : (int) ((2L * 255 * value + most) / (2L * most));
    }

    private static void byPixel(BufferedImage image, byte[] out) {
        int w = image.getWidth();
        int[] row = new int[w];
        for (int y = 0; y < image.getHeight(); y++) {
            image.getRGB(0, y, w, 1, row, 0, w);
            for (int x = 0; x < w; x++) {
                int a = row[x] >>> 24;
                int to = 3 * (y * w + x);
                for (int c = 0; c < 3; c++) {
                    int value = row[x] >> (16 - 8 * c) & 0xFF;
                    out[to + c] = (byte) ((value * a + 255 * (255 - a) + 127) / 255);
                }
            }
        }
    }
}

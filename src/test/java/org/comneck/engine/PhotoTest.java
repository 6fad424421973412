package org.comneck.engine;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.Color;
import java.awt.color.ColorSpace;
import java.awt.image.BufferedImage;
import java.awt.image.ComponentColorModel;
import java.awt.image.DataBuffer;
import java.awt.image.IndexColorModel;
import java.awt.image.Raster;
import java.awt.image.WritableRaster;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;
import javax.imageio.ImageIO;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Photos of every kind that people have, damaged ones included. */
class PhotoTest {
    private static final long LIMIT = Photo.DEFAULT_MAX_PIXELS;

    @TempDir
    Path folder;

    /** Digests of Pillow 12.3's output for the same pattern. */
    @ParameterizedTest
    @CsvSource({
        "97,61,32,40,BICUBIC,de9ddff2b9f9a777",
        "97,61,32,40,BILINEAR,ca2e6ef5a5ac0792",
        "31,33,64,65,BICUBIC,4a95f0b6a5f9155d",
        "31,33,64,65,BILINEAR,0c01f5e30dc0b2cd",
        "256,100,24,24,BICUBIC,15831cd861aaab46",
        "256,100,24,24,BILINEAR,9db21b73bad3b7c3",
        "5,7,11,3,BICUBIC,85231ef6ccf9d3eb",
        "5,7,11,3,BILINEAR,45e45bececb1c12d",
        "64,64,64,17,BICUBIC,ce114a5c3f3f1007",
        "64,64,64,17,BILINEAR,f0089aa629f0c596",
        "200,3,7,3,BICUBIC,550d42eddb9e2f24",
        "200,3,7,3,BILINEAR,2272add39ec6f360"
    })
    void resizesLikePillow(int w, int h, int newWidth, int newHeight, Resample filter, String digest) {
        assertEquals(digest, digest(pattern(w, h).resize(newWidth, newHeight, filter)));
    }

    @Test
    void resizingFollowsTheFormula() {
        Photo source = pattern(40, 1);
        Photo small = source.resize(13, 1, Resample.BICUBIC);
        double scale = 40 / 13.0;
        for (int x = 0; x < 13; x++) {
            double centre = (x + 0.5) * scale;
            for (int c = 0; c < 3; c++) {
                double sum = 0;
                double weights = 0;
                for (int i = 0; i < 40; i++) {
                    double weight = Resample.BICUBIC.weight((i + 0.5 - centre) / scale);
                    weights += weight;
                    sum += weight * (source.rgb()[3 * i + c] & 0xFF);
                }
                double expected = Math.clamp(sum / weights, 0, 255);
                assertEquals(expected, small.rgb()[3 * x + c] & 0xFF, 0.51, "x " + x + " channel " + c);
            }
        }
    }

    @Test
    void preparesAsPublished() {
        assertEquals(
                "photo 384x256",
                pattern(768, 512).resizeShortSide(256, Resample.BICUBIC).toString());
        assertEquals(
                "photo 256x341",
                pattern(75, 100).resizeShortSide(256, Resample.BICUBIC).toString());
        Photo photo = pattern(9, 6);
        // (9 - 6) / 2 = 1.5 rounds to even: 2
        assertEquals(photo.crop(2, 0, 6, 6), photo.centreCrop(6));
        // (9 - 4) / 2 = 2.5 rounds to even: 2
        assertEquals(photo.crop(2, 1, 4, 4), photo.centreCrop(4));
        assertEquals(
                "photo 32x32", pattern(1, 500).prepare(32, Resample.BICUBIC).toString());
        assertEquals(
                "photo 32x32", pattern(500, 1).prepare(32, Resample.BILINEAR).toString());
    }

    @Test
    void padsByRepeatingTheEdge() {
        Photo photo = pattern(65, 3);
        Photo padded = photo.pad(64);
        assertEquals("photo 128x64", padded.toString());
        for (int y = 0; y < 64; y++) {
            for (int x = 0; x < 128; x++) {
                for (int c = 0; c < 3; c++) {
                    int from = 3 * (Math.min(y, 2) * 65 + Math.min(x, 64)) + c;
                    assertEquals(photo.rgb()[from], padded.rgb()[3 * (y * 128 + x) + c]);
                }
            }
        }
        assertEquals(photo, padded.crop(0, 0, 65, 3));
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 63, 200})
    void writesPng(int size) throws IOException {
        Photo photo = pattern(size, size + 3);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        photo.writePng(out);
        assertEquals(photo, Photo.read("x.png", out.toByteArray(), LIMIT));
    }

    /** Decoded with Pillow 12.3: libjpeg-turbo and libwebp. */
    @ParameterizedTest
    @CsvSource({
        "small-progressive.jpg,75,50,136.15573,0.02",
        "small-cmyk.jpg,75,50,136.1742,3",
        "small.webp,75,50,136.176,0.7",
        "small-alpha.webp,75,50,186.84133,0.02",
        "apple.jpg,480,320,136.2243,0.02"
    })
    void readsAsOthersDo(String file, int width, int height, double mean, double tolerance) throws IOException {
        Photo photo = Photo.read(file, resource(file), LIMIT);
        assertEquals("photo " + width + "x" + height, photo.toString());
        double sum = 0;
        for (byte sample : photo.rgb()) {
            sum += sample & 0xFF;
        }
        assertEquals(mean, sum / photo.rgb().length, tolerance);
    }

    @Test
    void readsJpegBitForBitLikeLibjpeg() throws IOException {
        assertEquals("8bf98be9d5698fd0", digest(Photo.read("apple.jpg", resource("apple.jpg"), LIMIT)));
        assertEquals(
                "e367326198a55eaf",
                digest(Photo.read("small-progressive.jpg", resource("small-progressive.jpg"), LIMIT)));
        assertEquals("9850a94f75fc06ec", digest(Photo.read("small-alpha.webp", resource("small-alpha.webp"), LIMIT)));
    }

    @Test
    void greyIsNotGammaCorrected() throws IOException {
        BufferedImage grey = new BufferedImage(16, 16, BufferedImage.TYPE_BYTE_GRAY);
        for (int i = 0; i < 256; i++) {
            grey.getRaster().setSample(i % 16, i / 16, 0, i);
        }
        Photo photo = Photo.read("grey.png", png(grey), LIMIT);
        for (int i = 0; i < 256; i++) {
            assertEquals(i, photo.rgb()[3 * i] & 0xFF);
            assertEquals(i, photo.rgb()[3 * i + 2] & 0xFF);
        }
    }

    @Test
    void sixteenBitsRoundToEight() throws IOException {
        WritableRaster raster = Raster.createInterleavedRaster(DataBuffer.TYPE_USHORT, 4, 1, 3, null);
        int[] samples = {0, 65535, 257, 128, 129, 385, 386, 32768, 300, 256 * 200, 65407, 65406};
        raster.setPixels(0, 0, 4, 1, samples);
        ComponentColorModel model = new ComponentColorModel(
                ColorSpace.getInstance(ColorSpace.CS_sRGB), false, false, 1, DataBuffer.TYPE_USHORT);
        Photo photo = Photo.read("deep.png", png(new BufferedImage(model, raster, false, null)), LIMIT);
        for (int i = 0; i < samples.length; i++) {
            assertEquals(Math.round(samples[i] / 257.0), photo.rgb()[i] & 0xFF, "sample " + i);
        }
    }

    @Test
    void palettesAndTransparency() throws IOException {
        byte[] r = {0, (byte) 200, 30};
        byte[] g = {10, 100, 60};
        byte[] b = {20, 50, 90};
        BufferedImage palette = new BufferedImage(
                3, 1, BufferedImage.TYPE_BYTE_INDEXED, new IndexColorModel(8, 3, r, g, b, new byte[] {-1, -1, 0}));
        palette.getRaster().setPixels(0, 0, 3, 1, new int[] {0, 1, 2});
        Photo photo = Photo.read("palette.png", png(palette), LIMIT);
        assertArrayEquals(new byte[] {0, 10, 20, (byte) 200, 100, 50, -1, -1, -1}, photo.rgb());

        BufferedImage clear = new BufferedImage(2, 1, BufferedImage.TYPE_INT_ARGB);
        clear.setRGB(0, 0, new Color(100, 0, 255, 51).getRGB());
        clear.setRGB(1, 0, new Color(1, 2, 3, 255).getRGB());
        // 20 % of the colour over white
        assertArrayEquals(
                new byte[] {(byte) 224, (byte) 204, (byte) 255, 1, 2, 3},
                Photo.read("clear.png", png(clear), LIMIT).rgb());
    }

    @Test
    void turnsUprightAsExifSays() throws IOException {
        byte[] jpeg = resource("small-progressive.jpg");
        Photo stored = Photo.read("stored", jpeg, LIMIT);
        for (int orientation = 1; orientation <= 8; orientation++) {
            Photo photo = Photo.read("turned", withExif(jpeg, orientation), LIMIT);
            boolean turned = orientation >= 5;
            assertEquals(turned ? "photo 50x75" : "photo 75x50", photo.toString());
            // Where the stored upper left pixel is seen (EXIF 2.3, tag 0x0112): row 0 is top, right.. and column 0 is
            // left, ..
            boolean right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
            boolean bottom = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
            int x = right ? photo.width() - 1 : 0;
            int y = bottom ? photo.height() - 1 : 0;
            assertPixel(stored, 0, 0, photo, x, y);
            // And the end of the stored first row.
            int alongX = turned ? x : photo.width() - 1 - x;
            int alongY = turned ? photo.height() - 1 - y : y;
            assertPixel(stored, 74, 0, photo, alongX, alongY);
        }
        byte[] broken = withExif(jpeg, 6);
        broken[24] = 99; // type of the entry
        assertEquals("photo 75x50", Photo.read("broken", broken, LIMIT).toString());
    }

    @Test
    void limitsAreCheckedBeforeDecoding() throws IOException {
        byte[] png = png(new BufferedImage(64, 64, BufferedImage.TYPE_INT_RGB));
        // Claims 60000 x 60000 pixels: decoding it would take 10 GB.
        byte[] bomb = png.clone();
        for (int i : new int[] {16, 20}) {
            bomb[i] = 0;
            bomb[i + 1] = 0;
            bomb[i + 2] = (byte) 0xEA;
            bomb[i + 3] = 0x60;
        }
        UsageException e = assertThrows(UsageException.class, () -> Photo.read("bomb.png", bomb, LIMIT));
        assertTrue(e.getMessage().startsWith("bomb.png: ") && e.getMessage().contains("limit"), e.getMessage());
        assertThrows(UsageException.class, () -> Photo.read("x.png", png, 64 * 64 - 1));
        assertEquals("photo 64x64", Photo.read("x.png", png, 64 * 64).toString());
    }

    @ParameterizedTest
    @ValueSource(strings = {"apple.jpg", "small-progressive.jpg", "small.webp", "small-alpha.webp", "small-cmyk.jpg"})
    void truncatedPhotosAreErrorsThatNameTheFile(String file) throws IOException {
        byte[] whole = resource(file);
        for (int part = 1; part < 16; part++) {
            byte[] cut = Arrays.copyOf(whole, whole.length * part / 16);
            RuntimeException e = assertThrows(RuntimeException.class, () -> Photo.read("cut", cut, LIMIT), "" + part);
            assertTrue(e instanceof DamagedDataException && e.getMessage().startsWith("cut: "), e.toString());
        }
    }

    @Test
    void truncatedPngIsAnError() throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        pattern(60, 60).writePng(out);
        byte[] whole = out.toByteArray();
        for (int part = 1; part < 16; part++) {
            byte[] cut = Arrays.copyOf(whole, whole.length * part / 16);
            assertThrows(DamagedDataException.class, () -> Photo.read("cut", cut, LIMIT), "" + part);
        }
    }

    @Test
    void otherFilesAreRefusedByName() throws IOException {
        Path text = folder.resolve("notes.txt");
        Files.writeString(text, "not a photo");
        assertEquals(
                text + ": not a JPEG, PNG or WebP photo",
                assertThrows(UsageException.class, () -> Photo.read(text)).getMessage());
        Path missing = folder.resolve("missing.jpg");
        assertEquals(
                missing + ": cannot be read: no such file or folder",
                assertThrows(UsageException.class, () -> Photo.read(missing)).getMessage());
        assertEquals(
                folder + ": cannot be read: it is a folder",
                assertThrows(UsageException.class, () -> Photo.read(folder)).getMessage());
        Path empty = Files.createFile(folder.resolve("empty.jpg"));
        assertThrows(UsageException.class, () -> Photo.read(empty));
    }

    private static void assertPixel(Photo expected, int ex, int ey, Photo photo, int x, int y) {
        int from = 3 * (ey * expected.width() + ex);
        int at = 3 * (y * photo.width() + x);
        assertArrayEquals(
                Arrays.copyOfRange(expected.rgb(), from, from + 3), Arrays.copyOfRange(photo.rgb(), at, at + 3));
    }

    /** Puts an APP1 segment with one big-endian entry behind SOI. */
    private static byte[] withExif(byte[] jpeg, int orientation) {
        byte[] segment = HexFormat.of()
                .parseHex("ffe1" + "0022" + "457869660000" + "4d4d002a00000008" + "0001" + "0112" + "0003" + "00000001"
                        + "00" + String.format("%02x", orientation) + "0000" + "00000000");
        byte[] out = new byte[jpeg.length + segment.length];
        System.arraycopy(jpeg, 0, out, 0, 2);
        System.arraycopy(segment, 0, out, 2, segment.length);
        System.arraycopy(jpeg, 2, out, 2 + segment.length, jpeg.length - 2);
        return out;
    }

    private static byte[] png(BufferedImage image) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        assertTrue(ImageIO.write(image, "png", out));
        return out.toByteArray();
    }

    static byte[] resource(String name) throws IOException {
        try (InputStream in = PhotoTest.class.getResourceAsStream(name)) {
            return in.readAllBytes();
        }
    }

    /** High bytes of a linear congruential sequence. */
    static Photo pattern(int width, int height) {
        byte[] rgb = new byte[3 * width * height];
        int state = 1;
        for (int i = 0; i < rgb.length; i++) {
            state = state * 1664525 + 1013904223;
            rgb[i] = (byte) (state >>> 24);
        }
        return Photo.of(width, height, rgb);
    }

    private static String digest(Photo photo) {
        try {
            byte[] hash = MessageDigest.getInstance("SHA-256").digest(photo.rgb());
            return HexFormat.of().formatHex(hash, 0, 8);
        } catch (java.security.NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }
}

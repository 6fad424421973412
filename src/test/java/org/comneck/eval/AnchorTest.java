package org.comneck.eval;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import org.comneck.DamagedDataException;
import org.comneck.engine.Photo;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.FieldSource;

/** The ready templates with the tools that are installed, and raw video as they read and write it. */
class AnchorTest {
    static final List<String> READY = Anchor.READY;

    private static Photo[] photos() {
        Photo photo = Photo.read(Path.of("docs", "photo.jpg")).crop(0, 0, 200, 190);
        byte[] rgb = photo.rgb().clone();
        SplittableRandom random = new SplittableRandom(1);
        for (int i = 0; i < rgb.length; i++) { // as much detail as to cost more than headers
            int grain = (int) (12 * Math.sin(i * 0.21) + random.nextInt(-8, 9));
            rgb[i] = (byte) Math.clamp((rgb[i] & 0xFF) + grain, 0, 255);
        }
        Photo grained = Photo.of(photo.width(), photo.height(), rgb);
        return new Photo[] {grained, grained.crop(9, 9, 171, 163)}; // one with odd sides
    }

    @ParameterizedTest
    @FieldSource("READY")
    void templates(String template) {
        Anchor.Command anchor = new Anchor.Command(template);
        Assumptions.assumeTrue(
                anchor.missing() == null, "skipped " + anchor.name() + ": no " + anchor.missing() + " is installed");
        double worst = anchor.qualities().getFirst();
        double best = anchor.qualities().getLast();
        for (Photo photo : photos()) {
            Anchor.Coded small = anchor.code(photo, worst);
            Anchor.Coded large = anchor.code(photo, best);
            assertTrue(
                    small.bytes() > 0 && small.bytes() < 0.6 * large.bytes(), small.bytes() + " and " + large.bytes());
            double low = PictureQuality.psnr(photo, small.photo());
            double high = PictureQuality.psnr(photo, large.photo());
            assertTrue(low > 18 && high > low + 2, low + " and " + high + " dB");
        }
    }

    @Test
    void rawVideoOfEightAndOfTenBits() {
        Photo grey = Photo.read(Path.of("docs", "photo.jpg")).crop(0, 0, 33, 21);
        byte[] rgb = grey.rgb().clone();
        for (int i = 0; i < rgb.length; i += 3) {
            rgb[i + 1] = rgb[i]; // without colour, subsampling loses nothing
            rgb[i + 2] = rgb[i];
        }
        Photo photo = Photo.of(33, 21, rgb);
        byte[] yuv = Yuv.of(photo);
        assertEquals(33 * 21 + 2 * 17 * 11, yuv.length);
        assertEquals(Double.POSITIVE_INFINITY, PictureQuality.psnr(photo, Yuv.photo(yuv, 33, 21)));
        byte[] wide = new byte[2 * yuv.length];
        for (int i = 0; i < yuv.length; i++) {
            int sample = (yuv[i] & 0xFF) * 4 + 1; // less than half a step of 8 bits
            wide[2 * i] = (byte) sample;
            wide[2 * i + 1] = (byte) (sample >> 8);
        }
        assertTrue(PictureQuality.psnr(photo, Yuv.photo(wide, 33, 21)) > 45);
        assertThrows(DamagedDataException.class, () -> Yuv.photo(new byte[yuv.length + 1], 33, 21));
    }
}

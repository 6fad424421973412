package org.comneck.engine;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Random;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.Taps;
import org.comneck.backend.cpu.CpuBackend;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.engine.PreparedRun.Kind;
import org.comneck.model.SeededModel;
import org.junit.jupiter.api.Test;

/** Photos resized by the cuda backend, on the emulation: the bytes of {@link Photo#prepare}, which are Pillow's (PhotoTest). */
class ResizeOnADeviceTest {
    private static NativeEngine engine(Backend backend) {
        return new NativeEngine(SeededModel.named(SeededModel.TINY).inMemory(), Precision.F32, backend, null);
    }

    private static Photo noise(int width, int height) {
        byte[] rgb = new byte[3 * width * height];
        new Random(width * 1000L + height).nextBytes(rgb);
        for (int i = 0; i < rgb.length; i += 7) {
            rgb[i] = (byte) (i % 2 == 0 ? 0 : 255); // overshoots
        }
        return Photo.of(width, height, rgb);
    }

    @Test
    void theProcessorsBytes() {
        int[][] sizes = {
            {64, 64}, {65, 64}, {64, 131}, {200, 93}, {93, 200}, {31, 33}, {1, 1}, {1, 50}, {301, 2}, {128, 128}
        };
        try (NativeEngine engine = engine(EmulatedCuda.open())) {
            int codec = engine.manifest().preprocessing().size();
            int encoder = engine.manifest().encoder().image();
            for (int[] size : sizes) {
                Photo photo = noise(size[0], size[1]);
                assertEquals(photo.prepare(codec, Resample.BICUBIC), engine.resize(photo, Kind.RESIZE), photo + "");
                assertEquals(
                        photo.prepare(encoder, Resample.BICUBIC),
                        engine.resize(photo, Kind.RESIZE_FOR_ENCODER),
                        photo + " for the encoder");
            }
            assertTrue(engine.stageNanos().getOrDefault("resize", 0L) > 0, "the device has not resized anything");
        }
    }

    @Test
    void bitstreamsAreTheSame() {
        List<Photo> photos = List.of(noise(90, 70), noise(64, 64), noise(70, 90));
        try (NativeEngine cuda = engine(EmulatedCuda.open());
                NativeEngine cpu = engine(CpuBackend.open(1))) {
            byte[] expected = cpu.encode(photos, EncodeOptions.DEFAULT);
            byte[] actual = cuda.encode(photos, EncodeOptions.DEFAULT);
            assertEquals(
                    java.util.HexFormat.of().formatHex(expected),
                    java.util.HexFormat.of().formatHex(actual));
            assertTrue(
                    cuda.stageNanos().containsKey("resize") && !cpu.stageNanos().containsKey("resize"));
        }
    }

    @Test
    void tapsAreChecked() {
        new Taps(4, 2, new int[] {2, 2, 1 << 22, 1 << 22});
        for (int[] values : new int[][] {
            {}, {0, 1, 5}, {-1, 1, 0, 0}, {0, 0, 0, 0}, {0, 3, 0, 0}, {3, 2, 0, 0}, {0, 2, 1 << 22, -(1 << 22) - 30_000}
        }) {
            assertThrows(IllegalArgumentException.class, () -> new Taps(4, 2, values), List.of(values.length) + "");
        }
    }
}

package org.comneck.bitstream;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.junit.jupiter.api.Test;

class ContainerTest {
    private static final byte[] IDENTITY = HexFormat.of().parseHex("101112131415161718191a1b1c1d1e1f");

    private static CodedImage image(
            int width, int height, double quality, boolean prepared, int checksum, int... payload) {
        byte[] bytes = new byte[payload.length];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) payload[i];
        }
        return new CodedImage(
                width,
                height,
                CodedImage.padded(width),
                CodedImage.padded(height),
                quality,
                prepared,
                checksum,
                MemorySegment.ofArray(bytes));
    }

    private static Container three() {
        return new Container(
                ArithmeticProfile.F32_FMA,
                IDENTITY,
                List.of(
                        image(256, 256, 3, true, 0x01020304, 1, 2, 3, 4, 5),
                        image(1, 65_535, 0, false, -1),
                        image(768, 512, 255.99609375, false, 0x80000000, 255)));
    }

    private static void assertSame(CodedImage expected, CodedImage actual) {
        assertEquals(expected.width(), actual.width());
        assertEquals(expected.height(), actual.height());
        assertEquals(expected.paddedWidth(), actual.paddedWidth());
        assertEquals(expected.paddedHeight(), actual.paddedHeight());
        assertEquals(expected.quality(), actual.quality());
        assertEquals(expected.prepared(), actual.prepared());
        assertEquals(expected.symbolChecksum(), actual.symbolChecksum());
        assertArrayEquals(
                expected.payload().toArray(ValueLayout.JAVA_BYTE),
                actual.payload().toArray(ValueLayout.JAVA_BYTE));
    }

    // Written by version 1. Never change it: files like it exist.
    private static final String GOLDEN =
            "434e4b1a01010300101112131415161718191a1b1c1d1e1f05000000000100010400040000030100040302017ed2b2f1"
                    + "0102030405000000000100ffff0100000400000000ffffffff100eba6501000000000300020c000800ffff0000000000800f21a202ff";

    @Test
    void goldenBytes() {
        assertEquals(GOLDEN, HexFormat.of().formatHex(three().toByteArray()));
    }

    @Test
    void roundTrip() {
        Container written = three();
        byte[] file = written.toByteArray();
        Container read = Container.read(file, Limits.DEFAULT);
        assertEquals(ArithmeticProfile.F32_FMA, read.profile());
        assertArrayEquals(IDENTITY, read.identity());
        assertEquals(3, read.size());
        for (int i = 0; i < 3; i++) {
            assertSame(written.image(i), read.image(i));
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment off = arena.allocate(file.length);
            off.copyFrom(MemorySegment.ofArray(file));
            assertSame(written.image(2), Container.read(off, Limits.DEFAULT).image(2));
        }
        assertArrayEquals(file, read.toByteArray());
    }

    @Test
    void everyByteMustBelongToAnImage() {
        byte[] file = three().toByteArray();
        DamagedDataException e = assertThrows(
                DamagedDataException.class, () -> Container.read(Arrays.copyOf(file, file.length + 1), Limits.DEFAULT));
        assertEquals("1 bytes follow the last image (at byte " + file.length + ")", e.getMessage());
    }

    @Test
    void truncationAtEveryLengthIsDamage() {
        byte[] file = three().toByteArray();
        for (int length = 0; length < file.length; length++) {
            byte[] cut = Arrays.copyOf(file, length);
            DamagedDataException e = assertThrows(
                    DamagedDataException.class, () -> Container.read(cut, Limits.DEFAULT), "length " + length);
            assertTrue(e.offset() >= 0 && e.offset() <= length, e.getMessage());
        }
    }

    @Test
    void aFlippedBitAnywhereIsDamage() {
        byte[] file = three().toByteArray();
        for (int bit = 0; bit < 8 * file.length; bit++) {
            byte[] flipped = file.clone();
            flipped[bit >> 3] ^= (byte) (1 << (bit & 7));
            boolean damaged = false;
            try {
                Container container = Container.read(flipped, Limits.DEFAULT);
                for (int i = 0; i < container.size(); i++) {
                    container.image(i);
                }
            } catch (DamagedDataException e) {
                damaged = true;
            }
            assertTrue(damaged, "bit " + bit + " was flipped and nothing noticed");
        }
    }

    @Test
    void damageToOneImageLeavesTheOthersReadable() {
        byte[] file = three().toByteArray();
        file[Container.HEADER_BYTES + Container.IMAGE_HEADER_BYTES + 2] ^= 4; // payload of image 0
        Container container = Container.read(file, Limits.DEFAULT);
        DamagedDataException e = assertThrows(DamagedDataException.class, () -> container.image(0));
        assertTrue(e.getMessage().startsWith("image 0 is damaged"), e.getMessage());
        assertEquals(Container.HEADER_BYTES, e.offset());
        assertSame(three().image(1), container.image(1));
        assertSame(three().image(2), container.image(2));
    }

    @Test
    void limitsAreOn() {
        byte[] file = three().toByteArray();
        assertLimit("3 images, not 1 to 2", file, new Limits(2, 1 << 30, 100));
        assertLimit("more than the limit of 65535", file, new Limits(3, 65_535, 100));
        assertLimit("payload of 5 bytes, more than the limit of 4", file, new Limits(3, 1 << 30, 4));
        byte[] huge = three().toByteArray();
        Arrays.fill(huge, Container.HEADER_BYTES, Container.HEADER_BYTES + 4, (byte) 0xFF);
        assertLimit("payload of 4294967295 bytes", huge, Limits.DEFAULT);
    }

    private static void assertLimit(String message, byte[] file, Limits limits) {
        DamagedDataException e = assertThrows(DamagedDataException.class, () -> Container.read(file, limits));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void otherFilesOtherVersionsOtherProfiles() {
        byte[] png = HexFormat.of().parseHex("89504e470d0a1a0a");
        assertFalse(Container.looksLikeOne(MemorySegment.ofArray(png)));
        assertLimit("not a ComNeck bitstream", png, Limits.DEFAULT);
        assertLimit("not a ComNeck bitstream", new byte[0], Limits.DEFAULT);
        byte[] file = three().toByteArray();
        assertTrue(Container.looksLikeOne(MemorySegment.ofArray(file)));
        file[4] = 2;
        assertLimit("version 2", file, Limits.DEFAULT);
        file[4] = 1;
        file[5] = 9;
        assertLimit("arithmetic profile 9", file, Limits.DEFAULT);
    }

    @Test
    void anotherModelIsRefused() {
        Container container = three();
        container.requireModel(IDENTITY, ArithmeticProfile.F32_FMA);
        UsageException e = assertThrows(
                UsageException.class, () -> container.requireModel(new byte[16], ArithmeticProfile.F32_FMA));
        assertTrue(e.getMessage().contains("101112131415161718191a1b1c1d1e1f"), e.getMessage());
    }

    @Test
    void whatTheFormatCannotHoldIsMisuse() {
        assertThrows(IllegalArgumentException.class, () -> image(0, 1, 0, true, 0));
        assertThrows(IllegalArgumentException.class, () -> image(65_536, 1, 0, true, 0));
        assertThrows(IllegalArgumentException.class, () -> image(1, 1, 256, true, 0));
        assertThrows(IllegalArgumentException.class, () -> image(1, 1, 0.001, true, 0));
        assertEquals(1.30078125, CodedImage.quality(1.3));
        assertThrows(
                IllegalArgumentException.class, () -> new CodedImage(65, 1, 64, 64, 0, true, 0, MemorySegment.NULL));
    }

    @Test
    void randomBytesAreDamageAndNothingElse() {
        Random random = new Random(11);
        byte[] good = three().toByteArray();
        for (int i = 0; i < 200_000; i++) {
            byte[] file = Arrays.copyOf(good, random.nextInt(2) == 0 ? good.length : random.nextInt(good.length + 40));
            for (int changes = random.nextInt(6); changes > 0 && file.length > 0; changes--) {
                file[random.nextInt(file.length)] = (byte) random.nextInt();
            }
            try {
                Container container = Container.read(file, Limits.DEFAULT);
                for (int k = 0; k < container.size(); k++) {
                    container.image(k);
                }
                assertArrayEquals(good, file);
            } catch (DamagedDataException e) {
                if (e.offset() > file.length) {
                    fail("offset beyond the file: " + e.getMessage());
                }
            }
        }
    }
}

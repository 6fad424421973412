package org.comneck.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.comneck.DamagedDataException;
import org.junit.jupiter.api.Test;

class ZipArchiveTest {
    private static ZipArchive read(byte[] bytes) {
        return ZipArchive.read("z", MemorySegment.ofArray(bytes));
    }

    /** One entry whose sizes and offset stand in zip64 fields only, as in archives beyond 4 GiB. */
    private static byte[] zip64(byte[] data) {
        byte[] name = "a/data.pkl".getBytes(StandardCharsets.US_ASCII);
        CRC32 crc = new CRC32();
        crc.update(data);
        ByteBuffer out = ByteBuffer.allocate(1024).order(ByteOrder.LITTLE_ENDIAN);
        out.putInt(0x04034b50)
                .putShort((short) 45)
                .putShort((short) 0)
                .putShort((short) 0)
                .putInt(0);
        out.putInt((int) crc.getValue()).putInt(-1).putInt(-1);
        out.putShort((short) name.length).putShort((short) 20).put(name);
        out.putShort((short) 1).putShort((short) 16).putLong(data.length).putLong(data.length);
        out.put(data);
        int directory = out.position();
        out.putInt(0x02014b50)
                .putShort((short) 45)
                .putShort((short) 45)
                .putShort((short) 0)
                .putShort((short) 0);
        out.putInt(0).putInt((int) crc.getValue()).putInt(-1).putInt(-1);
        out.putShort((short) name.length)
                .putShort((short) 28)
                .putShort((short) 0)
                .putShort((short) 0);
        out.putShort((short) 0).putInt(0).putInt(-1).put(name);
        out.putShort((short) 1)
                .putShort((short) 24)
                .putLong(data.length)
                .putLong(data.length)
                .putLong(0);
        int end64 = out.position();
        out.putInt(0x06064b50)
                .putLong(44)
                .putShort((short) 45)
                .putShort((short) 45)
                .putInt(0)
                .putInt(0);
        out.putLong(1).putLong(1).putLong(end64 - directory).putLong(directory);
        out.putInt(0x07064b50).putInt(0).putLong(end64).putInt(1);
        out.putInt(0x06054b50)
                .putShort((short) 0)
                .putShort((short) 0)
                .putShort((short) -1)
                .putShort((short) -1);
        out.putInt(-1).putInt(-1).putShort((short) 0);
        return Arrays.copyOf(out.array(), out.position());
    }

    @Test
    void zip64() {
        byte[] data = {1, 2, 3, 4, 5};
        ZipArchive zip = read(zip64(data));
        ZipArchive.Entry entry = zip.entries().get("a/data.pkl");
        assertArrayEquals(data, zip.data(entry).toArray(ValueLayout.JAVA_BYTE));
        zip.verify(entry);
    }

    /** Each byte of the structures set to each of a few values: read or refused. */
    @Test
    void mutatedStructuresAreReadOrRefused() {
        byte[] original = zip64(new byte[] {1, 2, 3, 4, 5});
        for (int at = 0; at < original.length; at++) {
            for (int value : new int[] {0, 1, 0x7F, 0x80, 0xFE, 0xFF}) {
                byte[] bytes = original.clone();
                bytes[at] = (byte) value;
                try {
                    ZipArchive zip = read(bytes);
                    zip.entries().values().forEach(entry -> zip.data(entry).toArray(ValueLayout.JAVA_BYTE));
                } catch (DamagedDataException e) {
                    assertTrue(e.getMessage().startsWith("z: "), e.getMessage());
                }
            }
        }
    }

    @Test
    void compressedEntriesAreRefusedWithAdvice() throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ZipOutputStream out = new ZipOutputStream(bytes)) {
            out.putNextEntry(new ZipEntry("a/data.pkl"));
            out.write(new byte[100]);
            out.closeEntry();
        }
        ZipArchive zip = read(bytes.toByteArray());
        DamagedDataException e = assertThrows(
                DamagedDataException.class, () -> zip.data(zip.entries().get("a/data.pkl")));
        assertTrue(e.getMessage().contains("torch.save"), e.getMessage());
    }

    /** Two directory entries that share one header: the trick behind small archives that unpack to huge ones. */
    @Test
    void overlappingEntriesAreRefused() {
        byte[] zip = zip64(new byte[5]);
        int directory = 30 + 10 + 20 + 5;
        int entryBytes = 46 + 10 + 28;
        byte[] doubled = new byte[zip.length + entryBytes];
        System.arraycopy(zip, 0, doubled, 0, directory + entryBytes);
        System.arraycopy(zip, directory, doubled, directory + entryBytes, zip.length - directory);
        ByteBuffer out = ByteBuffer.wrap(doubled).order(ByteOrder.LITTLE_ENDIAN);
        int end64 = directory + 2 * entryBytes;
        out.put(directory + entryBytes + 46, (byte) 'b');
        out.putLong(end64 + 32, 2).putLong(end64 + 40, 2L * entryBytes).putLong(end64 + 56 + 8, end64);
        DamagedDataException e = assertThrows(DamagedDataException.class, () -> read(doubled));
        assertTrue(e.getMessage().contains("another name") || e.getMessage().contains("overlap"), e.getMessage());
        out.put(directory + entryBytes + 46, (byte) 'a');
        e = assertThrows(DamagedDataException.class, () -> read(doubled));
        assertTrue(e.getMessage().contains("two zip entries"), e.getMessage());
    }

    @Test
    void truncatedAtEveryLength() {
        byte[] whole = zip64(new byte[] {1, 2, 3});
        for (int length = 4; length < whole.length; length++) {
            byte[] cut = Arrays.copyOf(whole, length);
            assertThrows(DamagedDataException.class, () -> read(cut), "at " + length);
        }
        assertEquals(1, read(whole).entries().size());
    }
}

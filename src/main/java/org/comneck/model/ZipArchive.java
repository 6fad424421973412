package org.comneck.model;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;
import org.comneck.DamagedDataException;

/**
 * The directory of a zip archive whose entries are stored, not compressed, as PyTorch writes them: every entry is a view of the mapped file.
 * Zip64 is read, so entries and archives may exceed 4 GiB. Source: PKWARE APPNOTE 6.3.
 */
final class ZipArchive {
    private static final int MAX_ENTRIES = 1 << 20;
    private static final int END = 0x06054b50;
    private static final int END64 = 0x06064b50;
    private static final int END64_LOCATOR = 0x07064b50;
    private static final int CENTRAL = 0x02014b50;
    private static final int LOCAL = 0x04034b50;
    private static final ValueLayout.OfShort I16 = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt I32 = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong I64 = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private final String file;
    private final MemorySegment bytes;
    private final Map<String, Entry> entries = new LinkedHashMap<>();

    /**
     * @param name as in the archive
     * @param offset of the first byte of its data in the file
     * @param size of the data as stored
     * @param crc32 of the data; 0 where the writer left it out
     */
    record Entry(String name, long offset, long size, int crc32, int method, int flags, long header) {}

    private ZipArchive(String file, MemorySegment bytes) {
        this.file = file;
        this.bytes = bytes;
    }

    static boolean looksLike(MemorySegment bytes) {
        return bytes.byteSize() >= 4 && bytes.get(I32, 0) == LOCAL;
    }

    /**
     * Reads the whole directory and checks that every entry lies in the file and overlaps no other.
     *
     * @throws DamagedDataException otherwise
     */
    static ZipArchive read(String file, MemorySegment bytes) {
        ZipArchive zip = new ZipArchive(file, bytes);
        zip.readDirectory();
        return zip;
    }

    private void readDirectory() {
        long size = bytes.byteSize();
        long end = -1;
        for (long at = size - 22; at >= 0 && at >= size - 22 - 0xFFFF; at--) {
            if (bytes.get(I32, at) == END && at + 22 + u16(at + 20) <= size) {
                end = at;
                break;
            }
        }
        if (end < 0) {
            throw damaged("is a zip archive without its end record: truncated?", size);
        }
        long count = u16(end + 10);
        long directory = u32(end + 16);
        long directorySize = u32(end + 12);
        long limit = end;
        if (end >= 20 && bytes.get(I32, end - 20) == END64_LOCATOR) {
            long at = bytes.get(I64, end - 20 + 8);
            if (at < 0 || at > end - 20 - 56 || bytes.get(I32, at) != END64) {
                throw damaged("has a zip64 locator that points nowhere", end - 20);
            }
            count = bytes.get(I64, at + 32);
            directorySize = bytes.get(I64, at + 40);
            directory = bytes.get(I64, at + 48);
            limit = at;
        }
        if (count < 0 || count > MAX_ENTRIES) {
            throw damaged("claims " + Long.toUnsignedString(count) + " zip entries; the limit is " + MAX_ENTRIES, end);
        }
        if (directory < 0 || directorySize < 0 || directory > limit || directorySize > limit - directory) {
            throw damaged("has a zip directory outside the file", end);
        }
        long at = directory;
        List<Entry> sorted = new ArrayList<>();
        for (long i = 0; i < count; i++) {
            if (at + 46 > directory + directorySize || bytes.get(I32, at) != CENTRAL) {
                throw damaged("has a damaged zip directory: entry " + i + " of " + count + " is missing", at);
            }
            int nameBytes = u16(at + 28);
            int extraBytes = u16(at + 30);
            int commentBytes = u16(at + 32);
            long next = at + 46 + nameBytes + extraBytes + commentBytes;
            if (next > directory + directorySize) {
                throw damaged("has a damaged zip directory: entry " + i + " of " + count + " is cut off", at);
            }
            Entry entry = readEntry(at, nameBytes, extraBytes, directory);
            if (entries.put(entry.name, entry) != null) {
                throw damaged("holds two zip entries named '" + SafetensorsFile.printable(entry.name) + "'", at);
            }
            sorted.add(entry);
            at = next;
        }
        sorted.sort(Comparator.comparingLong(Entry::header));
        long free = 0;
        for (Entry entry : sorted) {
            if (entry.header < free) {
                throw damaged(
                        "has zip entries that overlap: '" + SafetensorsFile.printable(entry.name) + "'", entry.header);
            }
            free = entry.offset + entry.size;
        }
    }

    private Entry readEntry(long at, int nameBytes, int extraBytes, long directory) {
        String name = text(at + 46, nameBytes);
        String quoted = "zip entry '" + SafetensorsFile.printable(name) + "' ";
        long stored = u32(at + 20);
        long plain = u32(at + 24);
        long header = u32(at + 42);
        long extra = at + 46 + nameBytes;
        long extraEnd = extra + extraBytes;
        while (extra + 4 <= extraEnd) {
            int id = u16(extra);
            long field = extra + 4;
            long fieldEnd = field + u16(extra + 2);
            if (fieldEnd > extraEnd) {
                throw damaged(quoted + "has a damaged extra field", extra);
            }
            if (id == 1) {
                if (plain == 0xFFFFFFFFL && field + 8 <= fieldEnd) {
                    plain = bytes.get(I64, field);
                    field += 8;
                }
                if (stored == 0xFFFFFFFFL && field + 8 <= fieldEnd) {
                    stored = bytes.get(I64, field);
                    field += 8;
                }
                if (header == 0xFFFFFFFFL && field + 8 <= fieldEnd) {
                    header = bytes.get(I64, field);
                }
            }
            extra = fieldEnd;
        }
        int method = u16(at + 10);
        if (header < 0 || header > directory - 30 || bytes.get(I32, header) != LOCAL) {
            throw damaged(quoted + "has no header where the directory says", at);
        }
        int localName = u16(header + 26);
        long offset = header + 30 + localName + u16(header + 28);
        if (stored < 0 || offset > directory || stored > directory - offset) {
            throw damaged(quoted + "runs past the end of the data: truncated?", header);
        }
        if (method == 0 && stored != plain) {
            throw damaged(quoted + "has two sizes", at);
        }
        if (!text(header + 30, localName).equals(name)) {
            throw damaged(quoted + "has another name in its own header", header);
        }
        return new Entry(name, offset, stored, bytes.get(I32, at + 16), method, u16(at + 8), header);
    }

    Map<String, Entry> entries() {
        return entries;
    }

    /**
     * The bytes of a stored entry.
     *
     * @throws DamagedDataException when it is compressed or encrypted
     */
    MemorySegment data(Entry entry) {
        if (entry.method != 0 || (entry.flags & 1) != 0) {
            throw damaged(
                    "zip entry '" + SafetensorsFile.printable(entry.name)
                            + "' is compressed or encrypted; PyTorch stores its entries, so save the checkpoint again"
                            + " with torch.save",
                    entry.header);
        }
        return bytes.asSlice(entry.offset, entry.size);
    }

    /**
     * Compares an entry's bytes with its checksum, where it has one.
     *
     * @throws DamagedDataException when they differ
     */
    void verify(Entry entry) {
        if (entry.crc32 == 0) {
            return;
        }
        MemorySegment data = data(entry);
        CRC32 crc = new CRC32();
        for (long at = 0; at < entry.size; at += 1 << 30) {
            crc.update(data.asSlice(at, Math.min(1 << 30, entry.size - at)).asByteBuffer());
        }
        if ((int) crc.getValue() != entry.crc32) {
            throw damaged("zip entry '" + SafetensorsFile.printable(entry.name) + "' fails its checksum", entry.offset);
        }
    }

    private int u16(long at) {
        return bytes.get(I16, at) & 0xFFFF;
    }

    private long u32(long at) {
        return bytes.get(I32, at) & 0xFFFFFFFFL;
    }

    /** Caller has checked the range, except for local headers, which end before the directory or are cut here. */
    private String text(long at, int length) {
        if (at + length > bytes.byteSize()) {
            throw damaged("has a zip name that runs past the end", at);
        }
        return new String(bytes.asSlice(at, length).toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
    }

    private DamagedDataException damaged(String message, long offset) {
        return new DamagedDataException(file + ": " + message, offset);
    }
}

package org.comneck.backend.reference;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.zip.CRC32C;
import org.comneck.DamagedDataException;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.RansDecoder;
import org.comneck.backend.RansEncoder;

/**
 * The definition of the payload, docs/format.md in plain Java: one symbol after the other.
 *
 * <p>A substream has 8 lanes, each with a state in [2^16, 2^32), and one sequence of 16-bit words that its lanes share. Symbol i of a pass
 * belongs to substream (i / 8) mod S, lane i mod 8.
 */
final class ReferenceRansDecoder implements RansDecoder {
    static final int LANES = 8;
    static final long LOWEST = 1L << 16;
    private static final int PRECISION = CodingTables.PRECISION;
    private static final int MASK = (1 << PRECISION) - 1;

    private byte[] payload = new byte[0];
    private int substreams;
    private final long[] state = new long[RansEncoder.MAX_SUBSTREAMS * LANES];
    private final int[] word = new int[RansEncoder.MAX_SUBSTREAMS];
    private final int[] wordEnd = new int[RansEncoder.MAX_SUBSTREAMS];
    private long bit;
    private long bitEnd;
    private final CRC32C checksum = new CRC32C();
    private DamagedDataException damage = new DamagedDataException("no payload was handed over");

    @Override
    public void start(MemorySegment bytes) {
        payload = bytes.toArray(ValueLayout.JAVA_BYTE);
        damage = null;
        checksum.reset();
        try {
            readHead();
        } catch (DamagedDataException e) {
            damage = e;
            throw e;
        }
    }

    // byte 0: substreams - 1 | varint: bytes of the bit section | varints: words of each substream but the last | bits
    // | words
    private void readHead() {
        if (payload.length == 0) {
            throw new DamagedDataException("the payload is empty", 0);
        }
        substreams = (payload[0] & 0x1F) + 1;
        if ((payload[0] & 0xE0) != 0) {
            throw new DamagedDataException("the payload's first byte has bits that must be 0", 0);
        }
        int[] at = {1};
        long bitBytes = varint(at);
        long[] words = new long[substreams];
        long total = 0;
        for (int s = 0; s < substreams - 1; s++) {
            words[s] = varint(at);
            total += words[s];
        }
        long left = payload.length - at[0] - bitBytes - 2 * total;
        if (left < 0 || left % 2 != 0) {
            throw new DamagedDataException(
                    "the payload's sections do not add up to its " + payload.length + " bytes", at[0]);
        }
        words[substreams - 1] = left / 2;
        bit = 8L * at[0];
        bitEnd = bit + 8 * bitBytes;
        int next = (int) (bitEnd / 8);
        for (int s = 0; s < substreams; s++) {
            word[s] = next;
            next += (int) (2 * words[s]);
            wordEnd[s] = next;
        }
        for (int lane = 0; lane < substreams * LANES; lane++) {
            int width = 16 + bits(4);
            state[lane] = 1L << width | bits(16) | (long) bits(width - 16) << 16;
        }
    }

    private long varint(int[] at) {
        long value = 0;
        for (int shift = 0; shift < 35; shift += 7) {
            if (at[0] == payload.length) {
                throw new DamagedDataException("the payload ends within its head", at[0]);
            }
            int b = payload[at[0]++];
            value |= (b & 0x7FL) << shift;
            if (b >= 0) {
                if (b == 0 && shift > 0 || value > Integer.MAX_VALUE) {
                    break;
                }
                return value;
            }
        }
        throw new DamagedDataException("a length in the payload's head is not possible", at[0] - 1);
    }

    /** The next bits of the bit section, lowest first. */
    private int bits(int count) {
        if (bitEnd - bit < count) {
            throw new DamagedDataException("the payload's bit section is too short", bitEnd / 8);
        }
        int value = 0;
        for (int i = 0; i < count; i++, bit++) {
            value |= (payload[(int) (bit >>> 3)] >>> (int) (bit & 7) & 1) << i;
        }
        return value;
    }

    @Override
    public void decode(Backend.Tables tables, MemorySegment indices, MemorySegment symbols, int count) {
        ReferenceTables packed = ReferenceTables.of(tables);
        MemorySegment out = symbols.asSlice(0, 2L * count);
        int done = 0;
        try {
            if (damage != null) {
                throw damage;
            }
            for (int i = 0; i < count; i++) {
                int t = indices.get(ValueLayout.JAVA_BYTE, i) & 0xFF;
                if (t >= packed.start.length) {
                    throw new IllegalArgumentException(
                            "index " + t + " at symbol " + i + ", but there are " + packed.start.length + " tables");
                }
                short value = symbol(packed, t, i / LANES % substreams, i % LANES);
                out.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i, value);
                checksum.update(value);
                checksum.update(value >> 8);
            }
            done = count;
        } catch (DamagedDataException e) {
            damage = e;
            throw e;
        } finally {
            if (done < count) {
                out.fill((byte) 0);
            }
        }
    }

    private short symbol(ReferenceTables tables, int t, int substream, int lane) {
        int i = substream * LANES + lane;
        int slot = (int) state[i] & MASK;
        int q = tables.symbolAt[t][slot] & 0xFF;
        int start = tables.start[t][q];
        int frequency = tables.start[t][q + 1] - start;
        state[i] = frequency * (state[i] >>> PRECISION) + slot - start;
        if (state[i] < LOWEST) {
            int at = word[substream];
            if (at == wordEnd[substream]) {
                throw new DamagedDataException("substream " + substream + " of the payload ends too early", at);
            }
            state[i] = state[i] << 16 | payload[at] & 0xFF | (payload[at + 1] & 0xFF) << 8;
            word[substream] = at + 2;
        }
        CodingTables source = tables.source();
        int shift = source.shift()[t];
        int first = source.first()[t];
        int count = source.count()[t];
        return (short)
                (q < count ? (first + q) << shift | bits(shift) : escape(first << shift, (first + count) << shift));
    }

    // sign, then the distance from the table's end (at least 1) as an Elias gamma code
    private int escape(int low, int end) {
        long at = bit / 8;
        boolean negative = bits(1) == 1;
        int zeros = 0;
        while (zeros < 17 && bits(1) == 0) {
            zeros++;
        }
        int value = 0;
        if (zeros < 17) {
            int distance = 1 << zeros | bits(zeros);
            value = negative ? low - distance : end - 1 + distance;
        }
        if (zeros == 17 || value != (short) value) {
            throw new DamagedDataException("an escape in the payload exceeds 16 bits", at);
        }
        return value;
    }

    @Override
    public void finish(int symbolChecksum) {
        if (damage != null) {
            throw damage;
        }
        for (int s = 0; s < substreams; s++) {
            if (word[s] != wordEnd[s]) {
                fail("substream " + s + " of the payload holds more than its symbols", word[s]);
            }
            for (int lane = 0; lane < LANES; lane++) {
                if (state[s * LANES + lane] != LOWEST) {
                    fail("lane " + lane + " of substream " + s + " does not end where encoding began", wordEnd[s]);
                }
            }
        }
        if (bitEnd - bit >= 8 || bits((int) (bitEnd - bit)) != 0) {
            fail("the payload's bit section holds more than its symbols", bit / 8);
        }
        if ((int) checksum.getValue() != symbolChecksum) {
            fail(
                    "the decoded symbols are not the encoder's: checksum %08x instead of %08x"
                            .formatted((int) checksum.getValue(), symbolChecksum),
                    -1);
        }
    }

    private void fail(String message, long offset) {
        damage = new DamagedDataException(message, offset);
        throw damage;
    }

    @Override
    public void close() {
        // plain Java memory
    }
}

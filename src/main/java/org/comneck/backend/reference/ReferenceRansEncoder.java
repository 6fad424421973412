package org.comneck.backend.reference;

import java.io.ByteArrayOutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.zip.CRC32C;
import org.comneck.backend.CodingTables;
import org.comneck.backend.RansEncoder;

/** Twin of {@link ReferenceRansDecoder}: does everything that it does, in the opposite order. */
final class ReferenceRansEncoder implements RansEncoder {
    private static final int LANES = ReferenceRansDecoder.LANES;
    private static final int PRECISION = CodingTables.PRECISION;

    /** Payload bytes that one substream is for: 24 bytes a substream are then about 1 %. */
    private static final int BYTES_PER_SUBSTREAM = 2048;

    @Override
    public Encoded encode(List<Pass> passes, int substreams) {
        if (substreams < 0 || substreams > MAX_SUBSTREAMS) {
            throw new IllegalArgumentException(substreams + " substreams, not 1 to " + MAX_SUBSTREAMS);
        }
        // Forwards: symbols, side bits, checksum, cost.
        byte[][] symbols = new byte[passes.size()][];
        Bits side = new Bits();
        CRC32C checksum = new CRC32C();
        long cost = 0;
        for (int p = 0; p < symbols.length; p++) {
            Pass pass = passes.get(p);
            ReferenceTables tables = ReferenceTables.of(pass.tables());
            MemorySegment indices = pass.indices().asSlice(0, pass.count());
            MemorySegment values = pass.values().asSlice(0, 2L * pass.count());
            symbols[p] = new byte[pass.count()];
            for (int i = 0; i < pass.count(); i++) {
                int t = indices.get(ValueLayout.JAVA_BYTE, i) & 0xFF;
                if (t >= tables.start.length) {
                    throw new IllegalArgumentException(
                            "index " + t + " at symbol " + i + ", but there are " + tables.start.length + " tables");
                }
                short value = values.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i);
                int q = symbol(tables.source(), t, value, side);
                symbols[p][i] = (byte) q;
                cost += cost(tables.start[t][q + 1] - tables.start[t][q]);
                checksum.update(value);
                checksum.update(value >> 8);
            }
        }
        long bytes = (cost / 256 + side.bits) / 8;
        int chosen = substreams != 0
                ? substreams
                : Math.clamp((bytes + BYTES_PER_SUBSTREAM / 2) / BYTES_PER_SUBSTREAM, 1, MAX_SUBSTREAMS);
        return new Encoded(payload(passes, symbols, side, chosen), (int) checksum.getValue());
    }

    /** The symbol of a value; what the symbol does not say goes to the side bits. */
    private static int symbol(CodingTables tables, int t, int value, Bits side) {
        int shift = tables.shift()[t];
        int first = tables.first()[t];
        int count = tables.count()[t];
        int q = (value >> shift) - first;
        if (q >= 0 && q < count) {
            side.put(value & (1 << shift) - 1, shift);
            return q;
        }
        boolean negative = q < 0;
        int distance = negative ? (first << shift) - value : value - ((first + count) << shift) + 1;
        int zeros = 31 - Integer.numberOfLeadingZeros(distance);
        side.put(negative ? 1 : 0, 1);
        side.put(1 << zeros, zeros + 1);
        side.put(distance & (1 << zeros) - 1, zeros);
        return count;
    }

    /** {@code 256 * (12 - log2(frequency))}, by squaring in integers so that every implementation chooses alike. */
    static int cost(int frequency) {
        int whole = 31 - Integer.numberOfLeadingZeros(frequency);
        long mantissa = (long) frequency << 30 - whole; // [1, 2) in units of 2^-30
        int log = whole;
        for (int i = 0; i < 8; i++) {
            mantissa = mantissa * mantissa >>> 30;
            log <<= 1;
            if (mantissa >= 1L << 31) {
                mantissa >>>= 1;
                log |= 1;
            }
        }
        return PRECISION * 256 - log;
    }

    private static byte[] payload(List<Pass> passes, byte[][] symbols, Bits side, int substreams) {
        // Backwards: states and words. Words are collected in the opposite of decoding order.
        long[] state = new long[substreams * LANES];
        Arrays.fill(state, ReferenceRansDecoder.LOWEST);
        Words[] words = new Words[substreams];
        Arrays.setAll(words, s -> new Words());
        for (int p = symbols.length - 1; p >= 0; p--) {
            ReferenceTables tables = ReferenceTables.of(passes.get(p).tables());
            MemorySegment indices = passes.get(p).indices();
            for (int i = symbols[p].length - 1; i >= 0; i--) {
                int t = indices.get(ValueLayout.JAVA_BYTE, i) & 0xFF;
                int q = symbols[p][i] & 0xFF;
                int start = tables.start[t][q];
                int frequency = tables.start[t][q + 1] - start;
                int substream = i / LANES % substreams;
                int lane = substream * LANES + i % LANES;
                long x = state[lane];
                if (x >= (long) frequency << 32 - PRECISION) {
                    words[substream].put((int) x & 0xFFFF);
                    x >>>= 16;
                }
                state[lane] = (x / frequency << PRECISION) + x % frequency + start;
            }
        }
        Bits bits = new Bits();
        for (long x : state) {
            int width = 63 - Long.numberOfLeadingZeros(x);
            bits.put(width - 16, 4);
            bits.put((int) x & 0xFFFF, 16);
            bits.put((int) (x >>> 16) & (1 << width - 16) - 1, width - 16);
        }
        bits.putAll(side);
        byte[] section = bits.toByteArray();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(substreams - 1);
        varint(out, section.length);
        for (int s = 0; s < substreams - 1; s++) {
            varint(out, words[s].count);
        }
        out.writeBytes(section);
        for (Words w : words) {
            for (int i = w.count - 1; i >= 0; i--) {
                out.write(w.values[i]);
                out.write(w.values[i] >> 8);
            }
        }
        return out.toByteArray();
    }

    private static void varint(ByteArrayOutputStream out, int value) {
        int rest = value;
        while (rest >= 0x80) {
            out.write(rest & 0x7F | 0x80);
            rest >>>= 7;
        }
        out.write(rest);
    }

    /** Growing sequence of 16-bit words. */
    private static final class Words {
        private short[] values = new short[64];
        private int count;

        void put(int word) {
            if (count == values.length) {
                values = Arrays.copyOf(values, 2 * count);
            }
            values[count++] = (short) word;
        }
    }

    /** Growing sequence of bits, lowest bit of a byte first. */
    private static final class Bits {
        private byte[] bytes = new byte[64];
        private long bits;

        void put(int value, int count) {
            for (int i = 0; i < count; i++, bits++) {
                int at = (int) (bits >>> 3);
                if (at == bytes.length) {
                    bytes = Arrays.copyOf(bytes, 2 * at);
                }
                bytes[at] |= (byte) ((value >>> i & 1) << (bits & 7));
            }
        }

        void putAll(Bits other) {
            for (long i = 0; i < other.bits; i++) {
                put(other.bytes[(int) (i >>> 3)] >>> (int) (i & 7) & 1, 1);
            }
        }

        byte[] toByteArray() {
            return Arrays.copyOf(bytes, (int) (bits + 7 >>> 3));
        }
    }
}

package org.comneck.entropy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.comneck.DamagedDataException;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.RansDecoder;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.reference.ReferenceBackend;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What every backend's rANS has to do; each is compared with the plain Java one. */
abstract class RansTest {
    static final CodingTables GAUSSIAN = CodingTablesBuilder.gaussian(GaussianConditional.scaleTable());

    private final Backend reference = new ReferenceBackend(1);
    private Backend backend;
    private Backend.Tables tables;
    private Backend.Tables referenceTables;

    abstract Backend backend();

    @BeforeEach
    void open() {
        backend = backend();
        tables = backend.tables(GAUSSIAN);
        referenceTables = reference.tables(GAUSSIAN);
    }

    @AfterEach
    void close() {
        tables.close();
        backend.close();
        reference.close();
    }

    private List<short[]> decode(RansEncoder.Encoded encoded, Backend.Tables with, List<byte[]> indices) {
        try (RansDecoder decoder = backend.ransDecoder()) {
            return decode(decoder, encoded.payload(), encoded.symbolChecksum(), with, indices);
        }
    }

    private static List<short[]> decode(
            RansDecoder decoder, byte[] payload, int checksum, Backend.Tables with, List<byte[]> indices) {
        decoder.start(MemorySegment.ofArray(payload));
        List<short[]> out = new ArrayList<>();
        for (byte[] index : indices) {
            short[] symbols = new short[index.length];
            Arrays.fill(symbols, (short) 12345);
            decoder.decode(with, MemorySegment.ofArray(index), MemorySegment.ofArray(symbols), index.length);
            out.add(symbols);
        }
        decoder.finish(checksum);
        return out;
    }

    private static void assertSame(List<short[]> expected, List<short[]> actual) {
        for (int p = 0; p < expected.size(); p++) {
            assertArrayEquals(expected.get(p), actual.get(p), "pass " + p);
        }
    }

    // Two tables: {-1, 0, 1} with frequencies 512, 3072, 511 and escape 1; one that drops two bits, values -8 to 7.
    static CodingTables tiny() {
        return new CodingTables(12, new int[] {0, 2}, new int[] {-1, -2}, new int[] {3, 4}, new int[][] {
            {512, 3072, 511, 1}, {1000, 1048, 1048, 999, 1}
        });
    }

    @Test
    void goldenBytes() {
        byte[] index = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1};
        short[] value = {0, 1, -1, 0, 0, 5, -32768, 0, 0, 0, -7, 32767};
        try (Backend.Tables two = backend.tables(tiny())) {
            RansEncoder.Encoded encoded = backend.ransEncoder()
                    .encode(
                            List.of(new RansEncoder.Pass(
                                    two, MemorySegment.ofArray(index), MemorySegment.ofArray(value), value.length)),
                            1);
            assertEquals(GOLDEN, HexFormat.of().formatHex(encoded.payload()));
            assertEquals(GOLDEN_CHECKSUM, "%08x".formatted(encoded.symbolChecksum()));
            assertSame(List.of(value), decode(encoded, two, List.of(index)));
        }
    }

    private static final String GOLDEN = "002200803cabbe2a0c48c0ff6955050056fcff0000fcff00000060850400feff0100e2ff";
    private static final String GOLDEN_CHECKSUM = "242c91b0";

    @Test
    void roundTripOfEverySizeAndNumberOfSubstreams() {
        int[] substreams = {1, 2, 3, 4, 5, 7, 8, 12, 17, 31, 32};
        for (int s : substreams) {
            for (int size : new int[] {0, 1, 7, 8, 9, 31, 33, 255, 256, 257, 4095}) {
                SyntheticSymbols symbols = new SyntheticSymbols(31L * s + size, 0.05, size, size / 3, 5, 0, size);
                RansEncoder.Encoded encoded = backend.ransEncoder().encode(symbols.passes(tables), s);
                RansEncoder.Encoded expected = reference.ransEncoder().encode(symbols.passes(referenceTables), s);
                assertArrayEquals(expected.payload(), encoded.payload());
                assertEquals(expected.symbolChecksum(), encoded.symbolChecksum());
                assertSame(symbols.values, decode(encoded, tables, symbols.indices));
            }
        }
    }

    @Test
    void anyValueCanBeCoded() {
        Random random = new Random(5);
        byte[] index = new byte[20_000];
        short[] value = new short[index.length];
        for (int i = 0; i < index.length; i++) {
            index[i] = (byte) random.nextInt(64);
            value[i] = (short) (random.nextInt() >> random.nextInt(32));
        }
        value[0] = Short.MIN_VALUE;
        value[1] = Short.MAX_VALUE;
        List<RansEncoder.Pass> passes = List.of(
                new RansEncoder.Pass(tables, MemorySegment.ofArray(index), MemorySegment.ofArray(value), value.length));
        RansEncoder.Encoded encoded = backend.ransEncoder().encode(passes, 0);
        assertSame(List.of(value), decode(encoded, tables, List.of(index)));
    }

    @Test
    void tablesMayChangeFromPassToPass() {
        SyntheticSymbols symbols = new SyntheticSymbols(8, 0.2, 1000);
        byte[] index = {0, 1, 1, 0, 1};
        short[] value = {0, 3, 77, -1, -8};
        try (Backend.Tables two = backend.tables(tiny());
                RansDecoder decoder = backend.ransDecoder()) {
            List<RansEncoder.Pass> passes = new ArrayList<>(symbols.passes(tables));
            passes.addFirst(new RansEncoder.Pass(
                    two, MemorySegment.ofArray(index), MemorySegment.ofArray(value), value.length));
            RansEncoder.Encoded encoded = backend.ransEncoder().encode(passes, 0);
            decoder.start(MemorySegment.ofArray(encoded.payload()));
            short[] first = new short[value.length];
            decoder.decode(two, MemorySegment.ofArray(index), MemorySegment.ofArray(first), first.length);
            assertArrayEquals(value, first);
            short[] second = new short[1000];
            decoder.decode(
                    tables,
                    MemorySegment.ofArray(symbols.indices.getFirst()),
                    MemorySegment.ofArray(second),
                    second.length);
            assertArrayEquals(symbols.values.getFirst(), second);
            decoder.finish(encoded.symbolChecksum());
        }
    }

    @Test
    void everythingMustBeConsumed() {
        SyntheticSymbols symbols = new SyntheticSymbols(2, 0.1, 500, 300);
        RansEncoder.Encoded encoded = backend.ransEncoder().encode(symbols.passes(tables), 2);
        byte[] longer = Arrays.copyOf(encoded.payload(), encoded.payload().length + 2);
        DamagedDataException more = assertThrows(
                DamagedDataException.class,
                () -> decode(new RansEncoder.Encoded(longer, encoded.symbolChecksum()), tables, symbols.indices));
        assertTrue(more.getMessage().contains("substream 1 of the payload holds more"), more.getMessage());
        assertEquals(encoded.payload().length, more.offset());
        DamagedDataException pass =
                assertThrows(DamagedDataException.class, () -> decode(encoded, tables, symbols.indices.subList(0, 1)));
        assertTrue(pass.getMessage().contains("holds more than its symbols"), pass.getMessage());
        DamagedDataException checksum = assertThrows(
                DamagedDataException.class,
                () -> decode(
                        new RansEncoder.Encoded(encoded.payload(), encoded.symbolChecksum() ^ 1),
                        tables,
                        symbols.indices));
        assertTrue(checksum.getMessage().contains("not the encoder's"), checksum.getMessage());
    }

    @Test
    void truncationAtEveryLengthIsDamage() {
        for (int substreams : new int[] {1, 3}) {
            SyntheticSymbols symbols = new SyntheticSymbols(3, 0.04, 700, 90);
            RansEncoder.Encoded encoded = backend.ransEncoder().encode(symbols.passes(tables), substreams);
            try (RansDecoder decoder = backend.ransDecoder()) {
                for (int length = 0; length < encoded.payload().length; length++) {
                    assertDamage(
                            decoder, Arrays.copyOf(encoded.payload(), length), encoded, symbols, "length " + length);
                }
            }
        }
    }

    @Test
    void aFlippedBitAnywhereIsDamage() {
        for (int substreams : new int[] {1, 3, 32}) {
            SyntheticSymbols symbols = new SyntheticSymbols(4, 0.04, 700, 90);
            RansEncoder.Encoded encoded = backend.ransEncoder().encode(symbols.passes(tables), substreams);
            try (RansDecoder decoder = backend.ransDecoder()) {
                for (int bit = 0; bit < 8 * encoded.payload().length; bit++) {
                    byte[] damaged = encoded.payload().clone();
                    damaged[bit >> 3] ^= (byte) (1 << (bit & 7));
                    assertDamage(decoder, damaged, encoded, symbols, "bit " + bit);
                }
            }
        }
    }

    private void assertDamage(
            RansDecoder decoder, byte[] payload, RansEncoder.Encoded encoded, SyntheticSymbols symbols, String what) {
        try {
            decode(decoder, payload, encoded.symbolChecksum(), tables, symbols.indices);
        } catch (DamagedDataException e) {
            assertTrue(e.offset() <= payload.length, e.getMessage());
            return;
        }
        fail("no damage noticed: " + what);
    }

    @Test
    void damageStaysUntilTheNextStart() {
        SyntheticSymbols symbols = new SyntheticSymbols(9, 0.05, 400, 50);
        RansEncoder.Encoded encoded = backend.ransEncoder().encode(symbols.passes(tables), 1);
        byte[] payload = encoded.payload();
        try (RansDecoder decoder = backend.ransDecoder()) {
            assertThrows(DamagedDataException.class, () -> decoder.finish(0), "nothing was started");
            assertThrows(
                    DamagedDataException.class,
                    () -> decode(decoder, Arrays.copyOf(payload, payload.length / 2), 0, tables, symbols.indices));
            short[] rest = {1, 2, 3};
            assertThrows(
                    DamagedDataException.class,
                    () -> decoder.decode(tables, MemorySegment.ofArray(new byte[3]), MemorySegment.ofArray(rest), 3));
            assertArrayEquals(new short[3], rest, "zeros where there is nothing to decode");
            assertSame(symbols.values, decode(decoder, payload, encoded.symbolChecksum(), tables, symbols.indices));
        }
    }

    @Test
    void misuseIsNotDamage() {
        RansEncoder encoder = backend.ransEncoder();
        MemorySegment index = MemorySegment.ofArray(new byte[] {64});
        MemorySegment value = MemorySegment.ofArray(new short[1]);
        assertThrows(
                IllegalArgumentException.class,
                () -> encoder.encode(List.of(new RansEncoder.Pass(tables, index, value, 1)), 0));
        assertThrows(IllegalArgumentException.class, () -> encoder.encode(List.of(), 33));
        assertThrows(
                IllegalArgumentException.class,
                () -> encoder.encode(List.of(new RansEncoder.Pass(new ForeignTables(), index, value, 1)), 0));
        SyntheticSymbols symbols = new SyntheticSymbols(9, 0.05, 4);
        byte[] payload = encoder.encode(symbols.passes(tables), 1).payload();
        try (RansDecoder decoder = backend.ransDecoder()) {
            decoder.start(MemorySegment.ofArray(payload));
            assertThrows(IllegalArgumentException.class, () -> decoder.decode(tables, index, value, 1));
        }
    }

    private record ForeignTables() implements Backend.Tables {
        @Override
        public CodingTables source() {
            return GAUSSIAN;
        }

        @Override
        public void close() {
            // nothing to free
        }
    }

    @Test
    void sizeStaysNearTheInformation() {
        for (double decay : new double[] {0.02, 0.1, 0.25, 0.5}) {
            for (int size : new int[] {100, 3000, 100_000}) {
                SyntheticSymbols symbols = new SyntheticSymbols(size, decay, size / 4, size / 4, size / 2);
                RansEncoder.Encoded encoded = backend.ransEncoder().encode(symbols.passes(tables), 0);
                int substreams = (encoded.payload()[0] & 31) + 1;
                double ceiling = symbols.information / 8 * 1.01 + 24 * substreams;
                assertTrue(
                        encoded.payload().length <= ceiling,
                        encoded.payload().length + " bytes in " + substreams + " substreams, " + symbols.information / 8
                                + " bytes of information, decay " + decay);
                assertTrue(substreams <= Math.max(1, encoded.payload().length / 1024), substreams + " substreams");
            }
        }
    }
}

package org.comneck.entropy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.Grid;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;

/** Quantising, encoding and decoding within runs: z in one pass, then two slices of y in two passes each. */
abstract class PayloadStepsTest {
    private static final int HEIGHT = 5;
    private static final int WIDTH = 7;
    private static final int Z_CHANNELS = 5;
    private static final int[] SLICES = {3, 19};
    private static final CodingTables GAUSSIAN = CodingTablesBuilder.gaussian(GaussianConditional.scaleTable());
    private static final Tensor THRESHOLDS =
            Tensor.of(GaussianConditional.thresholds(GaussianConditional.scaleTable()), 63);

    abstract Backend backend();

    /** Inputs of both directions: latents, and what a network would say about them. */
    private record Inputs(int images, float[] z, float[] y, List<float[]> parameters) {
        static Inputs random(long seed, int images) {
            Random random = new Random(seed);
            float[] z = new float[images * HEIGHT * WIDTH * Z_CHANNELS];
            for (int i = 0; i < z.length; i++) {
                z[i] = (float) (random.nextGaussian() * 3);
            }
            float[] y = new float[images * HEIGHT * WIDTH * 22];
            for (int i = 0; i < y.length; i++) {
                y[i] = (float) (random.nextGaussian() * 6);
            }
            // hard ones: halves, values beyond 16 bits, none at all
            float[] hard = {
                0.5f,
                1.5f,
                -0.5f,
                -2.5f,
                40_000f,
                -40_000f,
                Float.NaN,
                Float.POSITIVE_INFINITY,
                Float.NEGATIVE_INFINITY,
                -0f,
                3e38f,
                32767.5f,
                -32768.5f
            };
            System.arraycopy(hard, 0, y, 0, hard.length);
            System.arraycopy(hard, 0, z, 0, hard.length);
            List<float[]> parameters = new ArrayList<>();
            for (int c : SLICES) {
                for (Grid grid : List.of(Grid.ANCHORS, Grid.NON_ANCHORS)) {
                    float[] p = new float[images * grid.positions(HEIGHT, WIDTH) * 2 * c];
                    float[] table = GaussianConditional.scaleTable();
                    for (int i = 0; i < p.length; i++) {
                        boolean scale = i / c % 2 == 1;
                        p[i] = (float) (scale ? Math.exp(random.nextGaussian() * 3) : random.nextGaussian() * 5);
                        if (scale && random.nextInt(4) == 0) {
                            p[i] = table[random.nextInt(64)]; // exactly a threshold
                        }
                    }
                    p[c] = Float.NaN;
                    p[c + 1] = -1;
                    p[c + 2] = Float.POSITIVE_INFINITY;
                    p[0] = 0;
                    parameters.add(p);
                }
            }
            return new Inputs(images, z, y, parameters);
        }
    }

    private static CodingTables factorizedTables() {
        float[] scales = {0.3f, 1, 2, 4, 30};
        return CodingTablesBuilder.gaussian(scales);
    }

    private static final Tensor MEDIANS = Tensor.of(new float[] {0.25f, 0, -1.75f, 0.1f, 7}, Z_CHANNELS);

    /** What came out of a run, image by image where it matters. */
    private static final class Results {
        final List<short[]> symbols = new ArrayList<>();
        final List<byte[]> indices = new ArrayList<>();
        final List<float[]> values = new ArrayList<>();
    }

    private static void fill(Run run, Activation port, float[] values) {
        MemorySegment.copy(values, 0, run.memory(port), ValueLayout.JAVA_FLOAT, 0, values.length);
    }

    private static Results encode(Backend backend, Inputs in) {
        RunBuilder b = backend.newRun();
        Activation z = b.input(ElementType.F32, in.images, HEIGHT, WIDTH, Z_CHANNELS);
        Activation y = b.input(ElementType.F32, in.images, HEIGHT, WIDTH, 22);
        b.stage("quantize");
        Activation zSymbols = b.buffer(ElementType.I16, Grid.FULL, in.images, HEIGHT, WIDTH, Z_CHANNELS);
        Activation zHat = b.buffer(ElementType.F32, Grid.FULL, in.images, HEIGHT, WIDTH, Z_CHANNELS);
        Activation yHat = b.buffer(ElementType.F32, Grid.FULL, in.images, HEIGHT, WIDTH, 22);
        b.output(zSymbols);
        b.output(zHat);
        b.output(yHat);
        b.quantizeFactorized(z, MEDIANS, zSymbols, zHat);
        List<Activation> parameters = new ArrayList<>();
        List<Activation> symbols = new ArrayList<>();
        List<Activation> indices = new ArrayList<>();
        int from = 0;
        for (int c : SLICES) {
            for (Grid grid : List.of(Grid.ANCHORS, Grid.NON_ANCHORS)) {
                Activation onGrid = b.buffer(ElementType.F32, grid, in.images, HEIGHT, WIDTH, 2 * c);
                b.output(onGrid); // its memory is filled by hand below
                Activation s = b.buffer(ElementType.I16, grid, in.images, HEIGHT, WIDTH, c);
                Activation i = b.buffer(ElementType.U8, grid, in.images, HEIGHT, WIDTH, c);
                b.output(s);
                b.output(i);
                b.quantizeGaussian(y.slice(from, c), onGrid, THRESHOLDS, i, s, yHat.slice(from, c));
                parameters.add(onGrid);
                symbols.add(s);
                indices.add(i);
            }
            from += c;
        }
        Results results = new Results();
        try (Run run = b.build()) {
            fill(run, z, in.z);
            fill(run, y, in.y);
            for (int i = 0; i < parameters.size(); i++) {
                fill(run, parameters.get(i), in.parameters.get(i));
            }
            run.execute();
            results.symbols.add(run.memory(zSymbols).toArray(ValueLayout.JAVA_SHORT));
            for (int i = 0; i < symbols.size(); i++) {
                results.symbols.add(run.memory(symbols.get(i)).toArray(ValueLayout.JAVA_SHORT));
                results.indices.add(run.memory(indices.get(i)).toArray(ValueLayout.JAVA_BYTE));
            }
            results.values.add(run.memory(zHat).toArray(ValueLayout.JAVA_FLOAT));
            results.values.add(run.memory(yHat).toArray(ValueLayout.JAVA_FLOAT));
        }
        return results;
    }

    private static RansEncoder.Encoded payload(Backend backend, Results results, int images, int image) {
        try (Backend.Tables factorized = backend.tables(factorizedTables());
                Backend.Tables gaussian = backend.tables(GAUSSIAN)) {
            List<RansEncoder.Pass> passes = new ArrayList<>();
            for (int p = 0; p < results.symbols.size(); p++) {
                short[] all = results.symbols.get(p);
                int count = all.length / images;
                byte[] indices = new byte[count];
                for (int i = 0; i < count; i++) {
                    indices[i] =
                            p == 0 ? (byte) (i % Z_CHANNELS) : results.indices.get(p - 1)[image * count + i];
                }
                passes.add(new RansEncoder.Pass(
                        p == 0 ? factorized : gaussian,
                        MemorySegment.ofArray(indices),
                        MemorySegment.ofArray(all).asSlice(2L * image * count, 2L * count),
                        count));
            }
            return backend.ransEncoder().encode(passes, 0);
        }
    }

    /** Decodes; image {@code hurt} (or none, -1) gets a damaged payload, which only it may suffer from. */
    private static Results decode(Backend backend, Inputs in, List<RansEncoder.Encoded> payloads, int hurt) {
        try (Backend.Tables factorized = backend.tables(factorizedTables());
                Backend.Tables gaussian = backend.tables(GAUSSIAN)) {
            RunBuilder b = backend.newRun();
            b.stage("decode");
            Activation zSymbols = b.buffer(ElementType.I16, Grid.FULL, in.images, HEIGHT, WIDTH, Z_CHANNELS);
            Activation zHat = b.buffer(ElementType.F32, Grid.FULL, in.images, HEIGHT, WIDTH, Z_CHANNELS);
            Activation yHat = b.buffer(ElementType.F32, Grid.FULL, in.images, HEIGHT, WIDTH, 22);
            b.output(zSymbols);
            b.output(zHat);
            b.output(yHat);
            b.payloads(in.images, (long) HEIGHT * WIDTH * (Z_CHANNELS + 22));
            b.decodeFactorized(factorized, MEDIANS, zSymbols, zHat);
            List<Activation> parameters = new ArrayList<>();
            List<Activation> symbols = new ArrayList<>();
            int from = 0;
            for (int c : SLICES) {
                for (Grid grid : List.of(Grid.ANCHORS, Grid.NON_ANCHORS)) {
                    Activation onGrid = b.buffer(ElementType.F32, grid, in.images, HEIGHT, WIDTH, 2 * c);
                    b.output(onGrid);
                    Activation s = b.buffer(ElementType.I16, grid, in.images, HEIGHT, WIDTH, c);
                    b.output(s);
                    b.decodeGaussian(gaussian, onGrid, THRESHOLDS, s, yHat.slice(from, c));
                    parameters.add(onGrid);
                    symbols.add(s);
                }
                from += c;
            }
            b.finishPayloads();
            Results results = new Results();
            try (Run run = b.build()) {
                run.execute();
                assertNotNull(run.damage(0), "nothing was handed over");
                for (int repeat = 0; repeat < 2; repeat++) {
                    for (int i = 0; i < parameters.size(); i++) {
                        fill(run, parameters.get(i), in.parameters.get(i));
                    }
                    for (int image = 0; image < in.images; image++) {
                        byte[] bytes = payloads.get(image).payload().clone();
                        bytes[bytes.length - 1] ^= (byte) (image == hurt ? 1 : 0);
                        run.payload(
                                image,
                                MemorySegment.ofArray(bytes),
                                payloads.get(image).symbolChecksum());
                    }
                    run.execute();
                    for (int image = 0; image < in.images; image++) {
                        if (image == hurt) {
                            assertNotNull(run.damage(image));
                        } else {
                            assertNull(run.damage(image));
                        }
                    }
                }
                results.symbols.add(run.memory(zSymbols).toArray(ValueLayout.JAVA_SHORT));
                for (Activation s : symbols) {
                    results.symbols.add(run.memory(s).toArray(ValueLayout.JAVA_SHORT));
                }
                results.values.add(run.memory(zHat).toArray(ValueLayout.JAVA_FLOAT));
                results.values.add(run.memory(yHat).toArray(ValueLayout.JAVA_FLOAT));
            }
            return results;
        }
    }

    @Test
    void decodingGivesBackWhatQuantisingGave() {
        try (Backend backend = backend();
                Backend reference = new ReferenceBackend(1)) {
            for (int images : new int[] {1, 3}) {
                Inputs in = Inputs.random(images, images);
                Results expected = encode(reference, in);
                assertEquals(Short.MAX_VALUE, expected.symbols.getFirst()[4]);
                assertEquals(0, expected.symbols.getFirst()[6], "NaN");
                Results encoded = encode(backend, in);
                List<RansEncoder.Encoded> payloads = new ArrayList<>();
                for (int p = 0; p < expected.symbols.size(); p++) {
                    assertArrayEquals(expected.symbols.get(p), encoded.symbols.get(p), "symbols of pass " + p);
                }
                for (int p = 0; p < expected.indices.size(); p++) {
                    assertArrayEquals(expected.indices.get(p), encoded.indices.get(p), "indices of pass " + p);
                }
                for (int image = 0; image < images; image++) {
                    RansEncoder.Encoded payload = payload(backend, encoded, images, image);
                    assertArrayEquals(
                            payload(reference, expected, images, image).payload(), payload.payload());
                    payloads.add(payload);
                }
                Results decoded = decode(backend, in, payloads, -1);
                for (int p = 0; p < expected.symbols.size(); p++) {
                    assertArrayEquals(expected.symbols.get(p), decoded.symbols.get(p), "decoded pass " + p);
                }
                for (int v = 0; v < 2; v++) {
                    assertBits(expected.values.get(v), encoded.values.get(v));
                    assertBits(expected.values.get(v), decoded.values.get(v));
                }
                if (images > 1) {
                    Results others = decode(backend, in, payloads, 1);
                    int image = expected.values.get(1).length / images;
                    for (int i : new int[] {0, 2}) {
                        for (int k = 0; k < image; k++) {
                            assertEquals(
                                    expected.values.get(1)[i * image + k],
                                    others.values.get(1)[i * image + k]);
                        }
                    }
                }
            }
        }
    }

    /** The encoding step gives what the encoder gives, and an index without a table harms its image alone. */
    @Test
    void encodingWithinARun() {
        int images = 3;
        Random random = new Random(5);
        try (Backend backend = backend();
                Backend.Tables factorized = backend.tables(factorizedTables());
                Backend.Tables gaussian = backend.tables(GAUSSIAN)) {
            for (int substreams : new int[] {0, 3}) {
                RunBuilder b = backend.newRun();
                Activation z = b.input(ElementType.I16, images, 2, 3, Z_CHANNELS);
                Activation y = b.input(ElementType.I16, images, HEIGHT, WIDTH, 4);
                Activation indices = b.input(ElementType.U8, images, HEIGHT, WIDTH, 4);
                List<RunBuilder.SymbolPass> passes = List.of(
                        new RunBuilder.SymbolPass(factorized, null, z),
                        new RunBuilder.SymbolPass(gaussian, indices, y));
                assertThrows(IllegalArgumentException.class, () -> b.encodePayloads(passes, 33));
                assertThrows(IllegalArgumentException.class, () -> b.encodePayloads(List.of(), 0));
                RunBuilder.SymbolPass slice = new RunBuilder.SymbolPass(gaussian, null, y.slice(1, 2));
                assertThrows(IllegalArgumentException.class, () -> b.encodePayloads(List.of(slice), 0));
                RunBuilder.SymbolPass few =
                        new RunBuilder.SymbolPass(factorized, null, b.buffer(ElementType.I16, Grid.FULL, 3, 1, 1, 6));
                assertThrows(IllegalArgumentException.class, () -> b.encodePayloads(List.of(few), 0));
                b.encodePayloads(passes, substreams);
                try (Run run = b.build()) {
                    assertThrows(IllegalArgumentException.class, () -> run.encoded(0), "nothing was executed");
                    for (int repeat = 0; repeat < 3; repeat++) {
                        for (Activation port : List.of(z, y)) {
                            MemorySegment memory = run.memory(port);
                            for (int i = 0; i < memory.byteSize() / 2; i++) {
                                double value = random.nextGaussian() * (i % 50 == 0 ? 9000 : 3);
                                memory.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) value);
                            }
                        }
                        MemorySegment memory = run.memory(indices);
                        for (int i = 0; i < memory.byteSize(); i++) {
                            memory.set(ValueLayout.JAVA_BYTE, i, (byte) random.nextInt(64));
                        }
                        int wrong = repeat == 1 ? 1 : -1;
                        if (wrong >= 0) {
                            memory.set(ValueLayout.JAVA_BYTE, memory.byteSize() / images * 2 - 1, (byte) 200);
                        }
                        run.execute();
                        for (int image = 0; image < images; image++) {
                            int at = image;
                            if (image == wrong) {
                                assertThrows(IllegalArgumentException.class, () -> run.encoded(at));
                                continue;
                            }
                            RansEncoder.Encoded expected = backend.ransEncoder()
                                    .encode(
                                            List.of(
                                                    pass(factorized, null, run, z, image),
                                                    pass(gaussian, indices, run, y, image)),
                                            substreams);
                            assertArrayEquals(
                                    expected.payload(), run.encoded(image).payload());
                            assertEquals(
                                    expected.symbolChecksum(),
                                    run.encoded(image).symbolChecksum());
                        }
                        assertThrows(IllegalArgumentException.class, () -> run.encoded(images));
                    }
                }
            }
        }
    }

    private static RansEncoder.Pass pass(
            Backend.Tables tables, Activation indices, Run run, Activation symbols, int image) {
        int count = symbols.positions() * symbols.channels();
        byte[] channels = new byte[count];
        for (int i = 0; i < count; i++) {
            channels[i] = (byte) (i % symbols.channels());
        }
        MemorySegment of = indices == null
                ? MemorySegment.ofArray(channels)
                : run.memory(indices).asSlice((long) image * count, count);
        return new RansEncoder.Pass(tables, of, run.memory(symbols).asSlice(2L * image * count, 2L * count), count);
    }

    private static void assertBits(float[] expected, float[] actual) {
        for (int i = 0; i < expected.length; i++) {
            assertTrue(
                    Float.floatToRawIntBits(expected[i]) == Float.floatToRawIntBits(actual[i])
                            || Float.isNaN(expected[i]) && Float.isNaN(actual[i]),
                    "element " + i + ": " + expected[i] + " and " + actual[i]);
        }
    }
}

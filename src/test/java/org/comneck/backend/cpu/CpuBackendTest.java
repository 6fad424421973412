package org.comneck.backend.cpu;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.BiFunction;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.Taps;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/**
 * Every native kernel against the reference backend, bit by bit: instruction sets x threads x batches x awkward shapes, and the CUDA
 * kernels on the emulation.
 */
class CpuBackendTest {
    private static Backend reference;
    private static final List<Backend> NATIVE = new ArrayList<>();

    @BeforeAll
    static void open() {
        assertTrue(CpuBackend.isAvailable(), () -> "cause: " + CpuBackend.unavailabilityCause());
        reference = new ReferenceBackend(2);
        NATIVE.add(EmulatedCuda.open());
        for (String isa : List.of("portable", "avx2", "avx512")) {
            for (int threads = 1; threads <= 3; threads++) {
                try {
                    NATIVE.add(CpuBackend.open(threads, isa));
                } catch (UnsupportedOperationException e) {
                    System.getLogger("test").log(System.Logger.Level.INFO, "not on this machine: " + isa);
                }
            }
        }
    }

    @AfterAll
    static void close() {
        NATIVE.forEach(Backend::close);
        reference.close();
    }

    /** Values that break careless arithmetic: both zeros, subnormals, huge and ordinary ones. */
    static float[] hard(Random random, int count) {
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = switch (random.nextInt(12)) {
                case 0 -> 0f;
                case 1 -> -0f;
                case 2 -> Float.intBitsToFloat(random.nextInt(1 << 23) | random.nextInt(2) << 31);
                case 3 -> (float) random.nextGaussian() * 1e6f;
                case 4 -> (float) random.nextGaussian() * 1e-20f;
                default -> (float) random.nextGaussian();
            };
        }
        return values;
    }

    /** Records and executes on a backend; returns the output's values widened to int bits. */
    private static int[] run(Backend backend, BiFunction<Backend, RunBuilder, Recorded> recording) {
        RunBuilder builder = backend.newRun();
        Recorded recorded = recording.apply(backend, builder);
        builder.output(recorded.output);
        Activation out = recorded.output;
        int[] bits;
        try (Run run = builder.build()) {
            for (int i = 0; i < recorded.inputs.size(); i++) {
                Activation input = recorded.inputs.get(i);
                MemorySegment memory = run.memory(input);
                float[] values = recorded.values.get(i);
                for (int k = 0; k < values.length; k++) {
                    if (input.type() == ElementType.F32) {
                        memory.setAtIndex(ValueLayout.JAVA_FLOAT, k, values[k]);
                    } else {
                        memory.set(ValueLayout.JAVA_BYTE, k, (byte) (int) values[k]);
                    }
                }
            }
            run.execute();
            run.execute(); // a second time: nothing may depend on what was there before
            MemorySegment memory = run.memory(out);
            bits = new int[Math.toIntExact(memory.byteSize() / out.type().bytes())];
            for (int k = 0; k < bits.length; k++) {
                bits[k] = switch (out.type()) {
                    case F32 -> Float.floatToIntBits(memory.getAtIndex(ValueLayout.JAVA_FLOAT, k)); // one NaN
                    case BF16 -> memory.getAtIndex(ValueLayout.JAVA_SHORT, k);
                    default -> memory.get(ValueLayout.JAVA_BYTE, k);
                };
            }
        }
        recorded.layers.forEach(Layer::close);
        return bits;
    }

    private static final class Recorded {
        final List<Activation> inputs = new ArrayList<>();
        final List<float[]> values = new ArrayList<>();
        final List<Layer> layers = new ArrayList<>();
        Activation output;

        Activation input(RunBuilder builder, Random random, int images, int height, int width, int channels) {
            Activation input = builder.input(ElementType.F32, images, height, width, channels);
            inputs.add(input);
            values.add(hard(random, images * height * width * channels));
            return input;
        }
    }

    private static void compare(String what, BiFunction<Backend, RunBuilder, Recorded> recording) {
        int[] expected = run(reference, recording);
        for (Backend backend : NATIVE) {
            int[] actual = run(backend, recording);
            assertEquals(expected.length, actual.length);
            for (int i = 0; i < expected.length; i++) {
                if (expected[i] != actual[i]) {
                    fail(what + ", " + backend.description() + ", element " + i + " of " + expected.length + ": "
                            + Float.intBitsToFloat(actual[i]) + " instead of " + Float.intBitsToFloat(expected[i]));
                }
            }
        }
    }

    private static Layer layer(Recorded recorded, Backend backend, Convolution g, Random random, Precision precision) {
        int in = g.inputChannels();
        int out = g.outputChannels();
        boolean transposed = g.kind() == Convolution.Kind.TRANSPOSED;
        float[] weight = hard(random, in * out * g.kernelHeight() * g.kernelWidth());
        float[] bias = hard(random, out);
        bias[0] = -0f;
        Layer layer = backend.layer(
                g,
                Tensor.of(weight, transposed ? in : out, transposed ? out : in, g.kernelHeight(), g.kernelWidth()),
                random.nextInt(5) == 0 ? null : Tensor.of(bias, out),
                precision);
        recorded.layers.add(layer);
        return layer;
    }

    /** One layer of one source, with or without a residual. */
    private static void convolution(Convolution g, int images, int height, int width, Function function) {
        compare(g + " of " + images + "x" + height + "x" + width, (backend, builder) -> {
            Random random = new Random(7);
            Recorded recorded = new Recorded();
            Activation source = recorded.input(builder, random, images, height, width, g.inputChannels());
            boolean transposed = g.kind() == Convolution.Kind.TRANSPOSED;
            int h = transposed ? height * g.stride() : (height + 2 * g.padding() - g.kernelHeight()) / g.stride() + 1;
            int w = transposed ? width * g.stride() : (width + 2 * g.padding() - g.kernelWidth()) / g.stride() + 1;
            Activation residual = function == Function.RELU
                    ? recorded.input(builder, random, images, h, w, g.outputChannels())
                    : null;
            Layer layer = layer(recorded, backend, g, random, Precision.F32);
            recorded.output = builder.buffer(ElementType.F32, Grid.FULL, images, h, w, g.outputChannels());
            builder.convolution(layer, source, residual, function, recorded.output);
            return recorded;
        });
    }

    @Test
    void convolutionsOfEveryKindAndSize() {
        for (int images : new int[] {1, 5}) {
            convolution(Convolution.square(3, 17, 5, 2), images, 9, 11, Function.NONE);
            convolution(Convolution.square(5, 70, 3, 1), images, 7, 5, Function.RELU);
            convolution(Convolution.square(7, 33, 5, 1), images, 1, 1, Function.NONE);
            convolution(Convolution.square(4, 130, 5, 2), images, 2, 3, Function.RELU);
            convolution(Convolution.linear(37, 100), images, 1, 13, Function.RELU);
            convolution(Convolution.linear(1, 1), images, 1, 1, Function.NONE);
            convolution(Convolution.patches(3, 24, 14), images, 30, 43, Function.NONE);
            convolution(Convolution.checkerboard(6, 20, 5), images, 6, 7, Function.NONE);
            convolution(Convolution.doubling(9, 18, 5), images, 5, 3, Function.RELU);
            convolution(Convolution.doubling(4, 3, 5), images, 1, 1, Function.NONE);
            convolution(new Convolution(3, 8, 3, 2, 3, 1, Convolution.Kind.DIRECT), images, 8, 9, Function.NONE);
            convolution(new Convolution(2, 5, 4, 4, 4, 0, Convolution.Kind.TRANSPOSED), images, 3, 2, Function.NONE);
            convolution(new Convolution(2, 5, 2, 3, 3, 0, Convolution.Kind.TRANSPOSED), images, 3, 2, Function.NONE);
        }
    }

    @Test
    void longSumsAreCutIntoBlocksWithoutATrace() {
        convolution(Convolution.square(120, 65, 5, 1), 1, 5, 6, Function.RELU);
        convolution(Convolution.linear(4096, 64), 1, 1, 7, Function.RELU);
    }

    @Test
    void functions() {
        for (Function function : Function.values()) {
            convolution(Convolution.linear(20, 35), 2, 3, 5, function);
        }
    }

    /** The passes of ELIC's entropy parameters: half grids, several sources, one of them absent or gathered. */
    @Test
    void halfGridsWithSeveralSources() {
        for (int images : new int[] {1, 5}) {
            for (Grid grid : Grid.values()) {
                for (boolean absent : new boolean[] {false, true}) {
                    for (int size = 1; size < 6; size += 2) {
                        int height = size + 1;
                        int width = size;
                        if (grid.positions(height, width) == 0) {
                            continue;
                        }
                        compare(grid + " absent " + absent, (backend, builder) -> {
                            Random random = new Random(11);
                            Recorded recorded = new Recorded();
                            Activation hyper = recorded.input(builder, random, images, height, width, 21);
                            Activation latents = recorded.input(builder, random, images, height, width, 30);
                            Layer context = layer(
                                    recorded, backend, Convolution.checkerboard(10, 14, 5), random, Precision.F32);
                            Layer aggregation = layer(
                                    recorded, backend, Convolution.linear(14 + 9 + 21, 66), random, Precision.F32);
                            Layer head = layer(recorded, backend, Convolution.linear(66, 18), random, Precision.F32);
                            Activation seen = builder.buffer(ElementType.F32, grid, images, height, width, 14);
                            builder.convolution(context, latents.slice(10, 10), null, Function.NONE, seen);
                            Activation first = builder.buffer(ElementType.F32, grid, images, height, width, 66);
                            List<Activation> sources = new ArrayList<>();
                            sources.add(absent ? null : seen);
                            sources.add(latents.slice(20, 9));
                            sources.add(hyper);
                            builder.convolution(
                                    aggregation,
                                    sources,
                                    absent ? new int[] {14} : new int[0],
                                    null,
                                    Function.RELU,
                                    first);
                            builder.release(seen);
                            recorded.output = builder.buffer(ElementType.F32, grid, images, height, width, 18);
                            builder.convolution(head, first, null, Function.NONE, recorded.output);
                            return recorded;
                        });
                    }
                }
            }
        }
    }

    @Test
    void infinitiesOutsideTheInputAreNotMultipliedByZero() {
        compare("infinite weights at the border", (backend, builder) -> {
            Recorded recorded = new Recorded();
            Activation source = recorded.input(builder, new Random(3), 1, 3, 4, 2);
            float[] weight = new float[3 * 2 * 9];
            java.util.Arrays.fill(weight, 1f);
            for (int o = 0; o < 3; o++) {
                weight[o * 18] = Float.POSITIVE_INFINITY;
                weight[o * 18 + 17] = Float.NEGATIVE_INFINITY;
            }
            Layer layer = backend.layer(
                    Convolution.square(2, 3, 3, 1),
                    Tensor.of(weight, 3, 2, 3, 3),
                    Tensor.of(new float[] {-0f, 0f, 1f}, 3),
                    Precision.F32);
            recorded.layers.add(layer);
            recorded.output = builder.buffer(ElementType.F32, Grid.FULL, 1, 3, 4, 3);
            builder.convolution(layer, source, null, Function.NONE, recorded.output);
            return recorded;
        });
    }

    @Test
    void tokens() {
        for (int images : new int[] {1, 5}) {
            compare("a vision block", (backend, builder) -> {
                Random random = new Random(5);
                Recorded recorded = new Recorded();
                Activation pixels = builder.input(ElementType.U8, images, 6, 6, 3);
                recorded.inputs.add(pixels);
                float[] values = new float[images * 108];
                for (int i = 0; i < values.length; i++) {
                    values[i] = random.nextInt(256);
                }
                recorded.values.add(values);
                Activation image = builder.buffer(ElementType.F32, Grid.FULL, images, 6, 6, 3);
                builder.normalize(pixels, new float[] {0.48f, 0.45f, 0.4f}, new float[] {0.26f, 0.27f, 0.28f}, image);
                Activation patches = builder.buffer(ElementType.F32, Grid.FULL, images, 3, 3, 24);
                builder.convolution(
                        layer(recorded, backend, Convolution.patches(3, 24, 2), random, Precision.F32),
                        image,
                        null,
                        Function.NONE,
                        patches);
                Activation tokens = builder.buffer(ElementType.F32, Grid.FULL, images, 1, 10, 24);
                builder.embed(patches, Tensor.of(hard(random, 24), 24), Tensor.of(hard(random, 240), 10, 24), tokens);
                Activation normed = builder.buffer(ElementType.F32, Grid.FULL, images, 1, 10, 24);
                builder.layerNorm(
                        tokens, Tensor.of(hard(random, 24), 24), Tensor.of(hard(random, 24), 24), 1e-5f, normed);
                Activation qkv = builder.buffer(ElementType.F32, Grid.FULL, images, 1, 10, 72);
                float[] small = new float[72 * 24];
                for (int i = 0; i < small.length; i++) {
                    small[i] = (float) random.nextGaussian() * 1e-4f;
                }
                Layer projection =
                        backend.layer(Convolution.linear(24, 72), Tensor.of(small, 72, 24), null, Precision.F32);
                recorded.layers.add(projection);
                builder.convolution(projection, normed, null, Function.NONE, qkv);
                Activation mixed = builder.buffer(ElementType.F32, Grid.FULL, images, 1, 10, 24);
                builder.attention(qkv, 3, mixed);
                builder.add(mixed, normed, mixed);
                Activation gated = builder.buffer(ElementType.F32, Grid.FULL, images, 1, 10, 24);
                builder.gate(mixed, qkv.slice(24, 24), normed, gated);
                Activation some = builder.buffer(ElementType.F32, Grid.FULL, images, 1, 9, 24);
                builder.selectTokens(gated, 1, some);
                recorded.output = builder.buffer(ElementType.BF16, Grid.FULL, images, 3, 3, 24);
                builder.copy(some.reshape(3, 3), recorded.output);
                return recorded;
            });
        }
    }

    /** Class token, positions and LayerNorm as one step and as two, rows that are not finite among them. */
    @Test
    void embeddings() {
        for (int width : new int[] {1, 31, 64, 192, 1024, 1280}) {
            for (int tokens : new int[] {1, 2, 17, 257}) {
                for (int images : new int[] {1, 3}) {
                    for (boolean withClass : new boolean[] {false, true}) {
                        int patches = tokens - (withClass ? 1 : 0);
                        if (patches > 0 && (tokens < 257 || width <= 192)) {
                            embeddings(width, patches, images, withClass);
                        }
                    }
                }
            }
        }
    }

    private static void embeddings(int width, int patches, int images, boolean withClass) {
        int tokens = patches + (withClass ? 1 : 0);
        String what = images + " x " + tokens + " tokens of " + width + (withClass ? " with class token" : "");
        int[] expected =
                run(reference, (backend, builder) -> embeddings(builder, width, patches, images, withClass, false));
        compare(what, (backend, builder) -> embeddings(builder, width, patches, images, withClass, true));
        assertArrayEquals(
                expected,
                run(reference, (backend, builder) -> embeddings(builder, width, patches, images, withClass, true)),
                what + ": one step and two");
    }

    private static Recorded embeddings(
            RunBuilder builder, int width, int patches, int images, boolean withClass, boolean oneStep) {
        Random random = new Random(width + patches);
        int tokens = patches + (withClass ? 1 : 0);
        ElementType[] types = {ElementType.F32, ElementType.BF16};
        Recorded recorded = new Recorded();
        Activation input = recorded.input(builder, random, images, 1, patches, width);
        float[] values = recorded.values.getFirst();
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, Float.MAX_VALUE}) {
            if (patches > 2) {
                values[random.nextInt(values.length)] = bad;
            }
        }
        Activation source = builder.buffer(types[random.nextInt(2)], Grid.FULL, images, 1, patches, width);
        builder.copy(input, source);
        Tensor classToken = withClass ? Tensor.of(hard(random, width), width) : null;
        Tensor positions = Tensor.of(hard(random, tokens * width), tokens, width);
        Tensor weight = Tensor.of(hard(random, width), width);
        Tensor bias = Tensor.of(hard(random, width), width);
        recorded.output = builder.buffer(types[random.nextInt(2)], Grid.FULL, images, 1, tokens, width);
        if (oneStep) {
            builder.embedNorm(source, classToken, positions, weight, bias, 1e-5f, recorded.output);
        } else {
            Activation embedded = builder.buffer(ElementType.F32, Grid.FULL, images, 1, tokens, width);
            builder.embed(source, classToken, positions, embedded);
            builder.layerNorm(embedded, weight, bias, 1e-5f, recorded.output);
        }
        return recorded;
    }

    @Test
    void pixels() {
        compare("pixels", (backend, builder) -> {
            Random random = new Random(5);
            Recorded recorded = new Recorded();
            Activation image = recorded.input(builder, random, 2, 5, 7, 3);
            Activation gains = recorded.input(builder, random, 2, 1, 1, 3);
            Activation scaled = builder.buffer(ElementType.F32, Grid.FULL, 2, 5, 7, 3);
            builder.scale(image, gains, scaled);
            recorded.output = builder.buffer(ElementType.U8, Grid.FULL, 2, 5, 7, 3);
            builder.toPixels(scaled, recorded.output);
            return recorded;
        });
    }

    /** Larger, smaller, one pixel, a slice of wider positions; weights of both signs that overrun a byte at both ends. */
    @Test
    void resampling() {
        for (Taps.Axis axis : Taps.Axis.values()) {
            for (int outputs : new int[] {1, 3, 40, 700}) {
                for (int channels : new int[] {3, 2}) {
                    compare("resampling along " + axis + " to " + outputs, (backend, builder) -> {
                        Random random = new Random(outputs);
                        Recorded recorded = new Recorded();
                        boolean rows = axis == Taps.Axis.HEIGHT;
                        int other = outputs == 700 ? 2 : 500;
                        int height = rows ? 13 : other;
                        int width = rows ? other : 13;
                        Activation pixels = builder.input(ElementType.U8, 2, height, width, 3);
                        recorded.inputs.add(pixels);
                        float[] values = new float[2 * 13 * other * 3];
                        for (int i = 0; i < values.length; i++) {
                            values[i] = Math.clamp(random.nextInt(350) - 50, 0, 255);
                        }
                        recorded.values.add(values);
                        recorded.output = builder.buffer(
                                ElementType.U8, Grid.FULL, 2, rows ? outputs : height, rows ? width : outputs, 3);
                        builder.resample(pixels, axis, taps(random, 13, outputs), recorded.output);
                        if (channels == 2) { // again, over two of the channels
                            builder.resample(
                                    pixels.slice(1, 2), axis, taps(random, 13, outputs), recorded.output.slice(0, 2));
                        }
                        return recorded;
                    });
                }
            }
        }
    }

    private static Taps taps(Random random, int size, int outputs) {
        int most = 5;
        int[] values = new int[outputs * (most + 2)];
        for (int at = 0; at < values.length; at += most + 2) {
            int count = 1 + random.nextInt(most);
            values[at] = random.nextInt(size - count + 1);
            values[at + 1] = count;
            for (int k = 0; k < most; k++) {
                values[at + 2 + k] = (int) ((random.nextDouble() * 3 - 1) * (1 << Taps.PRECISION_BITS) / count);
            }
        }
        return new Taps(size, most, values);
    }

    /** bf16 is to a tolerance: the reference rounds the same inputs but adds in its own order. */
    @Test
    void bf16StaysCloseToTheReference() {
        for (Convolution g : List.of(
                Convolution.linear(96, 80),
                Convolution.square(3, 20, 5, 2),
                Convolution.square(6, 33, 3, 1),
                Convolution.doubling(5, 7, 5))) {
            BiFunction<Backend, RunBuilder, Recorded> recording = (backend, builder) -> {
                Random random = new Random(9);
                Recorded recorded = new Recorded();
                Activation source = builder.input(ElementType.F32, 2, 6, 7, g.inputChannels());
                recorded.inputs.add(source);
                float[] values = new float[2 * 42 * g.inputChannels()];
                for (int i = 0; i < values.length; i++) {
                    values[i] = random.nextFloat() - 0.5f;
                }
                recorded.values.add(values);
                float[] weight = new float[g.inputChannels() * g.outputChannels() * g.kernelHeight() * g.kernelWidth()];
                for (int i = 0; i < weight.length; i++) {
                    weight[i] = random.nextFloat() - 0.5f;
                }
                boolean transposed = g.kind() == Convolution.Kind.TRANSPOSED;
                Layer layer = backend.layer(
                        g,
                        Tensor.of(
                                weight,
                                transposed ? g.inputChannels() : g.outputChannels(),
                                transposed ? g.outputChannels() : g.inputChannels(),
                                g.kernelHeight(),
                                g.kernelWidth()),
                        null,
                        Precision.BF16);
                recorded.layers.add(layer);
                int h = transposed ? 12 : (6 + 2 * g.padding() - g.kernelHeight()) / g.stride() + 1;
                int w = transposed ? 14 : (7 + 2 * g.padding() - g.kernelWidth()) / g.stride() + 1;
                recorded.output = builder.buffer(ElementType.F32, Grid.FULL, 2, h, w, g.outputChannels());
                builder.convolution(layer, source, null, Function.NONE, recorded.output);
                return recorded;
            };
            int[] expected = run(reference, recording);
            for (Backend backend : NATIVE) {
                int[] actual = run(backend, recording);
                for (int i = 0; i < expected.length; i++) {
                    float e = Float.intBitsToFloat(expected[i]);
                    float a = Float.intBitsToFloat(actual[i]);
                    if (!(Math.abs(e - a) <= 1e-4f)) {
                        fail(g + ", " + backend.description() + ", element " + i + ": " + a + " instead of " + e);
                    }
                }
            }
        }
    }

    /** Native allocations are counted by plan_test.cpp. */
    @Test
    void executingAllocatesNothingOnTheHeap() {
        Backend backend = NATIVE.getLast();
        RunBuilder builder = backend.newRun();
        Activation in = builder.input(ElementType.F32, 1, 2, 2, 4);
        Activation out = builder.buffer(ElementType.F32, Grid.FULL, 1, 2, 2, 4);
        builder.add(in, in, out);
        builder.output(out);
        var threads = (com.sun.management.ThreadMXBean) java.lang.management.ManagementFactory.getThreadMXBean();
        try (Run run = builder.build()) {
            for (int i = 0; i < 20_000; i++) {
                run.execute(); // until the call is compiled
            }
            long before = threads.getCurrentThreadAllocatedBytes();
            for (int i = 0; i < 1000; i++) {
                run.execute();
            }
            long allocated = threads.getCurrentThreadAllocatedBytes() - before;
            assertTrue(
                    allocated < 1000,
                    () -> allocated + " bytes in 1,000 executions"); // the counter itself takes a little
        }
    }

    @Test
    void closedHandlesThrow() {
        CpuBackend backend = CpuBackend.open(1);
        Layer layer = backend.layer(Convolution.linear(1, 1), Tensor.of(new float[] {2}, 1, 1), null, Precision.F32);
        RunBuilder builder = backend.newRun();
        Activation in = builder.input(ElementType.F32, 1, 1, 1, 1);
        Activation out = builder.buffer(ElementType.F32, Grid.FULL, 1, 1, 1, 1);
        builder.convolution(layer, in, null, Function.NONE, out);
        builder.output(out);
        Run run = builder.build();
        assertThrows(IllegalStateException.class, () -> builder.stage("late"));
        MemorySegment memory = run.memory(in);
        memory.set(ValueLayout.JAVA_FLOAT, 0, 3f);
        run.execute();
        assertEquals(6f, run.memory(out).get(ValueLayout.JAVA_FLOAT, 0));
        assertTrue(run.stageNanos(0) >= 0 && run.bytes() >= 128);
        layer.close();
        layer.close();
        assertThrows(IllegalStateException.class, run::execute);
        run.close();
        run.close();
        assertThrows(IllegalStateException.class, run::execute);
        assertThrows(IllegalStateException.class, () -> run.memory(in));
        assertThrows(IllegalStateException.class, () -> memory.get(ValueLayout.JAVA_FLOAT, 0));
        backend.close();
        backend.close();
        assertThrows(IllegalStateException.class, backend::newRun);
        assertThrows(
                IllegalStateException.class,
                () -> backend.layer(Convolution.linear(1, 1), Tensor.of(new float[] {2}, 1, 1), null, Precision.F32));
    }

    @Test
    void misuseIsNamed() {
        Backend backend = NATIVE.getFirst();
        assertThrows(IllegalArgumentException.class, () -> CpuBackend.open(0));
        assertThrows(IllegalArgumentException.class, () -> CpuBackend.open(1, "sse9"));
        try (Layer layer = backend.layer(
                Convolution.linear(2, 2), Tensor.of(new float[] {1, 2, 3, 4}, 2, 2), null, Precision.F32)) {
            RunBuilder builder = backend.newRun();
            Activation a = builder.buffer(ElementType.F32, Grid.FULL, 1, 2, 2, 4);
            assertThrows(
                    IllegalArgumentException.class,
                    () -> builder.convolution(layer, a.slice(0, 2), null, Function.NONE, a.slice(1, 2)));
            assertThrows(
                    IllegalArgumentException.class,
                    () -> builder.convolution(layer, a.slice(0, 2), a.slice(1, 2), Function.NONE, a.slice(2, 2)));
            builder.convolution(layer, a.slice(0, 2), null, Function.NONE, a.slice(2, 2));
            builder.release(a);
            assertThrows(
                    IllegalArgumentException.class,
                    () -> builder.convolution(layer, a.slice(0, 2), null, Function.NONE, a.slice(2, 2)));
            builder.build().close();
        }
    }
}

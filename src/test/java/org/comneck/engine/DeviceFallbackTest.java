package org.comneck.engine;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.comneck.DeviceException;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.cpu.CpuBackend;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.backend.cuda.InjectedFault;
import org.comneck.backend.cuda.InjectedFault.Call;
import org.comneck.bitstream.Container;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** A device that fails after it was opened: a typed error, or the processor instead, and the same bits. */
@SuppressWarnings("try") // faults are there for their scope
class DeviceFallbackTest {
    private static final EncodeOptions WHOLE = EncodeOptions.DEFAULT.withFull(true);
    private static final Supplier<Backend> PROCESSOR = () -> CpuBackend.open(1);
    private static Photo photo;
    private static byte[] bitstream;
    private static float[] latents;

    @BeforeAll
    static void onTheProcessor() {
        byte[] rgb = new byte[64 * 64 * 3];
        for (int i = 0; i < rgb.length; i++) {
            rgb[i] = (byte) (i * 7 % 251 ^ i / 192);
        }
        photo = Photo.of(64, 64, rgb);
        try (NativeEngine engine = engine(CpuBackend.open(1), null)) {
            bitstream = engine.encode(List.of(photo), WHOLE);
            latents = latents(engine);
        }
    }

    private static NativeEngine engine(Backend backend, Supplier<Backend> fallback) {
        return new NativeEngine(SeededModel.named(SeededModel.TINY).inMemory(), Precision.F32, backend, fallback);
    }

    private static float[] latents(NativeEngine engine) {
        return engine.latents(bitstream).yHat().toFloats();
    }

    /** What happened is a value, and the run works again where the device does. */
    @Test
    void failuresAreTyped() {
        try (NativeEngine engine = engine(EmulatedCuda.open(), null)) {
            assertArrayEquals(latents, latents(engine));
            try (InjectedFault fault = new InjectedFault(Call.LAUNCH, 0, InjectedFault.LAUNCH_FAILURE, false)) {
                assertEquals(
                        DeviceException.Cause.LAUNCH_FAILED, failure(engine).what());
            }
            try (InjectedFault fault = new InjectedFault(Call.SYNCHRONIZE, 0, InjectedFault.UNAVAILABLE, true)) {
                assertEquals(DeviceException.Cause.LOST, failure(engine).what());
            }
            try (InjectedFault fault = new InjectedFault(Call.ALLOCATE, 0, InjectedFault.OUT_OF_MEMORY, true)) {
                DeviceException e = assertThrows(DeviceException.class, () -> engine.encode(List.of(photo), WHOLE));
                assertEquals(DeviceException.Cause.OUT_OF_MEMORY, e.what());
                assertTrue(e.getMessage().contains("out of memory"), e.getMessage());
            }
            assertArrayEquals(latents, latents(engine));
            assertTrue(engine.backend().startsWith("cuda: "), engine.backend());
        }
    }

    private static DeviceException failure(NativeEngine engine) {
        return assertThrows(DeviceException.class, () -> latents(engine));
    }

    @Test
    void theProcessorTakesOverWhileDecoding() {
        try (NativeEngine engine = engine(EmulatedCuda.open(), PROCESSOR)) {
            assertArrayEquals(latents, latents(engine));
            try (InjectedFault fault = new InjectedFault(Call.SYNCHRONIZE, 0, InjectedFault.UNAVAILABLE, true)) {
                assertArrayEquals(latents, latents(engine));
                assertTrue(engine.backend().startsWith("cpu: "), engine.backend());
                assertArrayEquals(latents, latents(engine));
            }
            assertTrue(engine.backend().startsWith("cpu: "), "it stays there: " + engine.backend());
        }
    }

    @Test
    void theProcessorTakesOverWhileEncoding() {
        try (NativeEngine engine = engine(EmulatedCuda.open(), PROCESSOR)) {
            // the run is prepared and was executed, and then the device does not answer any more
            assertArrayEquals(bitstream, engine.encode(List.of(photo), WHOLE));
            assertTrue(engine.backend().startsWith("cuda: "), engine.backend());
            try (InjectedFault fault = new InjectedFault(Call.SYNCHRONIZE, 0, InjectedFault.UNAVAILABLE, true)) {
                assertArrayEquals(bitstream, engine.encode(List.of(photo), WHOLE));
            }
            assertTrue(engine.backend().startsWith("cpu: "), engine.backend());
        }
    }

    @Test
    void theProcessorTakesOverWhilePreparing() {
        try (InjectedFault fault = new InjectedFault(Call.ALLOCATE, 5, InjectedFault.OUT_OF_MEMORY, false);
                NativeEngine engine = engine(EmulatedCuda.open(), PROCESSOR)) {
            assertArrayEquals(latents, latents(engine)); // weights are packed, or the run is sealed
            assertTrue(engine.backend().startsWith("cpu: "), engine.backend());
        }
    }

    /** Tokens that were prepared on the device throw; prepared anew they are on the processor. */
    @Test
    void preparedTokensArePreparedAnew() {
        try (NativeEngine engine = engine(EmulatedCuda.open(), PROCESSOR)) {
            Container container = engine.read(bitstream);
            byte[] expected;
            try (PreparedTokens tokens = engine.prepareTokens(64, 64, engine.defaultTokens())) {
                tokens.set(0, container.image(0));
                tokens.execute();
                expected = tokens.tokens(0).toArray(ValueLayout.JAVA_BYTE);
                try (InjectedFault fault = new InjectedFault(Call.LAUNCH, 0, InjectedFault.UNAVAILABLE, true)) {
                    assertThrows(DeviceException.class, tokens::execute);
                }
            }
            assertTrue(engine.backend().startsWith("cpu: "), engine.backend());
            try (PreparedTokens tokens = engine.prepareTokens(64, 64, engine.defaultTokens())) {
                tokens.set(0, container.image(0));
                tokens.execute();
                assertArrayEquals(expected, tokens.tokens(0).toArray(ValueLayout.JAVA_BYTE));
            }
        }
    }

    /** fp16 is a device's: the same latents, tokens close to f32's, and f32 where the processor takes over. */
    @Test
    void f16BecomesF32() {
        float[] expected;
        try (NativeEngine engine = engine(CpuBackend.open(1), null)) {
            expected = engine.tokens(bitstream).toFloats();
        }
        ModelFile model = SeededModel.named(SeededModel.TINY).inMemory();
        try (NativeEngine engine = new NativeEngine(model, Precision.F16, EmulatedCuda.open(), PROCESSOR)) {
            assertArrayEquals(latents, latents(engine));
            float[] tokens = engine.tokens(bitstream).toFloats();
            double difference = 0;
            double size = 0;
            for (int i = 0; i < expected.length; i++) {
                difference += Math.pow(tokens[i] - expected[i], 2);
                size += Math.pow(expected[i], 2);
            }
            assertTrue(difference > 0, "that would be f32");
            assertEquals(0, Math.sqrt(difference / size), 3e-3);
            try (InjectedFault fault = new InjectedFault(Call.SYNCHRONIZE, 0, InjectedFault.UNAVAILABLE, true)) {
                assertArrayEquals(expected, engine.tokens(bitstream).toFloats());
            }
            assertTrue(engine.backend().startsWith("cpu: "), engine.backend());
        }
    }

    /** Several runs under way, each on a stream and in memory of its own; the weights are on the device once. */
    @Test
    void runsUnderWayShareTheWeights() throws Exception {
        int threads = 3;
        byte[] wide;
        try (NativeEngine processor = engine(CpuBackend.open(1), null)) {
            wide = processor.encode(List.of(Photo.of(128, 64, new byte[128 * 64 * 3])), WHOLE);
        }
        long before = InjectedFault.count(Call.ALLOCATE);
        try (NativeEngine engine = engine(EmulatedCuda.open(), null);
                ExecutorService pool = Executors.newFixedThreadPool(threads)) {
            assertArrayEquals(latents, latents(engine));
            long first = InjectedFault.count(Call.ALLOCATE) - before; // of weights and a run
            engine.latents(wide);
            long run = InjectedFault.count(Call.ALLOCATE) - before - first;
            assertTrue(0 < run && run < first / 2, run + " allocations of a run, with the weights " + first);
            CyclicBarrier together = new CyclicBarrier(threads);
            List<Future<float[]>> found = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                found.add(pool.submit(() -> {
                    float[] last = null;
                    for (int k = 0; k < 4; k++) {
                        together.await(60, TimeUnit.SECONDS);
                        last = latents(engine);
                        assertArrayEquals(latents, last);
                    }
                    return last;
                }));
            }
            for (Future<float[]> one : found) {
                assertArrayEquals(latents, one.get(60, TimeUnit.SECONDS));
            }
            long more = InjectedFault.count(Call.ALLOCATE) - before - first - run;
            assertTrue(more <= (threads - 1) * run, more + " more allocations, one run takes " + run);
        }
    }
}

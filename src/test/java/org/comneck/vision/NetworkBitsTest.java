package org.comneck.vision;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Grid;
import org.comneck.backend.Precision;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.cpu.CpuBackend;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.codec.Codec;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.comneck.neck.Neck;
import org.comneck.tensor.ElementType;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/**
 * The whole pipeline of a tiny seeded model, pixels to payload to tokens and picture: the same bits on every backend, thread count and
 * batch size.
 */
class NetworkBitsTest {
    private static final int HEIGHT = 128;
    private static final int WIDTH = 64;
    private static final int PICTURES = 5;
    private static ModelFile model;
    private static byte[][] pictures;
    private static List<Map<String, MemorySegment>> expected;

    @BeforeAll
    static void reference() {
        model = SeededModel.named(SeededModel.TINY).inMemory();
        Random random = new Random(3);
        pictures = new byte[PICTURES][HEIGHT * WIDTH * 3];
        for (byte[] picture : pictures) {
            int value = 128;
            for (int i = 0; i < picture.length; i++) {
                value = Math.clamp(value + random.nextInt(41) - 20, 0, 255);
                picture[i] = (byte) value;
            }
        }
        try (Backend backend = new ReferenceBackend(1)) {
            expected = pipeline(backend, 1);
        }
    }

    @AfterAll
    static void close() {
        model.close();
    }

    @Test
    void referenceWithThreadsAndBatches() {
        for (int threads : new int[] {2, 3}) {
            try (Backend backend = new ReferenceBackend(threads)) {
                compare(threads + " threads, batch 5", pipeline(backend, 5));
            }
        }
    }

    @Test
    void cpuWithThreadsAndBatches() {
        for (String isa : new String[] {"portable", "avx2", "avx512"}) {
            for (int threads : new int[] {1, 2, 3}) {
                CpuBackend backend;
                try {
                    backend = CpuBackend.open(threads, isa);
                } catch (UnsupportedOperationException e) {
                    continue; // not on this machine
                }
                try (backend) {
                    compare(isa + ", " + threads + " threads, batch 1", pipeline(backend, 1));
                    compare(isa + ", " + threads + " threads, batch 5", pipeline(backend, 5));
                }
            }
        }
    }

    /** The CUDA kernels and their runtime, on the processor. */
    @Test
    void cudaOnTheEmulation() {
        try (Backend backend = EmulatedCuda.open()) {
            compare("cuda, batch 5", pipeline(backend, 5));
        }
    }

    private static void compare(String what, List<Map<String, MemorySegment>> actual) {
        for (int i = 0; i < PICTURES; i++) {
            for (Map.Entry<String, MemorySegment> entry : expected.get(i).entrySet()) {
                MemorySegment other = actual.get(i).get(entry.getKey());
                assertEquals(-1, entry.getValue().mismatch(other), what + ", picture " + i + ", " + entry.getKey());
            }
        }
    }

    /** Runs all pictures in batches; for each picture, name of a value to its bytes. */
    private static List<Map<String, MemorySegment>> pipeline(Backend backend, int batch) {
        List<Map<String, MemorySegment>> results = new ArrayList<>();
        for (int i = 0; i < PICTURES; i++) {
            results.add(new LinkedHashMap<>());
        }
        try (Codec codec = Codec.load(backend, model, Precision.F32);
                Neck neck = Neck.load(backend, model, Precision.F32);
                VisionEncoder encoder = VisionEncoder.load(backend, model, Precision.F32)) {
            int h = HEIGHT / codec.stride();
            int w = WIDTH / codec.stride();
            for (int start = 0; start < PICTURES; start += batch) {
                encode(backend, codec, encoder, start, batch, results);
                decode(backend, codec, neck, encoder, h, w, start, batch, results);
            }
        }
        return results;
    }

    private static double quality(int picture) {
        return picture / 4.0; // 0, 1 and levels between
    }

    private static void encode(
            Backend backend,
            Codec codec,
            VisionEncoder encoder,
            int start,
            int batch,
            List<Map<String, MemorySegment>> results) {
        RunBuilder builder = backend.newRun();
        Activation pixels = builder.input(ElementType.U8, batch, HEIGHT, WIDTH, 3);
        Activation gains = builder.input(ElementType.F32, batch, 1, 1, codec.latentChannels());
        Activation image = builder.buffer(ElementType.F32, Grid.FULL, batch, HEIGHT, WIDTH, 3);
        builder.normalize(pixels, new float[3], new float[] {1, 1, 1}, image);
        Activation y = codec.analysis(builder, image, gains);
        Codec.Coded coded = codec.encode(builder, y);
        codec.encodePayloads(builder, coded, 0);
        builder.output(coded.yHat());
        Activation tokens = encoder.blocks(builder, encoder.embed(builder, pixels), 0, -1);
        Activation projected =
                encoder.head(builder, tokens, VisionEncoder.Tokens.CLS, VisionEncoder.PostNorm.TWICE, true);
        builder.output(projected);
        try (Run run = builder.build()) {
            for (int i = 0; i < batch; i++) {
                part(run, pixels, i, batch).copyFrom(MemorySegment.ofArray(pictures[start + i]));
                part(run, gains, i, batch).copyFrom(MemorySegment.ofArray(codec.gain(quality(start + i))));
            }
            run.execute();
            for (int i = 0; i < batch; i++) {
                Map<String, MemorySegment> result = results.get(start + i);
                result.put("latents of the encoder", copy(run, coded.yHat(), i, batch));
                result.put("tokens from pixels", copy(run, projected, i, batch));
                RansEncoder.Encoded encoded = run.encoded(i);
                result.put("payload", MemorySegment.ofArray(encoded.payload()));
                result.put("checksum", MemorySegment.ofArray(new int[] {encoded.symbolChecksum()}));
            }
        }
    }

    private static void decode(
            Backend backend,
            Codec codec,
            Neck neck,
            VisionEncoder encoder,
            int h,
            int w,
            int start,
            int batch,
            List<Map<String, MemorySegment>> results) {
        RunBuilder builder = backend.newRun();
        Codec.Coded coded = codec.decode(builder, batch, h, w);
        builder.output(coded.yHat());
        // recorded late: must not lie where an earlier step works
        Activation inverse = builder.input(ElementType.F32, batch, 1, 1, codec.latentChannels());
        Activation latents = codec.ungain(builder, coded.yHat(), inverse);
        Activation tokens = encoder.blocks(builder, neck.record(builder, latents), neck.entry(), -2);
        Activation patches =
                encoder.head(builder, tokens, VisionEncoder.Tokens.PATCHES, VisionEncoder.PostNorm.ONCE, true);
        builder.output(patches);
        Activation picture = codec.synthesis(builder, latents);
        Activation pixels = builder.buffer(ElementType.U8, Grid.FULL, batch, picture.height(), picture.width(), 3);
        builder.toPixels(picture, pixels);
        builder.output(pixels);
        try (Run run = builder.build()) {
            for (int i = 0; i < batch; i++) {
                Map<String, MemorySegment> result = results.get(start + i);
                run.payload(i, result.get("payload"), result.get("checksum").get(ValueLayout.JAVA_INT, 0));
                part(run, inverse, i, batch).copyFrom(MemorySegment.ofArray(codec.inverseGain(quality(start + i))));
            }
            for (int repeat = 0; repeat < 2; repeat++) {
                run.execute();
                for (int i = 0; i < batch; i++) {
                    Map<String, MemorySegment> result = results.get(start + i);
                    assertNull(run.damage(i));
                    assertEquals(
                            -1,
                            result.get("latents of the encoder").mismatch(copy(run, coded.yHat(), i, batch)),
                            "latents of encoder and decoder");
                    result.put("tokens", copy(run, patches, i, batch));
                    result.put("pixels", copy(run, pixels, i, batch));
                }
                for (int i = 0; i < batch; i++) {
                    Map<String, MemorySegment> result = results.get(start + i);
                    run.payload(i, result.get("payload"), result.get("checksum").get(ValueLayout.JAVA_INT, 0));
                }
            }
        }
    }

    private static MemorySegment part(Run run, Activation port, int image, int batch) {
        MemorySegment all = run.memory(port);
        long size = all.byteSize() / batch;
        return all.asSlice(image * size, size);
    }

    private static MemorySegment copy(Run run, Activation port, int image, int batch) {
        return MemorySegment.ofArray(part(run, port, image, batch).toArray(ValueLayout.JAVA_BYTE));
    }
}

package org.comneck.engine;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.backend.Precision;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.bitstream.Limits;
import org.comneck.model.Progress;
import org.comneck.model.SeededModel;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;
import org.comneck.vision.VisionEncoder;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The public API on a small model made from names. */
class NativeEngineTest {
    private static final EncodeOptions FULL = EncodeOptions.DEFAULT.withFull(true);

    @TempDir
    static Path folder;

    private static Path modelFile;
    private static NativeEngine engine;

    @BeforeAll
    static void open() {
        modelFile = folder.resolve("tiny.safetensors");
        SeededModel.named(SeededModel.TINY).write(modelFile, Progress.NONE);
        engine = NativeEngine.open(modelFile);
    }

    @AfterAll
    static void close() {
        engine.close();
        engine.close();
    }

    private static Photo apple() throws IOException {
        return Photo.read("apple.jpg", PhotoTest.resource("apple.jpg"), Photo.DEFAULT_MAX_PIXELS);
    }

    @Test
    void fromPhotoToEverything() throws IOException {
        byte[] bitstream = engine.encode(apple());
        CodedImage image = engine.read(bitstream).image(0);
        int size = engine.manifest().preprocessing().size();
        assertEquals(size, image.width());
        assertTrue(image.prepared());
        int area = (image.paddedWidth() / 16) * (image.paddedHeight() / 16);
        int width = engine.manifest().encoder().width();
        assertEquals(Shape.of(area, width), engine.tokens(bitstream).shape());
        TokenOptions all = TokenOptions.DEFAULT.withSelect(VisionEncoder.Tokens.ALL);
        assertEquals(Shape.of(1 + area, width), engine.tokens(bitstream, all).shape());
        TokenOptions projected = new TokenOptions(
                -1, VisionEncoder.Tokens.CLS, VisionEncoder.PostNorm.ONCE, true, TokenOptions.MODEL_ENTRY);
        assertEquals(
                Shape.of(1, engine.manifest().encoder().projection()),
                engine.tokens(bitstream, projected).shape());
        Latents latents = engine.latents(bitstream);
        int m = engine.manifest().codec().m();
        assertEquals(Shape.of(m, size / 16, size / 16), latents.yHat().shape());
        assertEquals(latents.yHat().shape(), latents.symbols().shape());
        assertEquals(
                Shape.of(engine.manifest().codec().n(), size / 64, size / 64),
                latents.zSymbols().shape());
        assertEquals("photo " + size + "x" + size, engine.decode(bitstream).toString());
        List<Classification> classes =
                engine.classify(engine.read(bitstream), 5).getFirst();
        assertEquals(5, classes.size());
        assertTrue(classes.get(0).score() >= classes.get(4).score());
        assertEquals(5, engine.classifyPixels(apple(), 5).size());
        assertTrue(engine.stageNanos().get("analysis") > 0, engine.stageNanos().toString());
        assertTrue(engine.stageNanos().get("neck") > 0, engine.stageNanos().toString());
    }

    @Test
    void fullPicturesKeepTheirSize() throws IOException {
        Photo photo = apple().crop(0, 0, 130, 70);
        byte[] bitstream = engine.encode(List.of(photo), FULL);
        CodedImage image = engine.read(bitstream).image(0);
        assertFalse(image.prepared());
        assertEquals(192, image.paddedWidth());
        assertEquals(128, image.paddedHeight());
        assertEquals("photo 130x70", engine.decode(bitstream).toString());
        assertTrue(engine.interpolates(image));
        assertEquals(12 * 8, engine.tokens(bitstream).shape().size(0));
    }

    @Test
    void resultsDependOnTheInputAlone() throws Exception {
        Photo apple = apple();
        List<Photo> photos = new ArrayList<>();
        for (int i = 0; i < 7; i++) {
            // Two padded sizes, so that batches are of several sizes too.
            photos.add(apple.crop(20 * i, 10 * i, i == 3 ? 100 : 64, 64));
        }
        byte[] together = engine.encode(photos, FULL);
        List<byte[]> alone = new ArrayList<>();
        for (Photo photo : photos) {
            alone.add(engine.encode(List.of(photo), FULL));
        }
        Container container = engine.read(together);
        List<Tensor> tokens = engine.tokens(container, engine.defaultTokens());
        List<Photo> decoded = engine.decode(container);
        for (EngineOptions options : List.of(
                EngineOptions.DEFAULT.withThreads(1),
                EngineOptions.DEFAULT.withThreads(3),
                EngineOptions.DEFAULT.withBackend("reference").withThreads(2))) {
            try (NativeEngine other = NativeEngine.open(modelFile, options)) {
                for (int i = 0; i < photos.size(); i++) {
                    assertArrayEquals(
                            container.image(i).payload().toArray(java.lang.foreign.ValueLayout.JAVA_BYTE),
                            other.read(alone.get(i))
                                    .image(0)
                                    .payload()
                                    .toArray(java.lang.foreign.ValueLayout.JAVA_BYTE),
                            "payload " + i);
                    assertEquals(
                            -1,
                            tokens.get(i)
                                    .data()
                                    .mismatch(other.tokens(alone.get(i)).data()),
                            other.backend() + ", tokens of " + i);
                    Latents expected = engine.latents(alone.get(i));
                    Latents found = other.latents(alone.get(i));
                    assertEquals(
                            -1, expected.yHat().data().mismatch(found.yHat().data()));
                    assertEquals(
                            -1,
                            expected.symbols().data().mismatch(found.symbols().data()));
                    assertEquals(
                            -1,
                            expected.zSymbols().data().mismatch(found.zSymbols().data()));
                    assertEquals(decoded.get(i), other.decode(alone.get(i)));
                }
                assertArrayEquals(together, other.encode(photos, FULL), other.backend());
            }
        }
    }

    @Test
    void manyThreadsShareOneEngine() throws Exception {
        byte[] bitstream = engine.encode(apple());
        Tensor expected = engine.tokens(bitstream);
        try (ExecutorService threads = Executors.newFixedThreadPool(6)) {
            List<Future<Long>> results = new ArrayList<>();
            for (int i = 0; i < 30; i++) {
                results.add(threads.submit(
                        () -> expected.data().mismatch(engine.tokens(bitstream).data())));
            }
            for (Future<Long> result : results) {
                assertEquals(-1L, result.get());
            }
        }
    }

    @Test
    void qualitiesOfTheModel() throws IOException {
        Photo photo = apple();
        int levels = engine.manifest().qualities().size();
        assertTrue(levels > 1);
        byte[] high = engine.encode(photo);
        byte[] low = engine.encode(List.of(photo), EncodeOptions.DEFAULT.withQuality(0));
        byte[] between = engine.encode(List.of(photo), EncodeOptions.DEFAULT.withQuality(0.3));
        assertEquals(levels - 1, engine.read(high).image(0).quality());
        assertEquals(77 / 256.0, engine.read(between).image(0).quality());
        assertTrue(low.length < high.length);
        engine.tokens(between);
        for (double wrong : new double[] {-0.1, levels - 0.9, 1e9}) {
            assertThrows(
                    UsageException.class,
                    () -> engine.encode(List.of(photo), EncodeOptions.DEFAULT.withQuality(wrong)));
        }
    }

    @Test
    void wrongRequestsAreToldApart() throws IOException {
        byte[] bitstream = engine.encode(apple());
        int depth = engine.manifest().encoder().layers();
        for (int layer : new int[] {depth + 1, -depth - 2}) {
            assertThrows(UsageException.class, () -> engine.tokens(bitstream, TokenOptions.DEFAULT.withLayer(layer)));
        }
        assertThrows(UsageException.class, () -> engine.tokens(bitstream, TokenOptions.DEFAULT.withEntry(depth + 1)));
        assertThrows(UsageException.class, () -> EngineOptions.DEFAULT.withBackend("gpu"));
        for (String backend : List.of("cpu", "reference")) {
            EngineOptions f16 = EngineOptions.DEFAULT.withBackend(backend).withPrecision(Precision.F16);
            UsageException without = assertThrows(UsageException.class, () -> NativeEngine.openDefault(f16));
            assertTrue(without.getMessage().contains("f16"), without.getMessage());
        }
        byte[] other = bitstream.clone();
        Container stranger = Container.read(other, Limits.DEFAULT);
        byte[] identity = stranger.identity();
        identity[3] ^= 1;
        byte[] strange = new Container(stranger.profile(), identity, List.of(stranger.image(0))).toByteArray();
        UsageException e = assertThrows(UsageException.class, () -> engine.tokens(strange));
        assertTrue(e.getMessage().contains(java.util.HexFormat.of().formatHex(identity)), e.getMessage());
        assertTrue(e.getMessage().contains(java.util.HexFormat.of().formatHex(engine.identity())), e.getMessage());
    }

    @Test
    void damageIsNeverNoise() throws IOException {
        byte[] bitstream = engine.encode(apple());
        CodedImage image = engine.read(bitstream).image(0);
        byte[] payload = image.payload().toArray(java.lang.foreign.ValueLayout.JAVA_BYTE);
        for (int at = 0; at < payload.length; at += Math.max(1, payload.length / 40)) {
            byte[] flipped = payload.clone();
            flipped[at] ^= 0x10;
            // The container's checksum is made anew: only the decoder can notice.
            CodedImage damaged = new CodedImage(
                    image.width(),
                    image.height(),
                    image.paddedWidth(),
                    image.paddedHeight(),
                    image.quality(),
                    image.prepared(),
                    image.symbolChecksum(),
                    MemorySegment.ofArray(flipped));
            Container container = new Container(engine.read(bitstream).profile(), engine.identity(), List.of(damaged));
            assertThrows(DamagedDataException.class, () -> engine.latents(container), "byte " + at);
        }
        for (int length = 0; length < bitstream.length; length += 7) {
            byte[] cut = java.util.Arrays.copyOf(bitstream, length);
            assertThrows(DamagedDataException.class, () -> engine.tokens(cut), "length " + length);
        }
        assertEquals(
                -1,
                engine.tokens(bitstream)
                        .data()
                        .mismatch(engine.tokens(bitstream).data()));
    }

    @Test
    void bf16StaysClose() throws IOException {
        byte[] bitstream = engine.encode(apple());
        float[] exact = engine.tokens(bitstream).toFloats();
        try (NativeEngine fast =
                NativeEngine.open(modelFile, EngineOptions.DEFAULT.withPrecision(org.comneck.backend.Precision.BF16))) {
            float[] close = fast.tokens(bitstream).toFloats();
            double error = 0;
            double norm = 0;
            for (int i = 0; i < exact.length; i++) {
                error += Math.pow(close[i] - exact[i], 2);
                norm += Math.pow(exact[i], 2);
            }
            assertTrue(Math.sqrt(error / norm) < 2e-2, "relative error " + Math.sqrt(error / norm));
            // Symbols never depend on the fast arithmetic.
            assertEquals(
                    -1,
                    engine.latents(bitstream)
                            .yHat()
                            .data()
                            .mismatch(fast.latents(bitstream).yHat().data()));
        }
    }

    @Test
    void preparedRunsAllocateNothing() throws IOException {
        byte[] bitstream = engine.encode(apple());
        CodedImage heap = engine.read(bitstream).image(0);
        Tensor expected = engine.tokens(bitstream);
        try (Arena arena = Arena.ofConfined();
                PreparedTokens prepared =
                        engine.prepareTokens(heap.paddedWidth(), heap.paddedHeight(), engine.defaultTokens())) {
            MemorySegment payload = arena.allocate(heap.payload().byteSize());
            payload.copyFrom(heap.payload());
            CodedImage image = new CodedImage(
                    heap.width(),
                    heap.height(),
                    heap.paddedWidth(),
                    heap.paddedHeight(),
                    heap.quality(),
                    heap.prepared(),
                    heap.symbolChecksum(),
                    payload);
            assertEquals(expected.shape(), prepared.shape());
            MemorySegment tokens = arena.allocate(prepared.bytes(), 64);
            for (int i = 0; i < 300; i++) {
                prepared.run(image, tokens);
            }
            ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
            long residentBefore = residentKilobytes();
            long before = threads.getCurrentThreadAllocatedBytes();
            for (int i = 0; i < 1000; i++) {
                prepared.run(image, tokens);
            }
            long allocated = threads.getCurrentThreadAllocatedBytes() - before;
            long grown = residentKilobytes() - residentBefore;
            assertEquals(-1, tokens.mismatch(expected.data()));
            // The two measuring calls themselves, and the compiler's odd deoptimisation.
            assertTrue(allocated < 64 * 1000, allocated + " bytes of heap in 1000 calls");
            assertTrue(grown < 16 << 10, grown + " KB of memory in 1000 calls");
        }
    }

    /** Resident set of this process; tests that need it are skipped where the system does not tell. */
    private static long residentKilobytes() throws IOException {
        Path status = Path.of("/proc/self/status");
        Assumptions.assumeTrue(Files.exists(status), "no /proc");
        return Files.readAllLines(status).stream()
                .filter(line -> line.startsWith("VmRSS:"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")))
                .findFirst()
                .orElseThrow();
    }
}

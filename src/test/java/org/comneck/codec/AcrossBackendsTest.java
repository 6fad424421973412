package org.comneck.codec;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Grid;
import org.comneck.backend.Precision;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.cpu.CpuBackend;
import org.comneck.backend.cuda.CudaBackend;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.engine.Photo;
import org.comneck.model.ModelFile;
import org.comneck.tensor.ElementType;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.opentest4j.TestAbortedException;

/**
 * What one backend encodes the other one decodes, with the embedded model: payloads equal to the byte, symbols and y_hat to the bit, in batches
 * of 1, 3 and 16, and a hostile payload harms nothing else. CUDA is the emulation, on small pictures; where there is a GPU, {@code
 * -Dcomneck.device=true} takes it instead, and whole Kodak photos besides.
 */
class AcrossBackendsTest {
    private static final boolean DEVICE = Boolean.getBoolean("comneck.device");
    private static final double TOP = 3;

    private static Backend cuda() {
        return DEVICE ? CudaBackend.open(0) : EmulatedCuda.open();
    }

    /** For a machine with a GPU and a Java runtime, but without Maven: benchmarks/gpu/run.sh java. */
    public static void main(String[] args) throws IOException {
        AcrossBackendsTest test = new AcrossBackendsTest();
        test.syntheticPicturesInBatches();
        try {
            test.photos();
            test.wholePhotosOnADevice();
        } catch (TestAbortedException e) {
            System.err.println(e.getMessage());
        }
    }

    /** One image, encoded: what both sides have to agree in. */
    private record Coded(byte[] payload, int checksum, List<MemorySegment> symbols, MemorySegment yHat) {}

    @Test
    void syntheticPicturesInBatches() {
        for (int batch : new int[] {1, 3, 16}) {
            List<byte[]> pictures = new ArrayList<>();
            Random random = new Random(batch);
            for (int i = 0; i < batch; i++) {
                pictures.add(walk(random, 64 * 64 * 3, 10 + 3 * i));
            }
            across(pictures, 64, 64);
        }
    }

    /** Random steps, of another size in each channel. */
    private static byte[] walk(Random random, int length, int most) {
        byte[] rgb = new byte[length];
        int value = 128;
        for (int i = 0; i < length; i++) {
            value = Math.clamp(value + random.nextInt(2 * most + 1) - most, 0, 255);
            rgb[i] = (byte) value;
        }
        return rgb;
    }

    @Test
    void photos() throws IOException {
        List<Path> files = kodak();
        List<byte[]> pictures = new ArrayList<>();
        for (Path file : files.subList(0, 3)) {
            pictures.add(Photo.read(file).crop(256, 192, 128, 64).rgb());
        }
        across(pictures, 64, 128);
    }

    @Test
    void wholePhotosOnADevice() throws IOException {
        Assumptions.assumeTrue(DEVICE, "skipped: takes a GPU; benchmarks/gpu/run.sh sets comneck.device");
        List<Path> files = kodak();
        for (int batch : new int[] {1, 3, 16}) {
            for (boolean wide : new boolean[] {true, false}) {
                List<Photo> photos = files.stream()
                        .map(Photo::read)
                        .filter(photo -> photo.width() > photo.height() == wide)
                        .toList();
                for (int from = 0; from < photos.size(); from += batch) {
                    List<Photo> some = photos.subList(from, Math.min(from + batch, photos.size()));
                    across(
                            some.stream().map(Photo::rgb).toList(),
                            some.getFirst().height(),
                            some.getFirst().width());
                }
            }
        }
    }

    private static List<Path> kodak() throws IOException {
        Path folder = Path.of(System.getProperty("comneck.shared", "../shared"), "data", "photos", "kodak");
        Assumptions.assumeTrue(Files.isDirectory(folder), "skipped: no " + folder);
        try (Stream<Path> files = Files.list(folder)) {
            return files.sorted().toList();
        }
    }

    /** All pictures in one batch, with the processor's y, from either side to the other one. */
    private static void across(List<byte[]> pictures, int height, int width) {
        Assumptions.assumeTrue(ModelFile.hasEmbedded(), "skipped: this build has no embedded model");
        int batch = pictures.size();
        try (ModelFile model = ModelFile.openEmbedded();
                Backend cpu = CpuBackend.open(1);
                Backend cuda = cuda();
                Codec onCpu = Codec.load(cpu, model, Precision.F32);
                Codec onCuda = Codec.load(cuda, model, Precision.F32)) {
            int h = height / onCpu.stride();
            int w = width / onCpu.stride();
            float[][] latents = analyse(cpu, onCpu, pictures, height, width);
            List<Coded> byCpu = encode(cpu, onCpu, latents, h, w);
            List<Coded> byCuda = encode(cuda, onCuda, latents, h, w);
            for (int i = 0; i < batch; i++) {
                String what = "picture " + i + " of " + batch;
                assertEquals(
                        -1,
                        segment(byCpu.get(i).payload())
                                .mismatch(segment(byCuda.get(i).payload())),
                        what);
                assertEquals(byCpu.get(i).checksum(), byCuda.get(i).checksum(), what);
                assertEquals(-1, byCpu.get(i).yHat().mismatch(byCuda.get(i).yHat()), what);
                assertTrue(byCpu.get(i).payload().length > 30, "a payload of hardly anything shows nothing");
            }
            decode(cuda, onCuda, byCpu, h, w, -1);
            decode(cpu, onCpu, byCuda, h, w, -1);
            decode(cuda, onCuda, byCpu, h, w, batch / 2);
        }
    }

    private static MemorySegment segment(byte[] bytes) {
        return MemorySegment.ofArray(bytes);
    }

    private static float[][] analyse(Backend backend, Codec codec, List<byte[]> pictures, int height, int width) {
        float[][] latents = new float[pictures.size()][];
        RunBuilder builder = backend.newRun();
        Activation pixels = builder.input(ElementType.U8, 1, height, width, 3);
        Activation gains = codec.hasGains() ? builder.input(ElementType.F32, 1, 1, 1, codec.latentChannels()) : null;
        Activation image = builder.buffer(ElementType.F32, Grid.FULL, 1, height, width, 3);
        builder.normalize(pixels, new float[3], new float[] {1, 1, 1}, image);
        Activation y = codec.analysis(builder, image, gains);
        builder.output(y);
        try (Run run = builder.build()) {
            for (int i = 0; i < latents.length; i++) {
                run.memory(pixels).copyFrom(segment(pictures.get(i)));
                if (gains != null) {
                    double quality = Math.min(TOP, codec.qualities() - 1) * (i % 4) / 3.0;
                    run.memory(gains).copyFrom(MemorySegment.ofArray(codec.gain(quality)));
                }
                run.execute();
                latents[i] = run.memory(y).toArray(ValueLayout.JAVA_FLOAT);
            }
        }
        return latents;
    }

    private static List<Coded> encode(Backend backend, Codec codec, float[][] latents, int h, int w) {
        int batch = latents.length;
        RunBuilder builder = backend.newRun();
        Activation y = builder.input(ElementType.F32, batch, h, w, codec.latentChannels());
        Codec.Coded coded = codec.encode(builder, y);
        coded.output(builder);
        builder.output(coded.yHat());
        int substreams = batch % 5;
        codec.encodePayloads(builder, coded, substreams);
        List<Coded> results = new ArrayList<>();
        try (Run run = builder.build()) {
            for (int i = 0; i < batch; i++) {
                part(run, y, i).copyFrom(MemorySegment.ofArray(latents[i]));
            }
            run.execute();
            byte[] hyper = codec.hyperIndices(coded.zSymbols().positions());
            RansEncoder rans = backend.ransEncoder();
            for (int i = 0; i < batch; i++) {
                List<RansEncoder.Pass> passes = new ArrayList<>();
                passes.add(new RansEncoder.Pass(
                        codec.hyperTables(), segment(hyper), part(run, coded.zSymbols(), i), hyper.length));
                for (Codec.Pass pass : coded.passes()) {
                    passes.add(new RansEncoder.Pass(
                            codec.latentTables(),
                            part(run, pass.indices(), i),
                            part(run, pass.symbols(), i),
                            pass.symbols().positions() * pass.symbols().channels()));
                }
                RansEncoder.Encoded encoded = run.encoded(i);
                RansEncoder.Encoded alone = rans.encode(passes, substreams);
                assertEquals(-1, segment(alone.payload()).mismatch(segment(encoded.payload())), "within the run");
                assertEquals(alone.symbolChecksum(), encoded.symbolChecksum());
                results.add(new Coded(
                        encoded.payload(),
                        encoded.symbolChecksum(),
                        symbols(run, coded, i),
                        copy(run, coded.yHat(), i)));
            }
        }
        return results;
    }

    /** Decodes and compares. hostile: an image that gets another one's bytes, mangled, or -1. */
    private static void decode(Backend backend, Codec codec, List<Coded> images, int h, int w, int hostile) {
        RunBuilder builder = backend.newRun();
        Codec.Coded coded = codec.decode(builder, images.size(), h, w);
        coded.output(builder);
        builder.output(coded.yHat());
        try (Run run = builder.build()) {
            for (int i = 0; i < images.size(); i++) {
                byte[] payload = images.get(i).payload().clone();
                if (i == hostile) {
                    new Random(i).nextBytes(payload);
                    payload[0] = 0;
                }
                run.payload(i, segment(payload), images.get(i).checksum());
            }
            run.execute();
            for (int i = 0; i < images.size(); i++) {
                String what = backend.name() + ", picture " + i + " of " + images.size();
                if (i == hostile) {
                    assertNotNull(run.damage(i), what);
                    continue;
                }
                assertNull(run.damage(i), what);
                List<MemorySegment> symbols = symbols(run, coded, i);
                for (int p = 0; p < symbols.size(); p++) {
                    assertEquals(-1, images.get(i).symbols().get(p).mismatch(symbols.get(p)), what + ", pass " + p);
                }
                assertEquals(-1, images.get(i).yHat().mismatch(copy(run, coded.yHat(), i)), what + ", y_hat");
            }
        }
    }

    private static List<MemorySegment> symbols(Run run, Codec.Coded coded, int image) {
        List<MemorySegment> symbols = new ArrayList<>();
        symbols.add(copy(run, coded.zSymbols(), image));
        coded.passes().forEach(pass -> symbols.add(copy(run, pass.symbols(), image)));
        return symbols;
    }

    private static MemorySegment part(Run run, Activation port, int image) {
        MemorySegment all = run.memory(port);
        long size = all.byteSize() / port.images();
        return all.asSlice(image * size, size);
    }

    private static MemorySegment copy(Run run, Activation port, int image) {
        return MemorySegment.ofArray(part(run, port, image).toArray(ValueLayout.JAVA_BYTE));
    }
}

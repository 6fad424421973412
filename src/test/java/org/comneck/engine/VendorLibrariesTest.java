package org.comneck.engine;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.comneck.UsageException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.cuda.CudaLibraries;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.bitstream.Container;
import org.comneck.codec.Codec;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.comneck.neck.Neck;
import org.comneck.parity.Fixture;
import org.comneck.parity.ParityTable;
import org.comneck.tensor.ElementType;
import org.comneck.vision.VisionEncoder;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Tokens and pictures with cuBLASLt and cuDNN, as the emulation has them: close to our own kernels', and no batch shows in them. */
@SuppressWarnings("try") // what is installed is so for its scope
class VendorLibrariesTest {
    private static final int SIDE = 4; // of y_hat's grid
    private static final int LATENTS = 32;

    private record Result(float[] tokens, float[] picture, Map<String, Long> launches) {}

    @ParameterizedTest
    @EnumSource(names = {"BF16", "F16"})
    void tokensAndPictures(Precision precision) {
        float[] latents = latents(3);
        try (EmulatedCuda.Vendors vendors = new EmulatedCuda.Vendors();
                ModelFile model = SeededModel.named(SeededModel.TINY).inMemory();
                Backend own = EmulatedCuda.open();
                Backend vendor = vendors.open()) {
            assertEquals(
                    "; cuBLASLt 13.1.1; cuDNN 9.19.0",
                    vendor.description().substring(own.description().length()));
            Result expected = run(own, model, precision, latents, 3);
            Result actual = run(vendor, model, precision, latents, 3);
            ParityTable table = new ParityTable("vendor libraries " + precision);
            double limit = precision == Precision.BF16 ? 2e-2 : 3e-3;
            table.compare("tokens", expected.tokens, actual.tokens, limit);
            table.compare("picture", expected.picture, actual.picture, limit);
            table.finish();

            // cublaslt: of each block QKV, output and fc2; fc1 ends in QuickGELU, the neck begins with f32 latents.
            // cudnn: the synthesis' transposed layers. Both: 3x3 layers, and those back to full width, of two
            // attentions and nine bottlenecks. F16 makes its pictures in F32.
            int bottlenecks = precision == Precision.BF16 ? 2 * 6 + 9 : 0;
            assertEquals(3 * (1 + 2) + bottlenecks, actual.launches.get("cublaslt"));
            assertEquals(expected.launches.get("tensor_gemm"), sum(actual, "tensor_gemm", "cublaslt"));
            assertEquals(precision == Precision.BF16 ? 4 + bottlenecks : 0, actual.launches.get("cudnn"));
            assertEquals(
                    sum(expected, "canonical_convolution", "tensor_convolution"),
                    sum(actual, "canonical_convolution", "tensor_convolution", "cudnn"));
            assertEquals(0, expected.launches.get("cublaslt") + expected.launches.get("cudnn"));

            for (int i = 0; i < 3; i++) {
                int each = latents.length / 3;
                Result alone = run(vendor, model, precision, Arrays.copyOfRange(latents, i * each, (i + 1) * each), 1);
                assertArrayEquals(part(actual.tokens, i), alone.tokens, "tokens of image " + i);
                assertArrayEquals(part(actual.picture, i), alone.picture, "picture " + i);
            }
        }
    }

    /** F32 has the processor's bits, whatever is installed. */
    @Test
    void exactArithmeticIsOurs() {
        float[] latents = latents(1);
        try (EmulatedCuda.Vendors vendors = new EmulatedCuda.Vendors();
                ModelFile model = SeededModel.named(SeededModel.TINY).inMemory();
                Backend own = EmulatedCuda.open();
                Backend vendor = vendors.open()) {
            Result expected = run(own, model, Precision.F32, latents, 1);
            Result actual = run(vendor, model, Precision.F32, latents, 1);
            assertArrayEquals(expected.tokens, actual.tokens);
            assertArrayEquals(expected.picture, actual.picture);
            assertEquals(expected.launches, actual.launches);
        }
    }

    /** The option reaches the backend, whose line says what was opened, and every verb's work is done with it. */
    @Test
    void enginesTakeTheOption() {
        EngineOptions options = new EngineOptions("cuda", 1, Precision.BF16).withCudaLibraries(CudaLibraries.VENDOR);
        try (EmulatedCuda.AsTheDevice device = new EmulatedCuda.AsTheDevice();
                EmulatedCuda.Vendors vendors = new EmulatedCuda.Vendors();
                NativeEngine engine =
                        NativeEngine.of(SeededModel.named(SeededModel.TINY).inMemory(), options)) {
            assertTrue(engine.backend().endsWith("; cuBLASLt 13.1.1; cuDNN 9.19.0"), engine.backend());
            byte[] rgb = new byte[64 * 64 * 3];
            new Random(3).nextBytes(rgb);
            byte[] bitstream = engine.encode(List.of(Photo.of(64, 64, rgb)), EncodeOptions.DEFAULT.withFull(true));
            Container container = engine.read(bitstream);
            assertEquals(64, engine.decode(container).getFirst().width());
            assertEquals(1, engine.tokens(container, engine.defaultTokens()).size());
        }
    }

    /** JavaCPP's preset is asked where a library is, which it finds among the natives of its own package. */
    @Test
    void thePresetFindsThem() {
        try (EmulatedCuda.Vendors vendors = EmulatedCuda.Vendors.ofPreset();
                Backend vendor = vendors.open()) {
            assertTrue(vendor.description().endsWith("; cuBLASLt 13.1.1; cuDNN 9.19.0"), vendor.description());
        }
    }

    /** What cannot be used is said and does no harm. */
    @Test
    void withoutThem() {
        EngineOptions options = new EngineOptions("cuda", 1, Precision.BF16).withCudaLibraries(CudaLibraries.VENDOR);
        try (EmulatedCuda.AsTheDevice device = new EmulatedCuda.AsTheDevice();
                NativeEngine engine =
                        NativeEngine.of(SeededModel.named(SeededModel.TINY).inMemory(), options)) {
            // the emulation does not look in the system, and here the preset finds nothing, or what takes a driver
            assertTrue(engine.backend().contains("; cuBLASLt: "), engine.backend());
            assertTrue(engine.backend().contains("; cuDNN: "), engine.backend());
        }
        assertThrows(
                UsageException.class,
                () -> NativeEngine.backend(
                        new EngineOptions("cpu", 1, Precision.BF16).withCudaLibraries(CudaLibraries.VENDOR)));
    }

    private static float[] latents(int images) {
        float[] values = new float[images * SIDE * SIDE * LATENTS];
        Random random = new Random(5);
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) random.nextGaussian();
        }
        return values;
    }

    /** From y_hat to tokens after two of the encoder's blocks, and to a picture. */
    private static Result run(Backend backend, ModelFile model, Precision precision, float[] latents, int images) {
        try (Codec codec = Codec.load(backend, model, precision);
                Neck neck = Neck.load(backend, model, precision);
                VisionEncoder encoder = VisionEncoder.load(backend, model, precision)) {
            RunBuilder builder = backend.newRun();
            Activation yHat = builder.input(ElementType.F32, images, SIDE, SIDE, LATENTS);
            Activation tokens = encoder.blocks(builder, neck.record(builder, yHat), encoder.depth() - 2, -1);
            builder.output(tokens);
            Activation picture = codec.synthesis(builder, yHat);
            builder.output(picture);
            try (Run run = builder.build()) {
                Fixture.fill(run, yHat, latents);
                run.execute();
                return new Result(Fixture.read(run, tokens), Fixture.read(run, picture), run.launches());
            }
        }
    }

    private static float[] part(float[] batch, int image) {
        int each = batch.length / 3;
        return Arrays.copyOfRange(batch, image * each, (image + 1) * each);
    }

    private static long sum(Result result, String... kinds) {
        return Arrays.stream(kinds).mapToLong(result.launches::get).sum();
    }
}

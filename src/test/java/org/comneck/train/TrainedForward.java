package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.cpu.CpuBackend;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.codec.Codec;
import org.comneck.codec.PostProcessing;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.neck.Neck;
import org.comneck.parity.Fixture;
import org.comneck.tensor.ElementType;
import org.comneck.vision.VisionEncoder;

/** The trainer's networks and the engine's compute the same. */
final class TrainedForward {
    private static final double LIMIT = 1e-5;

    private TrainedForward() {}

    /** Exports a small run, reads the weights back as they are stored, and compares every network's output. */
    static void agrees(SmallRun small, Path runFolder) {
        Path file = runFolder.resolve("small.safetensors");
        Trainer.export(SmallRun.model(), small.data(), runFolder, file);
        try (ModelFile model = ModelFile.open(file)) {
            agrees(model);
        }
    }

    /** The same for any model of pictures of 64 x 64 pixels, whose last quality is taken. */
    static void agrees(ModelFile model) {
        NoGradGuard guard = new NoGradGuard();
        try (var _ = new PointerScope();
                ReferenceBackend backend = new ReferenceBackend()) {
            compare(model, backend);
        } finally {
            guard.close();
        }
    }

    private static void compare(ModelFile model, ReferenceBackend backend) {
        ModelParts parts = ModelParts.of(model);
        Manifest manifest = model.manifest();
        int m = manifest.codec().m();
        int layers = manifest.encoder().layers();
        int entry = manifest.neck().entry();
        Recipe none = Recipe.parse("none", "");
        int side = 64;
        float[] picture = new float[3 * side * side];
        for (int i = 0; i < picture.length; i++) {
            picture[i] = (float) (0.5 + 0.4 * Math.sin(i * 0.013) * Math.cos(i * 0.0007));
        }
        Tensor pixels = Ops.of(picture, 1, 3, side, side);
        CodecNetwork.Size size = parts.codecSize(none);
        CodecNetwork codec = new CodecNetwork(size, parts.frozenCodec(size), Ops.F32);
        FrozenEncoder encoder = new FrozenEncoder("test", manifest.encoder(), parts.tensors(), Ops.F32);
        Parameters w = SurrogateStage.parameters(none, parts);
        NeckNetwork neck = new NeckNetwork(w, manifest.neck().heads(), 1, Ops.F32);
        int quality = size.lambdas().size() - 1;
        Tensor y = codec.latents(pixels, Ops.of(new long[] {quality}, 1));
        CodecNetwork.Result coded = codec.runLatents(y, Ops.of(new long[] {quality}, 1), false, true);
        Tensor tokens = neck.run(coded.yHat());
        Tensor[] states = encoder.states(encoder.embed(pixels, side / 16), 0, layers);
        Tensor projected = encoder.project(states[layers], 1);
        Tensor read = encoder.states(tokens, entry, layers)[layers - entry];

        float[] nhwc = nhwc(pixels);
        try (Codec engine = Codec.load(backend, model, Precision.F32);
                Neck engineNeck = Neck.load(backend, model, Precision.F32);
                VisionEncoder vision = VisionEncoder.load(backend, model, Precision.F32)) {
            RunBuilder builder = backend.newRun();
            Activation image = builder.input(ElementType.F32, 1, side, side, 3);
            Activation gains = builder.input(ElementType.F32, 1, 1, 1, m);
            Activation latents = engine.analysis(builder, image, gains);
            builder.output(latents);
            try (Run run = builder.build()) {
                Fixture.fill(run, image, nhwc);
                Fixture.fill(run, gains, engine.gain(quality));
                run.execute();
                close("y", nhwc(y), Fixture.read(run, latents));
            }

            builder = backend.newRun();
            Activation given = builder.input(ElementType.F32, 1, 4, 4, m);
            Activation inverse = builder.input(ElementType.F32, 1, 1, 1, m);
            Codec.Coded symbols = engine.encode(builder, given);
            Activation ungained = engine.ungain(builder, symbols.yHat(), inverse);
            builder.output(ungained);
            Activation reconstruction = engine.synthesis(builder, ungained);
            builder.output(reconstruction);
            Activation embedded = engineNeck.record(builder, ungained);
            builder.output(embedded);
            Activation seen = vision.blocks(builder, embedded, entry, -1);
            builder.output(seen);
            try (Run run = builder.build()) {
                Fixture.fill(run, given, nhwc(y));
                Fixture.fill(run, inverse, engine.inverseGain(quality));
                run.execute();
                close("y_hat", nhwc(coded.yHat()), Fixture.read(run, ungained));
                close("x_hat", nhwc(coded.xHat()), Fixture.read(run, reconstruction));
                close("neck", Ops.floats(tokens), Fixture.read(run, embedded));
                close("tokens from latents", Ops.floats(read), Fixture.read(run, seen));
            }

            if (PostProcessing.isIn(model)) {
                post(model, backend, parts, pixels);
            }

            builder = backend.newRun();
            Activation normalized = builder.input(ElementType.F32, 1, side, side, 3);
            Activation last = vision.blocks(builder, vision.embedNormalized(builder, normalized), 0, -1);
            builder.output(last);
            Activation cls = vision.head(
                    builder, last, VisionEncoder.Tokens.CLS, VisionEncoder.PostNorm.ONCE, vision.hasProjection());
            builder.output(cls);
            try (Run run = builder.build()) {
                Fixture.fill(run, normalized, normalized(nhwc, manifest.encoder()));
                run.execute();
                close("tokens", Ops.floats(states[layers]), Fixture.read(run, last));
                close("projected", Ops.floats(projected), Fixture.read(run, cls));
            }
        }
    }

    private static void post(ModelFile model, ReferenceBackend backend, ModelParts parts, Tensor pixels) {
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        parts.tensors().forEach((name, tensor) -> {
            if (PostNetwork.owns(name)) {
                tensors.put(name, Ops.of(tensor.toFloats(), tensor.shape().toArray()));
            }
        });
        int levels = 1;
        while (tensors.containsKey(PostProcessing.down(levels) + ".0.weight")) {
            levels++;
        }
        Tensor expected = new PostNetwork(Parameters.frozen(tensors), levels, Ops.F32).run(pixels);
        float[] nhwc = nhwc(pixels);
        try (Backend cpu = CpuBackend.open(1)) {
            for (Backend one : List.of(backend, cpu)) {
                post(model, one, nhwc, nhwc(expected));
            }
        }
    }

    private static void post(ModelFile model, Backend backend, float[] picture, float[] expected) {
        try (PostProcessing post = PostProcessing.load(backend, model, Precision.F32)) {
            RunBuilder builder = backend.newRun();
            Activation image = builder.input(ElementType.F32, 1, 64, 64, 3);
            Activation out = post.record(builder, image);
            builder.output(out);
            try (Run run = builder.build()) {
                Fixture.fill(run, image, picture);
                run.execute();
                close("post-processing", expected, Fixture.read(run, out));
                double added = 0; // else the picture alone would be compared
                for (int i = 0; i < picture.length; i++) {
                    added = Math.max(added, Math.abs(expected[i] - picture[i]));
                }
                assertTrue(added > 1e-3, "the network adds at most " + added);
            }
        }
    }

    private static float[] normalized(float[] nhwc, Manifest.Encoder encoder) {
        float[] out = new float[nhwc.length];
        for (int i = 0; i < out.length; i++) {
            out[i] = (float)
                    ((nhwc[i] - encoder.mean().get(i % 3)) / encoder.std().get(i % 3));
        }
        return out;
    }

    private static float[] nhwc(Tensor x) {
        return Ops.floats(x.permute(0, 2, 3, 1));
    }

    private static void close(String name, float[] expected, float[] actual) {
        double error = 0;
        double size = 0;
        for (int i = 0; i < expected.length; i++) {
            error += (expected[i] - actual[i]) * (double) (expected[i] - actual[i]);
            size += expected[i] * (double) expected[i];
        }
        double relative = Math.sqrt(error / size);
        assertTrue(relative < LIMIT, name + " differs by " + relative);
    }
}

package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.comneck.backend.Activation;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.codec.Codec;
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
        NoGradGuard guard = new NoGradGuard();
        try (var _ = new PointerScope();
                ModelFile model = ModelFile.open(file);
                ReferenceBackend backend = new ReferenceBackend()) {
            compare(model, backend);
        } finally {
            guard.close();
        }
    }

    private static Parameters stored(ModelFile model) {
        Parameters w = new Parameters(1);
        for (String name : model.names()) {
            if (name.startsWith("entropy.")) {
                continue;
            }
            float[] values = model.tensor(name).toFloats();
            long[] shape = model.tensor(name).shape().toArray();
            w.add(name, values, shape);
            if (name.startsWith("gain.")) {
                float[] logs = values.clone();
                for (int i = 0; i < logs.length; i++) {
                    logs[i] = (float) Math.log(logs[i]);
                }
                w.add(name + ".log", logs, shape);
            }
        }
        float[] medians = model.tensor("entropy.factorized.medians").toFloats();
        float[] quantiles = new float[3 * medians.length];
        for (int i = 0; i < medians.length; i++) {
            quantiles[3 * i + 1] = medians[i];
        }
        w.add("entropy_bottleneck.quantiles", quantiles, medians.length, 1, 3);
        // The prior itself is not stored, only tables made of it; rates are not compared.
        Parameters fresh = CodecStage.parameters(SmallRun.codec(1, "0.01 0.04", ""));
        fresh.slots().forEach((name, slot) -> {
            if (name.startsWith("entropy_bottleneck._")) {
                w.add(name, fresh.averageOf(name), slot.shape());
            }
        });
        return w.build();
    }

    private static void compare(ModelFile model, ReferenceBackend backend) {
        Parameters w = stored(model);
        int side = 64;
        float[] picture = new float[3 * side * side];
        for (int i = 0; i < picture.length; i++) {
            picture[i] = (float) (0.5 + 0.4 * Math.sin(i * 0.013) * Math.cos(i * 0.0007));
        }
        Tensor pixels = Ops.of(picture, 1, 3, side, side);
        CodecNetwork codec = new CodecNetwork(CodecStage.size(SmallRun.codec(1, "0.01 0.04", "")), w, Ops.F32);
        EncoderNetwork encoder = new EncoderNetwork(EncoderStage.size(SmallRun.encoder(1, "")), w, Ops.F32);
        NeckNetwork neck = new NeckNetwork(w, 2, Ops.F32);
        int quality = 1;
        Tensor y = codec.latents(pixels, Ops.of(new long[] {quality}, 1));
        CodecNetwork.Result coded = codec.runLatents(y, Ops.of(new long[] {quality}, 1), false, true);
        Tensor tokens = neck.run(coded.yHat());
        Tensor[] states = encoder.states(encoder.embed(EncoderNetwork.normalize(pixels)), 0);
        Tensor projected = encoder.project(states[3]);

        float[] nhwc = nhwc(pixels);
        try (Codec engine = Codec.load(backend, model, Precision.F32);
                Neck engineNeck = Neck.load(backend, model, Precision.F32);
                VisionEncoder vision = VisionEncoder.load(backend, model, Precision.F32)) {
            RunBuilder builder = backend.newRun();
            Activation image = builder.input(ElementType.F32, 1, side, side, 3);
            Activation gains = builder.input(ElementType.F32, 1, 1, 1, 12);
            Activation latents = engine.analysis(builder, image, gains);
            builder.output(latents);
            try (Run run = builder.build()) {
                Fixture.fill(run, image, nhwc);
                Fixture.fill(run, gains, engine.gain(quality));
                run.execute();
                close("y", nhwc(y), Fixture.read(run, latents));
            }

            builder = backend.newRun();
            Activation given = builder.input(ElementType.F32, 1, 4, 4, 12);
            Activation inverse = builder.input(ElementType.F32, 1, 1, 1, 12);
            Codec.Coded symbols = engine.encode(builder, given);
            Activation ungained = engine.ungain(builder, symbols.yHat(), inverse);
            builder.output(ungained);
            Activation reconstruction = engine.synthesis(builder, ungained);
            builder.output(reconstruction);
            Activation embedded = engineNeck.record(builder, ungained);
            builder.output(embedded);
            try (Run run = builder.build()) {
                Fixture.fill(run, given, nhwc(y));
                Fixture.fill(run, inverse, engine.inverseGain(quality));
                run.execute();
                close("y_hat", nhwc(coded.yHat()), Fixture.read(run, ungained));
                close("x_hat", nhwc(coded.xHat()), Fixture.read(run, reconstruction));
                close("neck", Ops.floats(tokens), Fixture.read(run, embedded));
            }

            builder = backend.newRun();
            Activation normalized = builder.input(ElementType.F32, 1, side, side, 3);
            Activation last = vision.blocks(builder, vision.embedNormalized(builder, normalized), 0, -1);
            builder.output(last);
            Activation cls = vision.head(builder, last, VisionEncoder.Tokens.CLS, VisionEncoder.PostNorm.ONCE, true);
            builder.output(cls);
            try (Run run = builder.build()) {
                Fixture.fill(run, normalized, nhwc(EncoderNetwork.normalize(pixels)));
                run.execute();
                close("tokens", Ops.floats(states[3]), Fixture.read(run, last));
                close("projected", Ops.floats(projected), Fixture.read(run, cls));
            }
        }
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

package org.comneck.codec;

import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Grid;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.comneck.model.TensorSource;
import org.comneck.neck.Neck;
import org.comneck.parity.Fixture;
import org.comneck.parity.ParityTable;
import org.comneck.parity.TestBackends;
import org.comneck.tensor.ElementType;
import org.junit.jupiter.api.Test;

/** Full-size ELIC and neck against values computed in float64 (../shared/reference/README.md). */
class CodecParityTest {
    private static final int[] SLICES = {16, 16, 32, 64, 192};
    private static final double LIMIT = 1e-5;

    /** Values this close to a rounding boundary in float64 may fall on either side in float32. */
    private static final double BOUNDARY = 1e-4;

    @Test
    void square() {
        check("square-256");
    }

    @Test
    void wide() {
        check("wide-192x320");
    }

    private static ModelFile model() {
        SeededModel full = SeededModel.named(SeededModel.FULL);
        Map<String, TensorSource> tensors = new LinkedHashMap<>(full.tensors());
        tensors.keySet().removeIf(name -> name.startsWith("visual."));
        return ModelFile.inMemory(full.manifest(), tensors);
    }

    private static void check(String name) {
        try (Fixture fixture = Fixture.open(name + ".safetensors");
                Backend backend = TestBackends.fastest();
                ModelFile model = model()) {
            ParityTable table = new ParityTable(backend.name() + " " + name);
            try (ElicCodec codec = new ElicCodec(backend, model, Precision.F32);
                    Neck neck = Neck.load(backend, model, Precision.F32)) {
                encoder(fixture, backend, codec, table);
                teacherForcing(fixture, backend, codec, model, table);
                fromLatents(fixture, backend, codec, neck, table, "", LIMIT, LIMIT);
            }
            try (ElicCodec codec = new ElicCodec(backend, model, Precision.BF16);
                    Neck neck = Neck.load(backend, model, Precision.BF16)) {
                fromLatents(fixture, backend, codec, neck, table, " bf16", 5e-2, 2e-2);
            }
            table.finish();
        }
    }

    /** image -> y -> z, and the encoder's own loop run free. */
    private static void encoder(Fixture fixture, Backend backend, ElicCodec codec, ParityTable table) {
        RunBuilder builder = backend.newRun();
        Activation image = builder.input(ElementType.F32, 1, fixture.height("image"), fixture.width("image"), 3);
        Activation y = codec.analysis(builder, image, null);
        builder.output(y);
        Activation z = codec.hyperAnalysis(builder, y);
        builder.output(z);
        Codec.Coded coded = codec.encode(builder, y);
        coded.output(builder);
        builder.output(coded.yHat());
        try (Run run = builder.build()) {
            Fixture.fill(run, image, fixture.floats("image"));
            run.execute();
            table.compare("y", fixture.floats("y"), Fixture.read(run, y), LIMIT);
            float[] expectedZ = fixture.floats("z");
            table.compare("z", expectedZ, Fixture.read(run, z), LIMIT);
            short[] zSymbols = run.memory(coded.zSymbols()).toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
            int[] expected = fixture.ints("z_symbol");
            long wrong = 0;
            for (int i = 0; i < expected.length; i++) {
                wrong += zSymbols[i] == expected[i] ? 0 : 1;
            }
            table.count("z symbols, free-running, differing", wrong, expected.length, 0);
            int area = y.height() * y.width();
            int[] latents = new int[320 * area];
            coded.passes().forEach(pass -> pass.scatter(run.memory(pass.symbols()), latents));
            int first = 0;
            for (int i = 0; i < SLICES.length; i++) {
                int[] symbols = fixture.tensor("slice" + i + ".symbol").toInts();
                wrong = 0;
                for (int k = 0; k < symbols.length; k++) {
                    wrong += latents[first * area + k] == symbols[k] ? 0 : 1;
                }
                // canonical arithmetic: the same count on every machine; the one of slice 4 lies within 1e-4 of .5
                table.count("slice " + i + " symbols, free-running, differing", wrong, symbols.length, i < 4 ? 0 : 1);
                first += SLICES[i];
            }
            table.compare("y_hat, free-running", fixture.floats("y_hat"), Fixture.read(run, coded.yHat()), 1);
        }
    }

    /** Every slice's means, scales, indices and symbols, from the fixture's earlier slices. */
    private static void teacherForcing(
            Fixture fixture, Backend backend, ElicCodec codec, ModelFile model, ParityTable table) {
        int height = fixture.height("y");
        int width = fixture.width("y");
        RunBuilder builder = backend.newRun();
        Activation zHat = builder.input(ElementType.F32, 1, height / 4, width / 4, 192);
        Activation yHat = builder.input(ElementType.F32, 1, height, width, 320);
        Activation hyper = codec.hyperSynthesis(builder, zHat);
        builder.output(hyper);
        List<Activation> parameters = new ArrayList<>();
        for (int i = 0; i < SLICES.length; i++) {
            Activation context = codec.channelContext(builder, i, yHat);
            for (Grid grid : List.of(Grid.ANCHORS, Grid.NON_ANCHORS)) {
                Activation p = codec.parameters(builder, i, grid, context, hyper, yHat);
                builder.output(p);
                parameters.add(p);
            }
        }
        try (Run run = builder.build()) {
            float[] medians = model.tensor("entropy.factorized.medians").toFloats();
            int[] zSymbols = fixture.ints("z_symbol");
            float[] z = new float[zSymbols.length];
            for (int i = 0; i < z.length; i++) {
                z[i] = zSymbols[i] + medians[i % medians.length];
            }
            Fixture.fill(run, zHat, z);
            Fixture.fill(run, yHat, fixture.floats("y_hat"));
            run.execute();
            table.compare("hyper", fixture.floats("hyper"), Fixture.read(run, hyper), LIMIT);
            float[] thresholds = model.tensor("entropy.gaussian.thresholds").toFloats();
            float[] y = fixture.floats("y");
            int first = 0;
            for (int i = 0; i < SLICES.length; i++) {
                int channels = SLICES[i];
                float[] mean = new float[height * width * channels];
                float[] scale = new float[mean.length];
                for (int half = 0; half < 2; half++) {
                    Activation p = parameters.get(2 * i + half);
                    float[] values = Fixture.read(run, p);
                    int[] map = positions(p);
                    for (int k = 0; k < map.length; k++) {
                        System.arraycopy(values, 2 * k * channels, mean, map[k] * channels, channels);
                        System.arraycopy(values, (2 * k + 1) * channels, scale, map[k] * channels, channels);
                    }
                }
                String slice = "slice" + i;
                float[] expectedMean = fixture.floats(slice + ".mean");
                float[] expectedScale = fixture.floats(slice + ".scale");
                table.compare(slice + " mean", expectedMean, mean, LIMIT);
                table.compare(slice + " scale", expectedScale, scale, LIMIT);
                int[] symbols = fixture.ints(slice + ".symbol");
                int[] indices = fixture.ints(slice + ".index");
                long wrongSymbols = 0;
                long wrongIndices = 0;
                long nearSymbols = 0;
                long nearIndices = 0;
                for (int k = 0; k < mean.length; k++) {
                    float value = y[k / channels * 320 + first + k % channels];
                    double fraction = Math.abs((double) value - expectedMean[k]) % 1;
                    boolean near = Math.abs(fraction - 0.5) <= BOUNDARY;
                    nearSymbols += near ? 1 : 0;
                    wrongSymbols += !near && (int) Math.rint(value - mean[k]) != symbols[k] ? 1 : 0;
                    int index = 0;
                    near = false;
                    for (float threshold : thresholds) {
                        index += threshold < scale[k] ? 1 : 0;
                        near |= Math.abs(threshold - expectedScale[k]) <= BOUNDARY;
                    }
                    nearIndices += near ? 1 : 0;
                    wrongIndices += !near && index != indices[k] ? 1 : 0;
                }
                table.count(slice + " symbols differing (" + nearSymbols + " near .5)", wrongSymbols, mean.length, 0);
                table.count(
                        slice + " indices differing (" + nearIndices + " near a bound)", wrongIndices, mean.length, 0);
                first += channels;
            }
        }
    }

    /** y_hat -> picture, y_hat -> embeddings. */
    private static void fromLatents(
            Fixture fixture,
            Backend backend,
            ElicCodec codec,
            Neck neck,
            ParityTable table,
            String suffix,
            double pictureLimit,
            double neckLimit) {
        RunBuilder builder = backend.newRun();
        Activation yHat = builder.input(ElementType.F32, 1, fixture.height("y"), fixture.width("y"), 320);
        Activation picture = codec.synthesis(builder, yHat);
        builder.output(picture);
        Activation embeddings = neck.record(builder, yHat);
        builder.output(embeddings);
        try (Run run = builder.build()) {
            Fixture.fill(run, yHat, fixture.floats("y_hat"));
            run.execute();
            table.compare("x_hat" + suffix, fixture.floats("x_hat"), Fixture.read(run, picture), pictureLimit);
            if (fixture.tensor("neck") != null) {
                table.compare("neck" + suffix, fixture.floats("neck"), Fixture.read(run, embeddings), neckLimit);
            }
        }
    }

    /** Positions in the full grid of a half grid's positions. */
    private static int[] positions(Activation half) {
        int[] map = new int[half.positions()];
        int at = 0;
        for (int p = 0; p < half.height() * half.width(); p++) {
            boolean anchor = (p / half.width() + p % half.width()) % 2 == 0;
            if (anchor == (half.grid() == Grid.ANCHORS)) {
                map[at++] = p;
            }
        }
        return map;
    }
}

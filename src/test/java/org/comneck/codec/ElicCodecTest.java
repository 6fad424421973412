package org.comneck.codec;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.LinkedHashMap;
import java.util.Map;
import org.comneck.DamagedDataException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.comneck.model.TensorSource;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;

/** What the codec promises beyond its arithmetic; see CodecParityTest and NetworkBitsTest for that. */
class ElicCodecTest {
    private static ModelFile tiny(Map<String, TensorSource> changes) {
        SeededModel tiny = SeededModel.named(SeededModel.TINY);
        Map<String, TensorSource> tensors = new LinkedHashMap<>(tiny.tensors());
        changes.forEach((name, source) -> {
            if (source == null) {
                tensors.remove(name);
            } else {
                tensors.put(name, source);
            }
        });
        return ModelFile.inMemory(tiny.manifest(), tensors);
    }

    private static Map<String, TensorSource> change(String name, TensorSource source) {
        Map<String, TensorSource> changes = new LinkedHashMap<>();
        changes.put(name, source);
        return changes;
    }

    @Test
    void gainsInterpolateGeometrically() {
        try (Backend backend = new ReferenceBackend(1);
                ModelFile model = tiny(Map.of());
                Codec codec = Codec.load(backend, model, Precision.F32)) {
            assertEquals(2, codec.qualities());
            assertTrue(codec.hasGains());
            float[] low = codec.gain(0);
            float[] high = codec.gain(1);
            float[] between = codec.gain(0.5);
            for (int c = 0; c < codec.latentChannels(); c++) {
                assertEquals(Math.sqrt((double) low[c] * high[c]), between[c], 1e-6);
                assertEquals(1 / low[c], codec.inverseGain(0)[c]);
            }
            assertThrows(IllegalArgumentException.class, () -> codec.gain(1.01));
            assertThrows(IllegalArgumentException.class, () -> codec.gain(Double.NaN));
        }
    }

    @Test
    void gainsArePositive() {
        float[] gains = new float[64];
        java.util.Arrays.fill(gains, 1);
        gains[33] = 0;
        try (Backend backend = new ReferenceBackend(1);
                ModelFile model = tiny(change("gain.y", TensorSource.of(Tensor.of(gains, 2, 32))))) {
            DamagedDataException e =
                    assertThrows(DamagedDataException.class, () -> Codec.load(backend, model, Precision.F32));
            assertTrue(e.getMessage().contains("gain.y"), e.getMessage());
        }
    }

    @Test
    void shapesOfACode() {
        try (Backend backend = new ReferenceBackend(1);
                ModelFile model = tiny(Map.of());
                Codec codec = Codec.load(backend, model, Precision.F32)) {
            RunBuilder run = backend.newRun();
            Activation image = run.input(ElementType.F32, 2, 64, 192, 3);
            Activation gains = run.input(ElementType.F32, 2, 1, 1, 32);
            Activation y = codec.analysis(run, image, gains);
            assertArrayEquals(new int[] {2, 4, 12, 32}, sizes(y));
            Codec.Coded coded = codec.encode(run, y);
            assertArrayEquals(new int[] {2, 1, 3, 16}, sizes(coded.zSymbols()));
            assertArrayEquals(sizes(y), sizes(coded.yHat()));
            assertEquals(10, coded.passes().size());
            int symbols = 0;
            for (Codec.Pass pass : coded.passes()) {
                assertEquals(pass.symbols().positions(), pass.indices().positions());
                symbols += pass.symbols().positions() * pass.symbols().channels();
            }
            assertEquals(4 * 12 * 32, symbols);
            assertEquals(16, coded.passes().getLast().firstChannel());
            Activation picture = codec.synthesis(run, coded.yHat());
            assertArrayEquals(sizes(image), sizes(picture));
        }
    }

    private static int[] sizes(Activation a) {
        return new int[] {a.images(), a.height(), a.width(), a.channels()};
    }

    @Test
    void misuseAndDamageAreToldApart() {
        try (Backend backend = new ReferenceBackend(1);
                ModelFile model = tiny(change("g_a.6.conv2.weight", null));
                Codec codec = Codec.load(backend, model, Precision.F32)) {
            RunBuilder run = backend.newRun();
            Activation odd = run.input(ElementType.F32, 1, 64, 80, 3);
            Activation image = run.input(ElementType.F32, 1, 64, 64, 3);
            Activation gains = run.input(ElementType.F32, 1, 1, 1, 32);
            assertThrows(IllegalArgumentException.class, () -> codec.analysis(run, odd, gains));
            assertThrows(IllegalArgumentException.class, () -> codec.analysis(run, image, null));
            assertThrows(IllegalArgumentException.class, () -> codec.decode(run, 1, 6, 4));
            DamagedDataException e = assertThrows(DamagedDataException.class, () -> codec.analysis(run, image, gains));
            assertTrue(e.getMessage().contains("'g_a.6.conv2.weight' is missing"), e.getMessage());
        }
        Tensor narrow = Tensor.of(new float[16 * 8 * 25], 16, 8, 5, 5);
        try (Backend backend = new ReferenceBackend(1);
                ModelFile model = tiny(change("g_a.4.weight", TensorSource.of(narrow)));
                Codec codec = Codec.load(backend, model, Precision.F32)) {
            RunBuilder run = backend.newRun();
            Activation image = run.input(ElementType.F32, 1, 64, 64, 3);
            Activation gains = run.input(ElementType.F32, 1, 1, 1, 32);
            DamagedDataException e = assertThrows(DamagedDataException.class, () -> codec.analysis(run, image, gains));
            assertTrue(
                    e.getMessage().contains("g_a.4") && e.getMessage().contains("[16,8,5,5] instead of [16,16,5,5]"),
                    e.getMessage());
        }
    }

    @Test
    void tablesOfAnotherSizeAreRefused() {
        try (Backend backend = new ReferenceBackend(1);
                ModelFile model = tiny(change("entropy.gaussian.count", TensorSource.of(Tensor.of(new int[63], 63))));
                Codec codec = Codec.load(backend, model, Precision.F32)) {
            assertThrows(DamagedDataException.class, codec::latentTables);
        }
    }
}

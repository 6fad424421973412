package org.comneck.eval;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.comneck.backend.Backend;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.junit.jupiter.api.Test;

/** Every stage is reported once in each precision; no figure is asserted. */
class StageBenchmarkTest {
    @Test
    void tinyModel() {
        tinyModel(new ReferenceBackend(), 1);
    }

    @Test
    void batchesOnTheCudaBackend() {
        tinyModel(EmulatedCuda.open(), 2);
    }

    private static void tinyModel(Backend opened, int batch) {
        List<StageBenchmark.Result> results = new ArrayList<>();
        try (Backend backend = opened;
                ModelFile model = SeededModel.named(SeededModel.TINY).inMemory()) {
            StageBenchmark.Checked checked = new StageBenchmark(
                            backend, model, 64, batch, 1, Set.copyOf(StageBenchmark.STAGES), null, results::add)
                    .run();
            assertTrue(checked.payloadBytes() > 0);
            assertEquals(4 * 4 * 32 + 16, checked.symbols());
        }
        assertEquals(
                StageBenchmark.STAGES,
                results.stream().map(StageBenchmark.Result::stage).distinct().toList());
        for (StageBenchmark.Result result : results) {
            assertTrue(result.wallMs() > 0 && result.leastMs() <= result.wallMs());
            assertNull(result.peer());
        }
    }

    @Test
    void medians() {
        assertEquals(2, Sample.median(new double[] {3, 1, 2}));
        assertEquals(2.5, Sample.median(new double[] {4, 1, 2, 3}));
    }
}

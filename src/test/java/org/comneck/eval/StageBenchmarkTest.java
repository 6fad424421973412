package org.comneck.eval;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.comneck.UsageException;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
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
        List<StageBenchmark.Memory> memories = new ArrayList<>();
        List<Precision> precisions = StageBenchmark.precisions(opened);
        try (Backend backend = opened;
                ModelFile model = SeededModel.named(SeededModel.TINY).inMemory()) {
            StageBenchmark.Checked checked = new StageBenchmark(
                            backend,
                            model,
                            64,
                            batch,
                            1,
                            Set.copyOf(StageBenchmark.STAGES),
                            precisions,
                            null,
                            results::add,
                            memories::add)
                    .run();
            assertTrue(checked.payloadBytes() > 0);
            assertEquals(4 * 4 * 32 + 16, checked.symbols());
            assertEquals(Set.copyOf(precisions), checked.tokenError().keySet());
        }
        List<String> stages = new ArrayList<>(StageBenchmark.STAGES);
        stages.remove("memory");
        for (Precision precision : precisions) {
            List<String> timed = results.stream()
                    .filter(result -> result.precision() == precision)
                    .map(StageBenchmark.Result::stage)
                    .toList();
            if (precision != precisions.getFirst()) {
                stages.remove("entropy"); // the same in all
            }
            assertEquals(stages, timed);
            Map<String, StageBenchmark.Memory> memory = memories.stream()
                    .filter(of -> of.precision() == precision)
                    .collect(Collectors.toMap(StageBenchmark.Memory::what, of -> of));
            assertEquals(Set.of("tokens", "pixels", "clip", "encode"), memory.keySet());
            memory.values().forEach(of -> assertTrue(of.weightBytes() > 0 && of.runBytes() > 0, of.toString()));
            // The way through pixels has the decoder's transform and the encoder's first blocks besides.
            assertTrue(memory.get("pixels").weightBytes() > memory.get("clip").weightBytes());
        }
        for (StageBenchmark.Result result : results) {
            assertTrue(result.wallMs() > 0 && result.leastMs() <= result.wallMs());
            boolean besideTokens = List.of("clip", "pixels").contains(result.stage());
            assertEquals(besideTokens ? StageBenchmark.OURS : null, result.peer());
            assertEquals(besideTokens, result.ratio() > 0);
        }
    }

    @Test
    void precisionsThatAreNotThere() {
        try (Backend backend = new ReferenceBackend();
                ModelFile model = SeededModel.named(SeededModel.TINY).inMemory()) {
            UsageException e = assertThrows(
                    UsageException.class,
                    () -> new StageBenchmark(
                            backend,
                            model,
                            64,
                            1,
                            1,
                            Set.of("tokens"),
                            List.of(Precision.F16),
                            null,
                            r -> {},
                            m -> {}));
            assertTrue(e.getMessage().contains("reference does not compute in F16"), e.getMessage());
        }
    }

    @Test
    void medians() {
        assertEquals(2, Sample.median(new double[] {3, 1, 2}));
        assertEquals(2.5, Sample.median(new double[] {4, 1, 2, 3}));
    }
}

package org.comneck.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Iterator;
import java.util.Map;
import java.util.Set;
import org.comneck.UsageException;
import org.comneck.tensor.Shape;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SeededModelTest {
    @TempDir
    Path folder;

    @Test
    void firstElementsFollowTheFormula() {
        // By hand from the recipe: h, then one splitmix64 step for each element.
        long h = 0xCBF29CE484222325L;
        for (byte b : "x".getBytes(StandardCharsets.UTF_8)) {
            h = (h ^ b) * 0x100000001B3L;
        }
        float[] w = SeededWeights.tensor("x", 3, Shape.of(5), 0.5, 2).toTensor().toFloats();
        for (int i = 0; i < 5; i++) {
            long z = h + 3 * 0x9E3779B97F4A7C15L + (i + 1) * 0x9E3779B97F4A7C15L;
            z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
            z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
            z ^= z >>> 31;
            assertEquals((float) (0.5 + 2 * ((z >>> 40) / 8388608.0 - 1)), w[i]);
        }
    }

    @Test
    void anyPieceIsTheSameAsTheWhole() {
        TensorSource source = SeededWeights.tensor(
                "entropy_bottleneck.quantiles", 0, Shape.of(7, 1, 3), new double[] {-12, 0, 12}, new double[] {3, 1, 3
                });
        float[] all = source.toTensor().toFloats();
        for (int first = 0; first < all.length; first++) {
            byte[] piece = new byte[(all.length - first) * 4];
            source.read(first, MemorySegment.ofArray(piece));
            float value = ByteBuffer.wrap(piece).order(ByteOrder.LITTLE_ENDIAN).getFloat();
            assertEquals(all[first], value);
        }
        assertTrue(all[0] < -8 && Math.abs(all[1]) < 1.1 && all[2] > 8);
    }

    /** Our declarations against the fixtures': every name, shape, and the first elements, hence mean and spread. */
    @Test
    void declarationsEqualTheFixtures() throws IOException {
        JsonNode weights = new ObjectMapper()
                .readTree(SharedFolder.path("reference/weights.json").toFile());
        for (Map.Entry<String, Map<String, TensorSource>> network :
                SeededModel.declareFull().entrySet()) {
            JsonNode expected = weights.get(network.getKey());
            Set<String> names = new HashSet<>();
            for (Iterator<String> i = expected.fieldNames(); i.hasNext(); ) {
                names.add(i.next());
            }
            assertEquals(names, network.getValue().keySet(), network.getKey());
            for (Map.Entry<String, TensorSource> entry : network.getValue().entrySet()) {
                JsonNode node = expected.get(entry.getKey());
                Shape shape = Shape.of(doublesAsLongs(node.get("shape")));
                assertEquals(shape, entry.getValue().shape(), entry.getKey());
                TensorSource theirs = SeededWeights.tensor(
                        entry.getKey(),
                        weights.get("seed").longValue(),
                        shape,
                        doubles(node.get("mean")),
                        doubles(node.get("spread")));
                int count = (int) Math.min(shape.elements(), 64);
                byte[] a = new byte[4 * count];
                byte[] b = new byte[4 * count];
                theirs.read(shape.elements() - count, MemorySegment.ofArray(a));
                entry.getValue().read(shape.elements() - count, MemorySegment.ofArray(b));
                assertArrayEquals(a, b, entry.getKey());
            }
        }
    }

    private static long[] doublesAsLongs(JsonNode list) {
        long[] values = new long[list.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = list.get(i).longValue();
        }
        return values;
    }

    private static double[] doubles(JsonNode node) {
        if (node.isNumber()) {
            return new double[] {node.doubleValue()};
        }
        double[] values = new double[node.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = node.get(i).doubleValue();
        }
        return values;
    }

    @Test
    void tinyModelIsWrittenAndReadBack() throws IOException {
        SeededModel tiny = SeededModel.named(SeededModel.TINY);
        Path file = folder.resolve("tiny.safetensors");
        tiny.write(file, Progress.NONE);
        try (ModelFile model = ModelFile.open(file);
                ModelFile memory = tiny.inMemory()) {
            assertEquals(tiny.manifest(), model.manifest());
            assertEquals(tiny.tensors().keySet(), model.names());
            for (String name : model.names()) {
                assertArrayEquals(
                        memory.tensor(name).toFloats(), model.tensor(name).toFloats(), name);
                assertEquals(memory.tensor(name).type(), model.tensor(name).type());
            }
            assertArrayEquals(model.computeIdentity(), model.identity());
            assertArrayEquals(memory.identity(), model.identity());
        }
        assertTrue(Files.size(file) < 4 << 20);
    }

    @Test
    void unknownNameIsRefusedWithTheKnownOnes() {
        String message = assertThrows(UsageException.class, () -> SeededModel.named("huge"))
                .getMessage();
        assertTrue(message.contains("full, tiny"), message);
    }
}

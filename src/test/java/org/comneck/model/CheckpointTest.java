package org.comneck.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class CheckpointTest {
    private static final Map<String, ElementType> TYPES = Map.of(
            "float32", ElementType.F32,
            "float16", ElementType.F16,
            "bfloat16", ElementType.BF16,
            "float64", ElementType.F64,
            "int64", ElementType.I64,
            "int32", ElementType.I32,
            "uint8", ElementType.U8,
            "bool", ElementType.BOOL);

    @TempDir
    Path folder;

    private static Path fixture(String name) {
        return SharedFolder.path("reference/checkpoints/" + name);
    }

    private static JsonNode expected(String name) throws IOException {
        return new ObjectMapper().readTree(fixture("expected.json").toFile()).get(name);
    }

    private static void assertTensor(JsonNode expected, TensorSource actual, String name) {
        assertEquals(TYPES.get(expected.get("dtype").textValue()), actual.type(), name);
        long[] sizes = new long[expected.get("shape").size()];
        for (int i = 0; i < sizes.length; i++) {
            sizes[i] = expected.get("shape").get(i).longValue();
        }
        assertEquals(Shape.of(sizes), actual.shape(), name);
        Tensor tensor = actual.toTensor();
        for (int i = 0; i < tensor.shape().elements(); i++) {
            assertEquals(expected.get("values").get(i).doubleValue(), tensor.at(i), name + " element " + i);
        }
        assertEquals(expected.get("values").size(), tensor.shape().elements(), name);
    }

    private static void assertAll(JsonNode expected, Map<String, TensorSource> actual) {
        assertEquals(expected.size(), actual.size());
        expected.properties()
                .forEach(entry -> assertTensor(entry.getValue(), actual.get(entry.getKey()), entry.getKey()));
    }

    @Test
    void safetensors() throws IOException {
        try (Checkpoint checkpoint = Checkpoint.open(fixture("tricky.safetensors"))) {
            assertEquals(Checkpoint.Container.SAFETENSORS, checkpoint.container());
            assertAll(expected("tricky"), checkpoint.group(""));
        }
    }

    @Test
    void publishedLayoutHasCodecAndAdapterButNoOptimizer() throws IOException {
        try (Checkpoint checkpoint = Checkpoint.open(fixture("published-layout.pth.tar"))) {
            assertEquals(Checkpoint.Container.TORCH_ZIP, checkpoint.container());
            assertEquals(Set.of("state_dict", "adapter"), checkpoint.groups().keySet());
            assertAll(expected("tricky"), checkpoint.group("state_dict"));
            JsonNode tricky = expected("tricky");
            assertEquals(3, checkpoint.group("adapter").size());
            checkpoint.group("adapter").forEach((name, tensor) -> assertTensor(tricky.get(name), tensor, name));
            String message = assertThrows(UsageException.class, () -> checkpoint.group("model"))
                    .getMessage();
            assertTrue(message.contains("state_dict") && message.contains("adapter"), message);
        }
    }

    @Test
    void legacy() throws IOException {
        try (Checkpoint checkpoint = Checkpoint.open(fixture("legacy.pth"))) {
            assertEquals(Checkpoint.Container.TORCH_LEGACY, checkpoint.container());
            assertAll(expected("tricky"), checkpoint.group(""));
        }
    }

    @Test
    void dataParallel() throws IOException {
        JsonNode tricky = expected("tricky");
        try (Checkpoint checkpoint = Checkpoint.open(fixture("data-parallel.pth"))) {
            assertEquals(3, checkpoint.group("").size());
            checkpoint
                    .group("")
                    .forEach((name, tensor) ->
                            assertTensor(tricky.get(name.substring("module.".length())), tensor, name));
        }
    }

    @Test
    void torchScript() throws IOException {
        try (Checkpoint checkpoint = Checkpoint.open(fixture("torchscript-archive.pt"))) {
            assertEquals(Checkpoint.Container.TORCHSCRIPT, checkpoint.container());
            assertAll(expected("torchscript"), checkpoint.group(""));
        }
    }

    /** Any piece of a strided view, not just the whole. */
    @Test
    void transposedTensorIsReadInPieces() throws IOException {
        try (Checkpoint checkpoint = Checkpoint.open(fixture("legacy.pth"))) {
            TensorSource tensor = checkpoint.group("").get("transposed");
            float[] all = tensor.toTensor().toFloats();
            for (int first = 0; first < all.length; first++) {
                byte[] piece = new byte[4 * (all.length - first)];
                tensor.read(first, MemorySegment.ofArray(piece));
                Tensor view = new Tensor(ElementType.F32, Shape.of(all.length - first), MemorySegment.ofArray(piece));
                for (int i = first; i < all.length; i++) {
                    assertEquals(all[i], (float) view.at(i - first));
                }
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"hostile-eval.pth,builtins.eval,22", "hostile-reduce.pth,posix.system,404"})
    void hostilePickleIsRefusedByName(String name, String global, int offsetInPickle) throws IOException {
        Path file = fixture(name);
        DamagedDataException e = assertThrows(DamagedDataException.class, () -> Checkpoint.open(file));
        assertTrue(e.getMessage().contains("'" + global + "'"), e.getMessage());
        assertTrue(e.getMessage().contains(file.toString()), e.getMessage());
        // The offset is that of the GLOBAL opcode in the file, which a hex dump shows.
        byte[] bytes = Files.readAllBytes(file);
        assertEquals('c', bytes[(int) e.offset()]);
        assertTrue(e.offset() > offsetInPickle);
        assertFalse(Files.exists(Path.of("comneck-unpickled")));
    }

    @ParameterizedTest
    @CsvSource({
        "truncated.pth.tar,truncated,3890",
        "truncated.safetensors,truncated,-1",
        "huge-header.safetensors,4611686018427387904,0",
        "out-of-range.safetensors,'half',-1"
    })
    void damagedFileIsRefusedWithFileReasonAndOffset(String name, String reason, long offset) {
        Path file = fixture(name);
        DamagedDataException e = assertThrows(DamagedDataException.class, () -> Checkpoint.open(file));
        assertTrue(e.getMessage().contains(reason), e.getMessage());
        assertTrue(e.getMessage().contains(file.toString()), e.getMessage());
        assertTrue(offset < 0 ? e.offset() > 0 : e.offset() == offset, e.getMessage());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "x", "hello, this is text and no checkpoint", "<html><body>Not found</body></html>"})
    void otherFilesAreNoCheckpoints(String text) throws IOException {
        Path file = folder.resolve("other");
        Files.writeString(file, text);
        String message =
                assertThrows(UsageException.class, () -> Checkpoint.open(file)).getMessage();
        assertTrue(message.contains("is no checkpoint"), message);
    }

    @Test
    void missingFileAndFolder() {
        assertThrows(UsageException.class, () -> Checkpoint.open(folder));
        assertThrows(UsageException.class, () -> Checkpoint.open(folder.resolve("absent.pth")));
    }

    /** A flipped bit in a tensor's bytes is noticed when the tensor is read: PyTorch's zip has checksums. */
    @Test
    void flippedBitInTensorFailsItsChecksum() throws IOException {
        byte[] bytes = Files.readAllBytes(fixture("data-parallel.pth"));
        int at = new String(bytes, StandardCharsets.ISO_8859_1).indexOf("/data/0") + 7;
        bytes[(at + 63) / 64 * 64 + 5] ^= 4;
        try (Arena arena = Arena.ofShared()) {
            Checkpoint checkpoint = Checkpoint.parse("f", MemorySegment.ofArray(bytes), arena);
            DamagedDataException e = assertThrows(
                    DamagedDataException.class,
                    () -> checkpoint
                            .group("")
                            .get("module.trans_latent_dim.weight")
                            .toTensor());
            assertTrue(e.getMessage().contains("data/0") && e.getMessage().contains("checksum"), e.getMessage());
        }
    }

    /**
     * Truncated at every length and with a few bytes changed at random, seeded: every file either opens and can be read, or is refused as
     * damaged (or as no checkpoint at all). Anything else, an exception of another kind, a hang, an exhausted heap, is a bug.
     */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "tricky.safetensors",
                "published-layout.pth.tar",
                "legacy.pth",
                "data-parallel.pth",
                "torchscript-archive.pt",
                "hostile-reduce.pth"
            })
    void mutatedFilesAreReadOrRefused(String name) throws IOException {
        byte[] original = Files.readAllBytes(fixture(name));
        for (int length = 0; length < original.length; length += length < 4096 ? 1 : 37) {
            tryRead(Arrays.copyOf(original, length));
        }
        clearChecksums(original);
        Random random = new Random(name.hashCode());
        int[] nasty = {0, 1, 0x7F, 0x80, 0xFF, '(', 't', 'R', 'Q', '.', 'b', 'u', 'h', '0', '2'};
        for (int round = 0; round < 2500; round++) {
            byte[] bytes = original.clone();
            for (int n = 1 + random.nextInt(4); n > 0; n--) {
                int at = random.nextInt(bytes.length);
                switch (random.nextInt(4)) {
                    case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
                    case 1 -> bytes[at] = (byte) nasty[random.nextInt(nasty.length)];
                    case 2 -> bytes[at] = (byte) random.nextInt(256);
                    default -> {
                        int from = random.nextInt(bytes.length);
                        int count = Math.min(1 + random.nextInt(16), bytes.length - Math.max(at, from));
                        System.arraycopy(bytes, from, bytes, at, count);
                    }
                }
            }
            tryRead(bytes);
        }
    }

    /** Without checksums, as PyTorch can write them too, a changed pickle reaches the unpickler. */
    private static void clearChecksums(byte[] bytes) {
        for (int at = 0; at + 20 < bytes.length; at++) {
            if (bytes[at] == 'P' && bytes[at + 1] == 'K' && bytes[at + 2] == 1 && bytes[at + 3] == 2) {
                Arrays.fill(bytes, at + 16, at + 20, (byte) 0);
            }
        }
    }

    private static void tryRead(byte[] bytes) {
        try (Arena arena = Arena.ofShared()) {
            Checkpoint checkpoint = Checkpoint.parse("fuzzed", MemorySegment.ofArray(bytes), arena);
            for (Map<String, TensorSource> group : checkpoint.groups().values()) {
                group.values().forEach(TensorSource::toTensor);
            }
        } catch (DamagedDataException e) {
            assertTrue(e.getMessage().startsWith("fuzzed: "), e.getMessage());
        } catch (UsageException e) {
            assertTrue(e.getMessage().startsWith("fuzzed "), e.getMessage());
        }
    }
}

package org.comneck.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SafetensorsFileTest {
    @TempDir
    Path folder;

    private static byte[] file(String header, int dataBytes) {
        byte[] json = header.getBytes(StandardCharsets.UTF_8);
        return ByteBuffer.allocate(8 + json.length + dataBytes)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(json.length)
                .put(json)
                .array();
    }

    private static Map<String, Tensor> parse(byte[] bytes) {
        try (Arena arena = Arena.ofShared()) {
            return SafetensorsFile.parse("f", MemorySegment.ofArray(bytes), arena)
                    .tensors();
        }
    }

    /** The exact bytes of a small file, so that any other reader of the format can read what we write. */
    @Test
    void goldenBytes() throws IOException {
        Path path = folder.resolve("golden.safetensors");
        ModelWriter.plain()
                .metadata("k", "v")
                .add("b", Tensor.of(new int[] {1, -1}, 2))
                .add("a", Tensor.of(new float[] {1.5f}, 1))
                .write(path);
        String header =
                "{\"__metadata__\":{\"k\":\"v\"},\"b\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                        + "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}";
        byte[] bytes = Files.readAllBytes(path);
        assertEquals(184, ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong());
        assertEquals(header + " ".repeat(184 - header.length()), new String(bytes, 8, 184, StandardCharsets.UTF_8));
        assertEquals("01000000ffffffff0000c03f", HexFormat.of().formatHex(bytes, 192, bytes.length));
        Map<String, Tensor> read = parse(bytes);
        assertArrayEquals(new int[] {1, -1}, read.get("b").toInts());
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}|Duplicate field 'a'",
                "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}|Duplicate field 'dtype'",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}|hole",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}|4 bytes after its last tensor",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}|'b' overlaps",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}|truncated",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}|takes 4 bytes",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,0]}}|not in order",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}|larger than any memory",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,8]}}|negative",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,8]}}|not valid",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}|not a whole number",
                "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}|F8_E4M3",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}|needs dtype, shape and two data_offsets",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}|unknown field 'x'",
                "{\"a\":7}|not described by an object",
                "{\"__metadata__\":{\"k\":1}}|not text",
                "{\"__metadata__\":[]}|not an object",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}} {}|text after",
                "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}|not valid",
                "[\"a\"]|does not start with"
            })
    void unsoundHeadersAreRefused(String header, String reason) {
        DamagedDataException e = assertThrows(DamagedDataException.class, () -> parse(file(header, 8)));
        assertTrue(e.getMessage().startsWith("f: ") && e.getMessage().contains(reason), e.getMessage());
        assertTrue(e.offset() >= 8, e.getMessage());
    }

    @Test
    void nestingDoesNotExhaustTheStack() {
        assertThrows(DamagedDataException.class, () -> parse(file("{\"a\":" + "[".repeat(100_000), 0)));
    }

    /** Every number, bracket and quote of a header, changed at random: read or refused, nothing else. */
    @Test
    void mutatedHeadersAreReadOrRefused() {
        byte[] original = file(
                "{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                        + "\"b\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[12,20]}}",
                20);
        Random random = new Random(5);
        byte[] nasty = "{}[]\":,0123456789-eE\\u \0".getBytes(StandardCharsets.UTF_8);
        for (int round = 0; round < 8_000; round++) {
            byte[] bytes = original.clone();
            for (int n = 1 + random.nextInt(3); n > 0; n--) {
                bytes[random.nextInt(bytes.length)] = nasty[random.nextInt(nasty.length)];
            }
            byte[] cut = random.nextInt(4) == 0 ? Arrays.copyOf(bytes, random.nextInt(bytes.length)) : bytes;
            try {
                parse(cut).values().forEach(tensor -> TensorSource.of(tensor).toTensor());
            } catch (DamagedDataException e) {
                assertTrue(e.getMessage().startsWith("f: "), e.getMessage());
            }
        }
    }

    @Test
    void namesInErrorsAreFitForOneLine() {
        DamagedDataException e =
                assertThrows(DamagedDataException.class, () -> parse(file("{\"a\\n\\u001b[31m\":7}", 0)));
        assertTrue(e.getMessage().contains("'a??[31m'"), e.getMessage());
    }

    @Test
    void modelFileSaysWhatItIsNot() throws IOException {
        Path plain = folder.resolve("plain.safetensors");
        ModelWriter.plain().add("a", Tensor.of(new float[] {1}, 1)).write(plain);
        String message =
                assertThrows(UsageException.class, () -> ModelFile.open(plain)).getMessage();
        assertTrue(message.contains("without ComNeck manifest") && message.contains("comneck import"), message);
        Path text = folder.resolve("text");
        Files.writeString(text, "hello, I am no model");
        assertThrows(UsageException.class, () -> ModelFile.open(text));
        assertThrows(UsageException.class, () -> ModelFile.open(folder.resolve("absent")));
    }

    @Test
    void modelFileNamesMissingAndMisshapenTensors() {
        try (ModelFile model = SeededModel.named(SeededModel.TINY).inMemory()) {
            String missing = assertThrows(DamagedDataException.class, () -> model.tensor("g_a.99.weight"))
                    .getMessage();
            assertTrue(missing.contains("'g_a.99.weight' is missing"), missing);
            String shape = assertThrows(DamagedDataException.class, () -> model.tensor("g_a.0.bias", 17))
                    .getMessage();
            assertTrue(shape.contains("[16] instead of [17]"), shape);
        }
    }

    @Test
    void closedModelCannotBeRead() {
        ModelFile model = SeededModel.named(SeededModel.TINY).inMemory();
        Tensor tensor = model.tensor("g_a.0.bias");
        model.close();
        model.close();
        assertThrows(IllegalStateException.class, tensor::toFloats);
    }

    /** Same symbols, same identity: storage type does not matter, any relevant value does, irrelevant ones do not. */
    @Test
    void identityCoversWhatSymbolsDependOn() {
        SeededModel tiny = SeededModel.named(SeededModel.TINY);
        byte[] identity;
        try (ModelFile model = tiny.inMemory()) {
            identity = model.identity();
            assertEquals(16, identity.length);
        }
        for (String changed :
                new String[] {"h_s.4.bias", "entropy.gaussian.frequency", "gain.y", "ParamAggregation.2.4.weight"}) {
            assertTrue(!Arrays.equals(identity, identityWith(tiny, changed, 1)), changed);
        }
        for (String changed :
                new String[] {"g_a.0.weight", "g_s.14.bias", "ln_pre.weight", "visual.proj", "h_a.0.bias"}) {
            assertArrayEquals(identity, identityWith(tiny, changed, 1), changed);
        }
        assertArrayEquals(identity, identityWith(tiny, "h_s.4.bias", 0));
    }

    private static byte[] identityWith(SeededModel tiny, String name, int flip) {
        Map<String, TensorSource> tensors = new LinkedHashMap<>(tiny.tensors());
        Tensor tensor = tensors.get(name).toTensor();
        byte[] bytes = tensor.data().toArray(ValueLayout.JAVA_BYTE);
        bytes[bytes.length / 2] ^= (byte) flip;
        tensors.put(name, TensorSource.of(new Tensor(tensor.type(), tensor.shape(), MemorySegment.ofArray(bytes))));
        try (ModelFile model = ModelFile.inMemory(tiny.manifest(), tensors)) {
            return model.identity();
        }
    }

    @Test
    void identityDoesNotDependOnTheStorageType() {
        Tensor wide = Tensor.of(new int[] {1, -2, 300}, 3);
        short[] narrowValues = {1, -2, 300};
        Tensor narrow = new Tensor(ElementType.I16, Shape.of(3), MemorySegment.ofArray(narrowValues));
        Identity a = new Identity();
        a.add("entropy.x", TensorSource.of(wide));
        Identity b = new Identity();
        b.add("entropy.x", TensorSource.of(narrow));
        assertArrayEquals(a.digest("p"), b.digest("p"));
        short[] halves = {Float.floatToFloat16(0.5f)};
        Identity c = new Identity();
        c.add("h_s.x", TensorSource.of(new Tensor(ElementType.F16, Shape.of(1), MemorySegment.ofArray(halves))));
        Identity d = new Identity();
        d.add("h_s.x", TensorSource.of(Tensor.of(new float[] {0.5f}, 1)));
        assertArrayEquals(c.digest("p"), d.digest("p"));
    }

    /** Bytes of a real model file's header changed at random, manifest included: it opens, is refused as damaged, or is no model. */
    @Test
    void mutatedModelFilesAreReadOrRefused() throws IOException {
        Path path = folder.resolve("tiny.safetensors");
        SeededModel.named(SeededModel.TINY).write(path, Progress.NONE);
        byte[] original = Files.readAllBytes(path);
        int header = 8
                + (int) ByteBuffer.wrap(original).order(ByteOrder.LITTLE_ENDIAN).getLong();
        Random random = new Random(11);
        for (int round = 0; round < 500; round++) {
            byte[] bytes = original.clone();
            for (int n = 1 + random.nextInt(3); n > 0; n--) {
                // The manifest stands at the front.
                bytes[random.nextInt(random.nextBoolean() ? 1600 : header)] = (byte) (' ' + random.nextInt(95));
            }
            try (Arena arena = Arena.ofShared()) {
                ModelFile model = ModelFile.parse("m", MemorySegment.ofArray(bytes), arena);
                model.identity();
                model.computeIdentity();
            } catch (DamagedDataException | UsageException e) {
                assertTrue(e.getMessage().startsWith("m"), e.getMessage());
            }
        }
    }

    @Test
    void unwritableTargetsAreUsageErrors() throws IOException {
        ModelWriter writer = ModelWriter.plain().add("a", Tensor.of(new float[] {1}, 1));
        assertThrows(UsageException.class, () -> writer.write(folder));
        assertThrows(UsageException.class, () -> writer.write(folder.resolve("no/x.safetensors")));
        assertThrows(IllegalArgumentException.class, () -> writer.add("a", Tensor.of(new float[] {1}, 1)));
        writer.write(folder.resolve("x.safetensors"));
        writer.write(folder.resolve("x.safetensors"));
        try (var files = Files.list(folder)) {
            assertEquals(1, files.count());
        }
    }
}

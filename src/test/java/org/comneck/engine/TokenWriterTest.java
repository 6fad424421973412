package org.comneck.engine;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.comneck.UsageException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TokenWriterTest {
    private static final Tensor TOKENS = Tensor.of(new float[] {1, -2.5f, 3.14159274f, 65504, 1e-8f, -0f}, 2, 3);

    @TempDir
    Path folder;

    @Test
    void npyIsWhatNumpyWrites() throws IOException {
        byte[] file = bytes(TokenFormat.NPY, ElementType.F32);
        String text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        String header =
                "\u0093NUMPY\u0001\u0000" + (char) 118 + "\u0000" + text + " ".repeat(117 - text.length()) + "\n";
        assertEquals(header, new String(file, 0, 128, StandardCharsets.ISO_8859_1));
        assertEquals(128 + 24, file.length);
        ByteBuffer values = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).position(128);
        for (float value : TOKENS.toFloats()) {
            assertEquals(Float.floatToRawIntBits(value), values.getInt());
        }
    }

    @Test
    void halfPrecisionRoundsToNearestEven() throws IOException {
        ByteBuffer f16 =
                ByteBuffer.wrap(bytes(TokenFormat.BIN, ElementType.F16)).order(ByteOrder.LITTLE_ENDIAN);
        ByteBuffer bf16 =
                ByteBuffer.wrap(bytes(TokenFormat.BIN, ElementType.BF16)).order(ByteOrder.LITTLE_ENDIAN);
        short[] expected16 = {0x3C00, (short) 0xC100, 0x4248, 0x7BFF, 0, (short) 0x8000};
        short[] expectedB16 = {0x3F80, (short) 0xC020, 0x4049, 0x4780, 0x322C, (short) 0x8000};
        for (int i = 0; i < 6; i++) {
            assertEquals(expected16[i], f16.getShort(), "f16 " + i);
            assertEquals(expectedB16[i], bf16.getShort(), "bf16 " + i);
        }
    }

    @Test
    void safetensorsHoldsSeveralTensors() throws IOException {
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        tensors.put("a", TOKENS);
        tensors.put("b", Tensor.of(new int[] {7, -7}, 2));
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        TokenWriter.writeSafetensors(out, tensors, Map.of("k", "v"));
        ByteBuffer file = ByteBuffer.wrap(out.toByteArray()).order(ByteOrder.LITTLE_ENDIAN);
        int length = (int) file.getLong();
        assertEquals(0, (8 + length) % 64);
        assertEquals(
                "{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                        + "\"b\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[24,32]}}",
                new String(file.array(), 8, length, StandardCharsets.UTF_8).strip());
        assertEquals(7, file.getInt(8 + length + 24));
        assertEquals(8 + length + 32, file.capacity());
    }

    @Test
    void npyHasNoBfloat16() {
        Path file = folder.resolve("t.npy");
        assertTrue(assertThrows(
                        UsageException.class,
                        () -> TokenWriter.write(file, TokenFormat.NPY, "t", TOKENS, ElementType.BF16, Map.of()))
                .getMessage()
                .contains("NumPy files have no bf16"));
        assertFalse(Files.exists(file));
    }

    @Test
    void failuresLeaveTheOldFileAndNothingElse() throws IOException {
        Path file = folder.resolve("t.bin");
        Files.writeString(file, "old");
        IOException full = new IOException("No space left on device");
        UsageException e = assertThrows(
                UsageException.class,
                () -> AtomicOutput.write(file, out -> {
                    out.write(new byte[1 << 20]);
                    throw full;
                }));
        assertEquals(file + ": cannot be written: No space left on device", e.getMessage());
        assertEquals(full, e.getCause());
        assertEquals("old", Files.readString(file));
        try (var files = Files.list(folder)) {
            assertArrayEquals(new Object[] {file}, files.toArray());
        }
        AtomicOutput.write(file, out -> out.write('x'));
        assertEquals("x", Files.readString(file));
    }

    @Test
    void unwritableTargetsAreNamed() {
        Path nowhere = folder.resolve("no").resolve("t.npy");
        UsageException e = assertThrows(UsageException.class, () -> AtomicOutput.write(nowhere, out -> {}));
        assertEquals(nowhere + ": cannot be written: its folder does not exist", e.getMessage());
        assertInstanceOf(IOException.class, e.getCause());
        assertThrows(UsageException.class, () -> AtomicOutput.write(folder, out -> {}));
        Path full = Path.of("/dev/full");
        if (Files.exists(full)) {
            assertEquals(
                    "/dev/full: cannot be written: No space left on device",
                    assertThrows(UsageException.class, () -> AtomicOutput.write(full, out -> out.write(1)))
                            .getMessage());
        }
    }

    private static byte[] bytes(TokenFormat format, ElementType type) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        TokenWriter.write(out, format, "tokens", TOKENS, type, Map.of());
        return out.toByteArray();
    }
}

package org.comneck.entropy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.List;
import org.comneck.backend.Backend;
import org.comneck.backend.RansDecoder;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.bitstream.ArithmeticProfile;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.bitstream.Limits;
import org.junit.jupiter.api.Test;

/** The annotated file of docs/format.md is what we read and what we write. */
class FormatDocumentTest {
    private static final byte[] INDICES = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1};

    @Test
    void theAnnotatedFileIsReadAndWritten() throws IOException {
        String document = Files.readString(Path.of("docs", "format.md"));
        String block = document.split("```hex\n")[1].split("```")[0];
        StringBuilder hex = new StringBuilder();
        for (String line : block.lines().toList()) {
            hex.append(line.split("   ")[0].replace(" ", ""));
        }
        byte[] file = HexFormat.of().parseHex(hex);
        String last = document.strip().lines().reduce((a, b) -> b).orElseThrow().strip();
        short[] expected = new short[INDICES.length];
        String[] words = last.split(" ");
        for (int i = 0; i < expected.length; i++) {
            expected[i] = Short.parseShort(words[i]);
        }

        Container container = Container.read(file, Limits.DEFAULT);
        assertEquals(ArithmeticProfile.F32_FMA, container.profile());
        assertEquals("000102030405060708090a0b0c0d0e0f", HexFormat.of().formatHex(container.identity()));
        assertEquals(1, container.size());
        CodedImage image = container.image(0);
        assertEquals(
                List.of(48, 40, 64, 64),
                List.of(image.width(), image.height(), image.paddedWidth(), image.paddedHeight()));
        assertEquals(2.5, image.quality());
        assertFalse(image.prepared());
        try (Backend backend = new ReferenceBackend(1);
                Backend.Tables tables = backend.tables(RansTest.tiny());
                RansDecoder decoder = backend.ransDecoder()) {
            short[] symbols = new short[expected.length];
            decoder.start(image.payload());
            decoder.decode(tables, MemorySegment.ofArray(INDICES), MemorySegment.ofArray(symbols), symbols.length);
            decoder.finish(image.symbolChecksum());
            assertArrayEquals(expected, symbols);

            RansEncoder.Encoded encoded = backend.ransEncoder()
                    .encode(
                            List.of(new RansEncoder.Pass(
                                    tables,
                                    MemorySegment.ofArray(INDICES),
                                    MemorySegment.ofArray(expected),
                                    expected.length)),
                            0);
            CodedImage again = new CodedImage(
                    48, 40, 64, 64, 2.5, false, encoded.symbolChecksum(), MemorySegment.ofArray(encoded.payload()));
            byte[] written =
                    new Container(ArithmeticProfile.F32_FMA, container.identity(), List.of(again)).toByteArray();
            assertEquals(HexFormat.of().formatHex(file), HexFormat.of().formatHex(written));
        }
    }
}

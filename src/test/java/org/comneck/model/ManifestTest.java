package org.comneck.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.comneck.DamagedDataException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ManifestTest {
    /** Word for word, so that files written today can be read for ever. */
    private static final String GOLDEN = "{\"format\":1,\"name\":\"seeded-tiny\",\"profile\":\"f32-fma\","
            + "\"codec\":{\"type\":\"elic\",\"n\":16,\"m\":32,\"slices\":[2,2,4,8,16]},"
            + "\"preprocessing\":{\"size\":64,\"resample\":\"bicubic\"},\"neck\":{\"entry\":1,\"heads\":2},"
            + "\"encoder\":{\"type\":\"clip\",\"width\":32,\"layers\":3,\"heads\":2,\"patch\":16,\"image\":64,"
            + "\"activation\":\"quick_gelu\",\"epsilon\":1.0E-5,\"mean\":[0.48145466,0.4578275,0.40821073],"
            + "\"std\":[0.26862954,0.26130258,0.27577711],\"projection\":24},"
            + "\"qualities\":[{\"name\":\"low\",\"lambda\":0.004},{\"name\":\"high\",\"lambda\":0.016}],"
            + "\"labels\":[[\"s00000000\",\"seeded class 0\"],[\"s00000001\",\"seeded class 1\"],"
            + "[\"s00000002\",\"seeded class 2\"],[\"s00000003\",\"seeded class 3\"],[\"s00000004\",\"seeded class 4\"],"
            + "[\"s00000005\",\"seeded class 5\"],[\"s00000006\",\"seeded class 6\"],[\"s00000007\",\"seeded class 7\"]],"
            + "\"tokens\":{\"layer\":-2,\"select\":\"patches\"}}";

    @Test
    void goldenText() {
        Manifest tiny = SeededModel.named(SeededModel.TINY).manifest();
        assertEquals(GOLDEN, tiny.toJson());
        assertEquals(tiny, Manifest.parse("f", GOLDEN));
        Manifest full = SeededModel.named(SeededModel.FULL).manifest();
        assertEquals(full, Manifest.parse("f", full.toJson()));
    }

    @Test
    void partsMayBeAbsentAndUnknownFieldsAreIgnored() {
        Manifest manifest =
                Manifest.parse("f", "{\"format\":1,\"name\":\"x\",\"profile\":\"f32-fma\",\"future\":{\"a\":[1]}}");
        assertNull(manifest.codec());
        assertNull(manifest.encoder());
        assertEquals(new Manifest.Tokens(-2, "patches"), manifest.tokens());
        assertEquals(manifest, Manifest.parse("f", manifest.toJson()));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "\"format\":1|\"format\":2|newer than this program",
                "\"format\":1|\"format\":0|'format' is not a whole number",
                "\"format\":1|\"format\":1,\"format\":1|Duplicate",
                "\"profile\":\"f32-fma\"|\"profile\":\"int8\"|'int8' is unknown",
                "\"name\":\"seeded-tiny\"|\"name\":7|'name' is not text",
                "\"name\":\"seeded-tiny\",||'name' is missing",
                "\"type\":\"elic\"|\"type\":\"tic\"|'codec.type' is 'tic'; known: elic",
                "\"m\":32|\"m\":33|sum to 32 instead of m = 33",
                "[2,2,4,8,16]|[2,2,4,8,16.5]|codec.slices[4]",
                "[2,2,4,8,16]|[2,2,4,8,-1]|codec.slices[4]",
                "\"n\":16|\"n\":1e9|codec.n",
                "\"size\":64|\"size\":99999999|preprocessing.size",
                "\"entry\":1|\"entry\":4|enters block 4 of an encoder with 3",
                "\"width\":32|\"width\":33|2 heads do not divide",
                "\"patch\":16|\"patch\":65|patches larger",
                "\"activation\":\"quick_gelu\"|\"activation\":\"relu\"|encoder.activation",
                "\"epsilon\":1.0E-5|\"epsilon\":\"x\"|encoder.epsilon",
                "[0.48145466,0.4578275,0.40821073]|[0.5,0.5]|encoder.mean",
                "[0.26862954,0.26130258,0.27577711]|[0.5,0.5,0]|encoder.std[2]",
                "[\"s00000003\",\"seeded class 3\"]|[\"s00000003\"]|labels[3]",
                "\"lambda\":0.016|\"lambda\":-1|qualities[1].lambda",
                "\"select\":\"patches\"|\"select\":\"some\"|tokens.select",
                "\"layer\":-2|\"layer\":null|tokens.layer"
            })
    void impossibleFieldsAreNamed(String from, String to, String reason) {
        assertTrue(GOLDEN.contains(from), from);
        String json = GOLDEN.replace(from, to == null ? "" : to);
        DamagedDataException e = assertThrows(DamagedDataException.class, () -> Manifest.parse("f", json));
        assertTrue(e.getMessage().startsWith("f: ") && e.getMessage().contains(reason), e.getMessage());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "7", "null", "{} x", "{\"format\":1"})
    void brokenTextIsRefused(String json) {
        assertThrows(DamagedDataException.class, () -> Manifest.parse("f", json));
    }

    @Test
    void nestingDoesNotExhaustTheStack() {
        assertThrows(DamagedDataException.class, () -> Manifest.parse("f", "[".repeat(200_000)));
    }
}

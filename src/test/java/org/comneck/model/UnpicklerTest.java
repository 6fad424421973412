package org.comneck.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.comneck.DamagedDataException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class UnpicklerTest {
    /** One dictionary of everything that is allowed, pickled by CPython 3.11 in protocols 0 to 5; bytes from 3 on, a frozenset from 4 on. */
    private static final List<String> PROTOCOLS = List.of(
            "KGRwMApWbm9uZQpwMQpOc1Z0CnAyCkkwMQpzVmYKcDMKSTAwCnNWaW50cwpwNAoobHA1CkkwCmFJMjU1CmFJMjU2CmFJNjU1MzUKYUk2NTUzNgphSS0xCmFJLTIxNDc0ODM2NDgKYUwyMTQ3NDgzNjQ4TAphTDEwOTk1MTE2Mjc3NzZMCmFMLTkyMjMzNzIwMzY4NTQ3NzU4MDhMCmFMMTE4MDU5MTYyMDcxNzQxMTMwMzQyNEwKYXNWZmwKcDYKKGxwNwpGMS41CmFGLTAuMjUKYUYxZSszMDAKYXNWcwpwOApWcGxhaW4gJ3EnIFx1MDA1YyBcdTAwMGEg6Vx1NGUyZFxVMDAwMWY2MDAKcDkKc1Z0dXAKcDEwCihJMQooSTIKSTMKdHAxMQoodChJMQpJMgpJMwpJNAp0cDEyCnRwMTMKc1ZvZApwMTQKY2NvbGxlY3Rpb25zCk9yZGVyZWREaWN0CnAxNQoodFJwMTYKVmEKcDE3CkkxCnNWYgpwMTgKSTIKc3NWYwpwMTkKY2NvbGxlY3Rpb25zCkNvdW50ZXIKcDIwCigoZHAyMQpJMjAKSTEKc3RwMjIKUnAyMwpzVngKcDI0CihscDI1CkkxCmFJMgphc1Z5CnAyNgpnMjUKcy4=",
            "fXEAKFgEAAAAbm9uZXEBTlgBAAAAdHECSTAxClgBAAAAZnEDSTAwClgEAAAAaW50c3EEXXEFKEsAS/9NAAFN//9KAAABAEr/////SgAAAIBMMjE0NzQ4MzY0OEwKTDEwOTk1MTE2Mjc3NzZMCkwtOTIyMzM3MjAzNjg1NDc3NTgwOEwKTDExODA1OTE2MjA3MTc0MTEzMDM0MjRMCmVYAgAAAGZscQZdcQcoRz/4AAAAAAAAR7/QAAAAAAAAR3435DyIAHWcZVgBAAAAc3EIWBcAAABwbGFpbiAncScgXCAKIMOp5Lit8J+YgHEJWAMAAAB0dXBxCihLAShLAksDdHELKShLAUsCSwNLBHRxDHRxDVgCAAAAb2RxDmNjb2xsZWN0aW9ucwpPcmRlcmVkRGljdApxDylScRAoWAEAAABhcRFLAVgBAAAAYnESSwJ1WAEAAABjcRNjY29sbGVjdGlvbnMKQ291bnRlcgpxFCh9cRVLFEsBc3RxFlJxF1gBAAAAeHEYXXEZKEsBSwJlWAEAAAB5cRpoGXUu",
            "gAJ9cQAoWAQAAABub25lcQFOWAEAAAB0cQKIWAEAAABmcQOJWAQAAABpbnRzcQRdcQUoSwBL/00AAU3//0oAAAEASv////9KAAAAgIoFAAAAgACKBgAAAAAAAYoIAAAAAAAAAICKCQAAAAAAAAAAQGVYAgAAAGZscQZdcQcoRz/4AAAAAAAAR7/QAAAAAAAAR3435DyIAHWcZVgBAAAAc3EIWBcAAABwbGFpbiAncScgXCAKIMOp5Lit8J+YgHEJWAMAAAB0dXBxCihLAUsCSwOGcQspKEsBSwJLA0sEdHEMdHENWAIAAABvZHEOY2NvbGxlY3Rpb25zCk9yZGVyZWREaWN0CnEPKVJxEChYAQAAAGFxEUsBWAEAAABicRJLAnVYAQAAAGNxE2Njb2xsZWN0aW9ucwpDb3VudGVyCnEUfXEVSxRLAXOFcRZScRdYAQAAAHhxGF1xGShLAUsCZVgBAAAAeXEaaBl1Lg==",
            "gAN9cQAoWAQAAABub25lcQFOWAEAAAB0cQKIWAEAAABmcQOJWAQAAABpbnRzcQRdcQUoSwBL/00AAU3//0oAAAEASv////9KAAAAgIoFAAAAgACKBgAAAAAAAYoIAAAAAAAAAICKCQAAAAAAAAAAQGVYAgAAAGZscQZdcQcoRz/4AAAAAAAAR7/QAAAAAAAAR3435DyIAHWcZVgBAAAAc3EIWBcAAABwbGFpbiAncScgXCAKIMOp5Lit8J+YgHEJWAEAAABicQpDAwAB/3ELWAMAAAB0dXBxDChLAUsCSwOGcQ0pKEsBSwJLA0sEdHEOdHEPWAIAAABvZHEQY2NvbGxlY3Rpb25zCk9yZGVyZWREaWN0CnERKVJxEihYAQAAAGFxE0sBaApLAnVYAQAAAGNxFGNjb2xsZWN0aW9ucwpDb3VudGVyCnEVfXEWSxRLAXOFcRdScRhYAQAAAHhxGV1xGihLAUsCZVgBAAAAeXEbaBp1Lg==",
            "gASVNAEAAAAAAAB9lCiMBG5vbmWUTowBdJSIjAFmlImMBGludHOUXZQoSwBL/00AAU3//0oAAAEASv////9KAAAAgIoFAAAAgACKBgAAAAAAAYoIAAAAAAAAAICKCQAAAAAAAAAAQGWMAmZslF2UKEc/+AAAAAAAAEe/0AAAAAAAAEd+N+Q8iAB1nGWMAXOUjBdwbGFpbiAncScgXCAKIMOp5Lit8J+YgJSMAWKUQwMAAf+UjAN0dXCUKEsBSwJLA4aUKShLAUsCSwNLBHSUdJSMA3NldJQojAF4lJGUjAJvZJSMC2NvbGxlY3Rpb25zlIwLT3JkZXJlZERpY3SUk5QpUpQojAFhlEsBaApLAnWMAWOUaBSMB0NvdW50ZXKUk5R9lEsUSwFzhZRSlGgRXZQoSwFLAmWMAXmUaB91Lg==",
            "gAWVNAEAAAAAAAB9lCiMBG5vbmWUTowBdJSIjAFmlImMBGludHOUXZQoSwBL/00AAU3//0oAAAEASv////9KAAAAgIoFAAAAgACKBgAAAAAAAYoIAAAAAAAAAICKCQAAAAAAAAAAQGWMAmZslF2UKEc/+AAAAAAAAEe/0AAAAAAAAEd+N+Q8iAB1nGWMAXOUjBdwbGFpbiAncScgXCAKIMOp5Lit8J+YgJSMAWKUQwMAAf+UjAN0dXCUKEsBSwJLA4aUKShLAUsCSwNLBHSUdJSMA3NldJQojAF4lJGUjAJvZJSMC2NvbGxlY3Rpb25zlIwLT3JkZXJlZERpY3SUk5QpUpQojAFhlEsBaApLAnWMAWOUaBSMB0NvdW50ZXKUk5R9lEsUSwFzhZRSlGgRXZQoSwFLAmWMAXmUaB91Lg==");

    private static Object load(byte[] pickle) {
        return new Unpickler("test.pkl", MemorySegment.ofArray(pickle), 0, false, null).load();
    }

    private static Object load(String pickle) {
        return load(pickle.getBytes(StandardCharsets.ISO_8859_1));
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 2, 3, 4, 5})
    void everyProtocolGivesTheSameValues(int protocol) {
        Map<?, ?> map = (Map<?, ?>) load(Base64.getDecoder().decode(PROTOCOLS.get(protocol)));
        assertSame(Unpickler.NONE, map.get("none"));
        assertEquals(true, map.get("t"));
        assertEquals(false, map.get("f"));
        assertEquals(
                List.of(
                        0L,
                        255L,
                        256L,
                        65535L,
                        65536L,
                        -1L,
                        -(1L << 31),
                        1L << 31,
                        1L << 40,
                        Long.MIN_VALUE,
                        BigInteger.TWO.pow(70)),
                map.get("ints"));
        assertEquals(List.of(1.5, -0.25, 1e300), map.get("fl"));
        assertEquals("plain 'q' \\ \n \u00e9\u4e2d" + Character.toString(0x1F600), map.get("s"));
        if (protocol >= 3) {
            assertArrayEquals(new byte[] {0, 1, -1}, (byte[]) map.get("b"));
        }
        assertEquals(
                new Unpickler.Tuple(List.of(
                        1L,
                        new Unpickler.Tuple(List.of(2L, 3L)),
                        new Unpickler.Tuple(List.of()),
                        new Unpickler.Tuple(List.of(1L, 2L, 3L, 4L)))),
                map.get("tup"));
        assertEquals(Map.of("a", 1L, "b", 2L), map.get("od"));
        assertEquals(Map.of(20L, 1L), map.get("c"));
        assertSame(map.get("x"), map.get("y"));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "cos\\nsystem\\n(S'ls'\\ntR.|'os.system'",
                "c__builtin__\\neval\\n.|'builtins.eval'",
                "(S'ls'\\nios\\nsystem\\n.|'os.system'",
                "ctorch\\nload\\n.|'torch.load'",
                "ctorch.storage\\n_load_from_bytes\\n.|'torch.storage._load_from_bytes'",
                "ctorch._utils\\n_rebuild_tensor_v2.__globals__\\n.|'torch._utils._rebuild_tensor_v2.__globals__'",
                "c__torch__\\nX\\n.|'__torch__.X'",
                "S'os'\\nS'system'\\n\\u0093.|'os.system'"
            })
    void everyOtherGlobalIsRefusedByName(String pickle, String global) {
        String bytes = pickle.replace("\\n", "\n").replace("\\u0093", "\u0093");
        DamagedDataException e = assertThrows(DamagedDataException.class, () -> load(bytes));
        assertTrue(e.getMessage().contains("refused") && e.getMessage().contains(global), e.getMessage());
    }

    /** Nested tuples that share their parts would hash and print for ever; huge counts would exhaust the heap. */
    @Test
    void bombsAreRefusedOrHarmless() {
        StringBuilder doubling = new StringBuilder("}(");
        doubling.append(")");
        for (int i = 0; i < 100; i++) {
            doubling.append("2\u0086");
        }
        assertThrows(DamagedDataException.class, () -> load(doubling + "Nu."));
        // A list that holds itself is read, and is no dictionary of tensors.
        assertTrue(load("]q\0h\0a.") instanceof List<?>);
        // OrderedDict of one list of pairs, again and again: copied elements are counted.
        StringBuilder copies = new StringBuilder("ccollections\nOrderedDict\nq\0](");
        copies.append("NN\u0086".repeat(20_000)).append("e\u0085q\1");
        copies.append("h\0h\1R0".repeat(200)).append("N.");
        String message = assertThrows(DamagedDataException.class, () -> load(copies.toString()))
                .getMessage();
        assertTrue(message.contains("steps"), message);
        // Claimed lengths beyond the end.
        for (String claim :
                List.of("X\u00ff\u00ff\u00ff\u007f", "B\u00ff\u00ff\u00ff\u00ff", "\u008b\u00ff\u00ff\u00ff\u007f")) {
            assertThrows(DamagedDataException.class, () -> load(claim + "a."));
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                ".",
                "N",
                "NN.",
                "(N.",
                "t.",
                "0.",
                "Na.",
                "]Ns.",
                "}N](s.",
                "h\1.",
                "NR.",
                "P1\n.",
                "\u0080\u0006N.",
                "\u0001."
            })
    void brokenProgramsAreRefused(String pickle) {
        assertThrows(DamagedDataException.class, () -> load(pickle));
    }
}

package org.comneck.entropy;

import com.code_intelligence.jazzer.junit.FuzzTest;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import org.comneck.DamagedDataException;
import org.comneck.backend.Backend;
import org.comneck.backend.RansDecoder;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.bitstream.ArithmeticProfile;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.bitstream.Limits;

/**
 * Arbitrary bytes as a file and as a payload: they are read, or they are damage; nothing else may happen. What a run finds lands in
 * src/test/resources beside this class and is tried first from then on.
 */
class BitstreamFuzzTest {
    private static final Backend BACKEND = new ReferenceBackend(1);
    private static final Backend.Tables GAUSSIAN = BACKEND.tables(RansTest.GAUSSIAN);
    private static final Backend.Tables TINY = BACKEND.tables(RansTest.tiny());

    /** The first byte chooses what the others are. */
    @FuzzTest(maxDuration = "60s")
    void bytes(byte[] data) {
        if (data.length == 0) {
            return;
        }
        byte[] rest = Arrays.copyOfRange(data, 1, data.length);
        switch (data[0] & 3) {
            case 0 -> file(rest);
            case 1 -> payload(rest, TINY, 2);
            case 2 -> payload(rest, GAUSSIAN, 64);
            default -> wrapped(rest);
        }
    }

    private static void file(byte[] bytes) {
        try {
            Container container = Container.read(bytes, Limits.DEFAULT);
            for (int i = 0; i < container.size(); i++) {
                container.image(i);
            }
            if (!Arrays.equals(bytes, container.toByteArray())) {
                throw new AssertionError("read, but not what is written");
            }
        } catch (DamagedDataException e) {
            checked(e, bytes);
        }
    }

    private static void payload(byte[] bytes, Backend.Tables tables, int kinds) {
        byte[] indices = new byte[300];
        for (int i = 0; i < indices.length; i++) {
            indices[i] = (byte) (i * 7 % kinds);
        }
        try (RansDecoder decoder = BACKEND.ransDecoder()) {
            decoder.start(MemorySegment.ofArray(bytes));
            for (int count : new int[] {300, 9, 0, 64}) {
                decoder.decode(tables, MemorySegment.ofArray(indices), MemorySegment.ofArray(new short[count]), count);
            }
            decoder.finish(0);
        } catch (DamagedDataException e) {
            checked(e, bytes);
        }
    }

    /** A payload within a file that says the truth about it. */
    private static void wrapped(byte[] bytes) {
        CodedImage image = new CodedImage(48, 40, 64, 64, 1, true, 7, MemorySegment.ofArray(bytes));
        byte[] file = new Container(ArithmeticProfile.F32_FMA, new byte[16], List.of(image)).toByteArray();
        MemorySegment payload = Container.read(file, Limits.DEFAULT).image(0).payload();
        if (payload.mismatch(MemorySegment.ofArray(bytes)) >= 0) {
            throw new AssertionError("another payload");
        }
    }

    private static void checked(DamagedDataException e, byte[] bytes) {
        if (e.offset() > bytes.length || e.getMessage().isBlank()) {
            throw new AssertionError(e);
        }
    }
}

package org.comneck.backend.reference;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.function.IntConsumer;
import org.comneck.DamagedDataException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;

/** The payloads of a run, one an image, and how far each is decoded. Damage to one image leaves the others unharmed. */
final class ReferencePayloads {
    private final ReferenceRansDecoder[] decoders;
    private final MemorySegment[] payloads;
    private final int[] checksums;
    private final DamagedDataException[] damage;

    ReferencePayloads(int images) {
        decoders = new ReferenceRansDecoder[images];
        payloads = new MemorySegment[images];
        checksums = new int[images];
        damage = new DamagedDataException[images];
        for (int i = 0; i < images; i++) {
            decoders[i] = new ReferenceRansDecoder();
            payloads[i] = MemorySegment.ofArray(new byte[0]);
        }
    }

    int images() {
        return decoders.length;
    }

    void set(int image, MemorySegment bytes, int checksum) {
        payloads[image] = MemorySegment.ofArray(bytes.toArray(ValueLayout.JAVA_BYTE));
        checksums[image] = checksum;
    }

    DamagedDataException damage(int image) {
        return damage[image];
    }

    void start() {
        forEach(i -> {
            damage[i] = null;
            decoders[i].start(payloads[i]);
        });
    }

    void finish() {
        forEach(i -> decoders[i].finish(checksums[i]));
    }

    /** Decodes one pass of one image; zeros when its payload is damaged. */
    void decode(Backend.Tables tables, int image, byte[] indices, short[] symbols) {
        try {
            decoders[image].decode(
                    tables, MemorySegment.ofArray(indices), MemorySegment.ofArray(symbols), symbols.length);
        } catch (DamagedDataException e) {
            remember(image, e);
        }
    }

    /** Copies an image's symbols, channels innermost, into a view. */
    static void store(short[] symbols, Activation view, int image, short[] to) {
        int channels = view.channels();
        for (int p = 0; p < view.positions(); p++) {
            System.arraycopy(symbols, p * channels, to, ReferenceBuffer.index(view, image, p), channels);
        }
    }

    private void forEach(IntConsumer body) {
        for (int i = 0; i < decoders.length; i++) {
            try {
                body.accept(i);
            } catch (DamagedDataException e) {
                remember(i, e);
            }
        }
    }

    private void remember(int image, DamagedDataException e) {
        if (damage[image] == null) {
            damage[image] = e; // the first one says what is wrong
        }
    }
}

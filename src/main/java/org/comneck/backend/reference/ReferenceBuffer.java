package org.comneck.backend.reference;

import java.lang.foreign.MemorySegment;
import org.comneck.backend.Activation;
import org.comneck.tensor.Bfloat16;
import org.comneck.tensor.ElementType;

/**
 * Memory of one buffer. F32 and BF16 values are held as floats, BF16 rounded when it is stored; the host sees BF16 through a copy of its
 * own.
 */
final class ReferenceBuffer {
    final ElementType type;
    final float[] floats;
    final byte[] bytes;
    final short[] shorts;
    final int[] ints;
    private final MemorySegment host;

    ReferenceBuffer(ElementType type, int elements, float[] reused) {
        this.type = type;
        float[] values = null;
        byte[] u8 = null;
        short[] i16 = null;
        int[] i32 = null;
        switch (type) {
            case F32 -> values = reused == null ? new float[elements] : reused;
            case BF16 -> {
                values = reused == null ? new float[elements] : reused;
                i16 = new short[elements];
            }
            case U8 -> u8 = new byte[elements];
            case I16 -> i16 = new short[elements];
            case I32 -> i32 = new int[elements];
            default -> throw new IllegalArgumentException("no buffers of " + type);
        }
        floats = values;
        bytes = u8;
        shorts = i16;
        ints = i32;
        MemorySegment whole = switch (type) {
            case F32 -> MemorySegment.ofArray(floats);
            case U8 -> MemorySegment.ofArray(bytes);
            case I32 -> MemorySegment.ofArray(ints);
            default -> MemorySegment.ofArray(shorts);
        };
        host = whole.asSlice(0, (long) elements * type.bytes());
    }

    MemorySegment host() {
        return host;
    }

    /** The host's BF16 values become ours. */
    void readHost() {
        if (type == ElementType.BF16) {
            for (int i = 0; i < shorts.length; i++) {
                floats[i] = Bfloat16.toFloat(shorts[i]);
            }
        }
    }

    /** Our BF16 values become the host's. */
    void writeHost() {
        if (type == ElementType.BF16) {
            for (int i = 0; i < shorts.length; i++) {
                shorts[i] = Bfloat16.toBits(floats[i]);
            }
        }
    }

    /** Where channel 0 of a position of a view lies. */
    static int index(Activation view, int image, int position) {
        return (image * view.positions() + position) * view.channelStride() + view.channelOffset();
    }
}

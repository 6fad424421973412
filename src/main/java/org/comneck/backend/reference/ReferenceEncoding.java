package org.comneck.backend.reference;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.RansEncoder;

/** The encoding step of a run. An image that cannot be encoded harms no other one. */
final class ReferenceEncoding {
    /** Symbols of all images; indices of all images, or of one for each of them. */
    record Pass(Backend.Tables tables, byte[] indices, boolean everyImage, short[] symbols, int count) {}

    private final List<Pass> passes;
    private final int substreams;
    private final RansEncoder.Encoded[] encoded;
    private final IllegalArgumentException[] failures;

    ReferenceEncoding(List<Pass> passes, int images, int substreams) {
        this.passes = passes;
        this.substreams = substreams;
        this.encoded = new RansEncoder.Encoded[images];
        this.failures = new IllegalArgumentException[images];
    }

    static byte[] channels(Activation symbols) {
        byte[] indices = new byte[symbols.positions() * symbols.channels()];
        for (int i = 0; i < indices.length; i++) {
            indices[i] = (byte) (i % symbols.channels());
        }
        return indices;
    }

    void encode() {
        for (int image = 0; image < encoded.length; image++) {
            List<RansEncoder.Pass> one = new ArrayList<>();
            for (Pass pass : passes) {
                long count = pass.count();
                long from = pass.everyImage() ? image * count : 0;
                MemorySegment indices = MemorySegment.ofArray(pass.indices()).asSlice(from, count);
                MemorySegment symbols = MemorySegment.ofArray(pass.symbols()).asSlice(2 * image * count, 2 * count);
                one.add(new RansEncoder.Pass(pass.tables(), indices, symbols, pass.count()));
            }
            encoded[image] = null;
            failures[image] = null;
            try {
                encoded[image] = new ReferenceRansEncoder().encode(one, substreams);
            } catch (IllegalArgumentException e) {
                failures[image] = e;
            }
        }
    }

    RansEncoder.Encoded encoded(int image) {
        if (image < 0 || image >= encoded.length || encoded[image] == null && failures[image] == null) {
            throw new IllegalArgumentException("nothing was encoded of image " + image);
        }
        if (failures[image] != null) {
            throw failures[image];
        }
        return encoded[image];
    }
}

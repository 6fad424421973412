package org.comneck.backend;

import java.lang.foreign.MemorySegment;

/** Encodes the symbols of one image; twin of the decoding operations of {@link RunBuilder}. */
public interface RansEncoder {
    /**
     * One pass of symbols that share a set of tables.
     *
     * @param tables tables of the pass
     * @param indices U8 table of each symbol, in coding order
     * @param values I16 value of each symbol, in coding order
     * @param count number of symbols
     */
    record Pass(Backend.Tables tables, MemorySegment indices, MemorySegment values, int count) {}

    /**
     * Encodes all passes of one image, in decoding order.
     *
     * @param passes in the order in which the decoder will ask for them
     * @param substreams number of 8-lane substreams, 1 to 32; 0 chooses about one for every 2 KiB of payload
     * @return the payload, laid out as docs/format.md says
     */
    byte[] encode(java.util.List<Pass> passes, int substreams);
}

package org.comneck.backend;

import java.lang.foreign.MemorySegment;
import java.util.List;

/** Encodes the symbols of one image; twin of the decoding operations of {@link RunBuilder}. One thread at a time. */
public interface RansEncoder {
    /**
     * One pass of symbols that share a set of tables.
     *
     * @param tables tables of the pass, of the backend that made this encoder
     * @param indices U8 table of each symbol, in coding order
     * @param values I16 value of each symbol, in coding order
     * @param count number of symbols
     */
    record Pass(Backend.Tables tables, MemorySegment indices, MemorySegment values, int count) {}

    /**
     * An encoded image.
     *
     * @param payload laid out as docs/format.md says
     * @param symbolChecksum CRC32C of the values of all passes in coding order, 16 bits little-endian each
     */
    record Encoded(byte[] payload, int symbolChecksum) {}

    /** Most substreams that a payload may have. */
    int MAX_SUBSTREAMS = 32;

    /**
     * Encodes all passes of one image, in decoding order. The same bytes on every backend.
     *
     * @param passes in the order in which the decoder will ask for them
     * @param substreams number of 8-lane substreams, 1 to 32; 0 chooses about one for every 2 KiB of payload
     * @throws IllegalArgumentException when an index has no table, or memory is shorter than its count
     */
    Encoded encode(List<Pass> passes, int substreams);
}

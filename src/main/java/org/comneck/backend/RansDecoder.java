package org.comneck.backend;

import java.lang.foreign.MemorySegment;
import org.comneck.DamagedDataException;

/**
 * Decodes the symbols of one image, pass by pass: what the decoding steps of a {@link Run} do, for use without one. One thread at a time.
 * Never reads outside of the payload, whatever its bytes are.
 */
public interface RansDecoder extends AutoCloseable {
    /**
     * Begins with an image. May be called at any time: what was left of the image before is forgotten.
     *
     * @param payload what {@link RansEncoder#encode} made; copied
     * @throws DamagedDataException when the payload's head is not possible
     */
    void start(MemorySegment payload);

    /**
     * The next pass.
     *
     * @param tables tables of the pass, of this decoder's backend
     * @param indices U8 table of each symbol, in coding order
     * @param symbols I16, written; zeros where the payload turns out to be damaged
     * @param count number of symbols
     * @throws DamagedDataException when the payload ends too early or holds an impossible escape; every later pass throws as well
     * @throws IllegalArgumentException when an index has no table, or memory is shorter than {@code count}
     */
    void decode(Backend.Tables tables, MemorySegment indices, MemorySegment symbols, int count);

    /**
     * After the last pass: every lane must have ended where encoding began, every bit and word must be used, and the symbols must be the
     * encoder's.
     *
     * @param symbolChecksum {@link RansEncoder.Encoded#symbolChecksum()}
     * @throws DamagedDataException when one of these does not hold
     */
    void finish(int symbolChecksum);

    @Override
    void close();
}

package org.comneck.backend;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;
import org.comneck.DamagedDataException;

/**
 * A recorded run: buffers allocated, weights bound, steps fixed. Executing it allocates nothing. One thread at a time.
 */
public interface Run extends AutoCloseable {
    /**
     * Host memory of an input or output, all images, row-major NHWC. Inputs are read by {@link #execute}, outputs are valid from its
     * return until the next call.
     *
     * @param port an activation that {@link RunBuilder#input} or {@link RunBuilder#output} named
     */
    MemorySegment memory(Activation port);

    /**
     * Hands over an image's payload for the decoding steps of the next {@link #execute}. Copied. Any bytes are allowed: what is wrong with
     * them is told by {@link #damage}.
     *
     * @param image number in the batch
     * @param bytes what {@link RansEncoder#encode} made, from a file or the network
     * @param symbolChecksum checksum of the symbols that must come out, see {@link RansEncoder.Encoded}
     */
    void payload(int image, MemorySegment bytes, int symbolChecksum);

    /** Executes all steps. */
    void execute();

    /** What was wrong with an image's payload in the last {@link #execute}, or null. Other images of the batch are unharmed. */
    DamagedDataException damage(int image);

    /**
     * The payload that {@link RunBuilder#encodePayloads} made of an image in the last {@link #execute}. A copy.
     *
     * @throws IllegalArgumentException when an index had no table, which harms no other image, or nothing was encoded
     */
    RansEncoder.Encoded encoded(int image);

    /** Nanoseconds that each stage took in the last {@link #execute}, in the order of {@link RunBuilder#stage}. */
    long stageNanos(int stage);

    /** Names of the stages, in the order in which {@link RunBuilder#stage} began them; a name may come twice. */
    List<String> stages();

    /** Bytes of buffers that this run owns. */
    long bytes();

    /**
     * How many kernels of each kind an execution launches on a device, by the names of comneck_cuda.h in small letters, like
     * {@code tensor_gemm}: whether a run takes the fast path can be read here. Empty on a processor.
     */
    default Map<String, Long> launches() {
        return Map.of();
    }

    /** Frees the buffers. Idempotent. */
    @Override
    void close();
}

package org.comneck.backend;

import org.comneck.tensor.Tensor;

/**
 * A place where the networks run. Thread-safe: layers and runs may be made from several threads; one run is executed by one thread
 * at a time.
 */
public interface Backend extends AutoCloseable {
    /** {@code reference}, {@code cpu} or {@code cuda}. */
    String name();

    /** One line for people: kernels chosen, instruction set, threads. */
    String description();

    /**
     * Packs a layer's weights.
     *
     * @param geometry what the layer computes
     * @param weight F32, F16 or BF16 in PyTorch's layout (see {@link Convolution.Kind}; linear layers may have rank 2, patches rank 4);
     *     read once, here
     * @param bias F32, F16 or BF16 [outputChannels], or null for zeros
     * @param precision arithmetic of the layer
     */
    Layer layer(Convolution geometry, Tensor weight, Tensor bias, Precision precision);

    /** Whether it has layers of this precision. */
    default boolean computes(Precision precision) {
        return precision != Precision.F16;
    }

    /** Packs coding tables. */
    Tables tables(CodingTables tables);

    /** Starts recording a run. */
    RunBuilder newRun();

    /** An encoder of symbols. Each caller makes its own. */
    RansEncoder ransEncoder();

    /** A decoder of symbols for use without a run. Each caller makes its own. */
    default RansDecoder ransDecoder() {
        throw new UnsupportedOperationException(name() + " decodes within runs only");
    }

    /** Frees what the backend owns. Layers and runs must be closed before. Idempotent. */
    @Override
    void close();

    /** Coding tables packed for one backend. */
    interface Tables extends AutoCloseable {
        /** What was packed. */
        CodingTables source();

        @Override
        void close();
    }
}

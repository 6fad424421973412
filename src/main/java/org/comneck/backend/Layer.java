package org.comneck.backend;

/** Weights of one layer, packed for one backend and owned by it until closed. Shared by any number of runs and threads. */
public interface Layer extends AutoCloseable {
    /** The layer's geometry. */
    Convolution geometry();

    /** The layer's arithmetic. */
    Precision precision();

    /** Memory of the packed weights, a device's where that is where they lie. */
    long bytes();

    /** Frees the packed weights. Runs that use the layer must be closed before. Idempotent. */
    @Override
    void close();
}

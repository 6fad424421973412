package org.comneck.backend.reference;

import java.util.concurrent.ForkJoinPool;
import java.util.stream.IntStream;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.Convolution;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.RansDecoder;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.RunBuilder;
import org.comneck.tensor.Tensor;

/**
 * Plain Java on {@link Math#fma}: the definition of canonical arithmetic, and usable wherever a JVM runs. Rows of an output are computed
 * in parallel; every element is computed by one thread, so that the number of threads does not show in the bits.
 *
 * <p>Unlike the native backends its runs allocate a little while they execute.
 */
public final class ReferenceBackend implements Backend {
    private final ForkJoinPool pool;

    /** As many threads as the machine has processors. */
    public ReferenceBackend() {
        this(Runtime.getRuntime().availableProcessors());
    }

    /** This many threads. */
    public ReferenceBackend(int threads) {
        if (threads < 1) {
            throw new IllegalArgumentException("threads " + threads);
        }
        this.pool = new ForkJoinPool(threads);
    }

    @Override
    public String name() {
        return "reference";
    }

    @Override
    public String description() {
        return "reference: plain Java, " + pool.getParallelism() + " threads";
    }

    @Override
    public Layer layer(Convolution geometry, Tensor weight, Tensor bias, Precision precision) {
        return new ReferenceLayer(geometry, weight, bias, precision);
    }

    @Override
    public Tables tables(CodingTables tables) {
        return ReferenceCoding.tables(tables);
    }

    @Override
    public RunBuilder newRun() {
        return new ReferenceRunBuilder(this);
    }

    @Override
    public RansEncoder ransEncoder() {
        return ReferenceCoding.encoder();
    }

    @Override
    public RansDecoder ransDecoder() {
        return ReferenceCoding.decoder();
    }

    @Override
    public void close() {
        pool.shutdown();
    }

    /** Calls {@code body} with 0 .. count - 1, in any order, from the pool's threads. */
    void parallel(int count, java.util.function.IntConsumer body) {
        if (count == 1 || pool.getParallelism() == 1) {
            for (int i = 0; i < count; i++) {
                body.accept(i);
            }
        } else {
            pool.submit(() -> IntStream.range(0, count).parallel().forEach(body))
                    .join();
        }
    }
}

package org.comneck.engine;

import java.lang.foreign.MemorySegment;
import org.comneck.DamagedDataException;
import org.comneck.bitstream.CodedImage;
import org.comneck.tensor.Shape;

/**
 * Bitstream to tokens for one size of picture, with memory that the caller owns: nothing is allocated per call. For one thread at a time;
 * close it to give it back to its engine.
 */
public final class PreparedTokens implements AutoCloseable {
    private final NativeEngine engine;
    private final PreparedRun run;
    private final MemorySegment result;
    private final MemorySegment gains;
    private final Shape shape;
    private double gained = Double.NaN;
    private boolean closed;

    PreparedTokens(NativeEngine engine, PreparedRun run) {
        this.engine = engine;
        this.run = run;
        this.result = run.memory(run.result(), 0);
        this.gains = run.gains() == null ? null : run.memory(run.gains(), 0);
        this.shape = Shape.of(run.result().positions(), run.result().channels());
    }

    /** [tokens, D] of what {@link #run} writes. */
    public Shape shape() {
        return shape;
    }

    /** Bytes that {@link #run} writes: f32 elements. */
    public long bytes() {
        return result.byteSize();
    }

    /**
     * Decodes an image of the prepared size.
     *
     * @param image from a container of this engine's model; a payload in native memory is not copied on the heap
     * @param tokens at least {@link #bytes} bytes, f32 little-endian in {@link #shape}; unchanged when an exception is thrown
     * @throws DamagedDataException when the payload is damaged
     */
    public void run(CodedImage image, MemorySegment tokens) {
        if (closed) {
            throw new IllegalStateException("closed");
        }
        if (image.paddedHeight() != run.key().height()
                || image.paddedWidth() != run.key().width()) {
            throw new IllegalArgumentException("prepared for " + run.key().width() + "x"
                    + run.key().height() + ", not " + image.paddedWidth() + "x" + image.paddedHeight());
        }
        if (gains != null && image.quality() != gained) {
            engine.fillInverseGains(gains, image.quality());
            gained = image.quality();
        }
        run.run().payload(0, image.payload(), image.symbolChecksum());
        run.execute();
        DamagedDataException damage = run.run().damage(0);
        if (damage != null) {
            throw damage;
        }
        MemorySegment.copy(result, 0, tokens, 0, result.byteSize());
    }

    /** Gives the buffers back. Idempotent. */
    @Override
    public void close() {
        if (!closed) {
            closed = true;
            engine.giveBack(run);
        }
    }
}

package org.comneck.engine;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import org.comneck.DamagedDataException;
import org.comneck.DeviceException;
import org.comneck.bitstream.CodedImage;
import org.comneck.tensor.Shape;

/**
 * Bitstreams to tokens for one size of picture and of batch, with memory that the caller owns: nothing is allocated per call. For one thread
 * at a time; close it to give it back to its engine.
 */
public final class PreparedTokens implements AutoCloseable {
    private final NativeEngine engine;
    private final RunPool pool;
    private final PreparedRun run;
    private final MemorySegment[] results;
    private final MemorySegment[] gains; // or null
    private final double[] gained;
    private final Shape shape;
    private boolean closed;

    PreparedTokens(NativeEngine engine, RunPool pool, PreparedRun run) {
        this.engine = engine;
        this.pool = pool;
        this.run = run;
        int images = run.key().images();
        this.results = new MemorySegment[images];
        this.gains = run.gains() == null ? null : new MemorySegment[images];
        this.gained = new double[images];
        Arrays.fill(gained, Double.NaN);
        for (int b = 0; b < images; b++) {
            results[b] = run.memory(run.result(), b);
            if (gains != null) {
                gains[b] = run.memory(run.gains(), b);
            }
        }
        this.shape = Shape.of(run.result().positions(), run.result().channels());
    }

    /** Images of a batch. */
    public int images() {
        return results.length;
    }

    /** [tokens, D] of each image. */
    public Shape shape() {
        return shape;
    }

    /** Bytes of one image's tokens: f32 elements. */
    public long bytes() {
        return results[0].byteSize();
    }

    /**
     * Decodes an image of the prepared size; for a batch of one.
     *
     * @param image from a container of this engine's model; a payload in native memory is not copied on the heap
     * @param tokens at least {@link #bytes} bytes, f32 little-endian in {@link #shape}; unchanged when an exception is thrown
     * @throws DamagedDataException when the payload is damaged
     */
    public void run(CodedImage image, MemorySegment tokens) {
        if (results.length != 1) {
            throw new IllegalArgumentException("prepared for batches of " + results.length);
        }
        set(0, image);
        execute();
        DamagedDataException damage = damage(0);
        if (damage != null) {
            throw damage;
        }
        MemorySegment.copy(results[0], 0, tokens, 0, results[0].byteSize());
    }

    /**
     * Names an image of the next {@link #execute}.
     *
     * @param b its place in the batch
     * @param image of the prepared size, from a container of this engine's model; its payload is copied
     * @throws DamagedDataException when its quality is none of the model's
     */
    public void set(int b, CodedImage image) {
        if (closed) {
            throw new IllegalStateException("closed");
        }
        if (image.paddedHeight() != run.key().height()
                || image.paddedWidth() != run.key().width()) {
            throw new IllegalArgumentException("prepared for " + run.key().width() + "x"
                    + run.key().height() + ", not " + image.paddedWidth() + "x" + image.paddedHeight());
        }
        engine.checkQuality(image);
        if (gains != null && image.quality() != gained[b]) {
            engine.fillInverseGains(gains[b], image.quality());
            gained[b] = image.quality();
        }
        run.run().payload(b, image.payload(), image.symbolChecksum());
    }

    /**
     * Decodes the batch, every place of which was set. Bits do not depend on what else is in it.
     *
     * @throws DeviceException when a GPU failed. Tokens prepared anew are on the processor, where the engine was opened with {@code auto}
     */
    public void execute() {
        if (closed) {
            throw new IllegalStateException("closed");
        }
        try {
            run.execute();
        } catch (DeviceException e) {
            engine.failed(pool, e);
            throw e;
        }
    }

    /** What was wrong with an image in the last {@link #execute}, or null. The others of its batch are unharmed. */
    public DamagedDataException damage(int b) {
        return run.run().damage(b);
    }

    /** Tokens of an image that was not damaged: {@link #bytes} bytes, valid until the next {@link #execute} or {@link #close}. */
    public MemorySegment tokens(int b) {
        return results[b];
    }

    /** Gives the buffers back. Idempotent. */
    @Override
    public void close() {
        if (!closed) {
            closed = true;
            pool.giveBack(run);
        }
    }
}

package org.comneck.engine;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.LongAdder;
import org.comneck.backend.Activation;
import org.comneck.backend.Run;
import org.comneck.codec.Codec;

/**
 * A recorded run of the engine with its ports. Used by one thread at a time; waits in {@link RunPool} between uses.
 *
 * @param key what it was prepared for
 * @param totals where each stage's nanoseconds are added
 * @param pixels U8 input, or null
 * @param gains F32 input, or null
 * @param coded ports of coding, or null
 * @param result output of tokens, logits, latents or pixels, or null
 */
record PreparedRun(
        Key key, Run run, LongAdder[] totals, Activation pixels, Activation gains, Codec.Coded coded, Activation result)
        implements AutoCloseable {
    /** What a run does. */
    enum Kind {
        /** A photo to what the codec takes. */
        RESIZE,
        /** A photo to what the encoder takes. */
        RESIZE_FOR_ENCODER,
        ENCODE,
        LATENTS,
        TOKENS,
        PHOTO,
        CLASSES,
        CLASSES_OF_PIXELS
    }

    /**
     * What a run is prepared for.
     *
     * @param images batch size
     * @param height of the padded picture in pixels, or of the photo that is resized
     * @param width likewise
     * @param options of tokens, null for the other kinds
     */
    record Key(Kind kind, int images, int height, int width, TokenOptions options) {}

    static PreparedRun of(
            Key key,
            Run run,
            Map<String, LongAdder> timings,
            Activation pixels,
            Activation gains,
            Codec.Coded coded,
            Activation result) {
        List<String> stages = run.stages();
        LongAdder[] totals = new LongAdder[stages.size()];
        for (int i = 0; i < totals.length; i++) {
            totals[i] = timings.computeIfAbsent(stages.get(i), name -> new LongAdder());
        }
        return new PreparedRun(key, run, totals, pixels, gains, coded, result);
    }

    /** Executes all steps. */
    void execute() {
        run.execute();
        for (int i = 0; i < totals.length; i++) {
            totals[i].add(run.stageNanos(i));
        }
    }

    /** Memory of one image of a port. */
    MemorySegment memory(Activation port, int image) {
        MemorySegment all = run.memory(port);
        long bytes = all.byteSize() / port.images();
        return all.asSlice(image * bytes, bytes);
    }

    @Override
    public void close() {
        run.close();
    }
}

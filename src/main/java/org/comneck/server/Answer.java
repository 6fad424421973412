package org.comneck.server;

import io.netty.buffer.ByteBuf;
import java.util.List;
import org.comneck.engine.Classification;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;

/** The one answer of an accepted request. Its buffer belongs to the responder, which releases it. */
public sealed interface Answer {
    /** Gives buffers back, where nobody wants the answer any more. */
    default void release() {}

    /**
     * Visual tokens.
     *
     * @param type F32, F16 or BF16
     * @param shape [tokens, D], or [images, tokens, D] of a bitstream of several images
     * @param data elements, little-endian, row-major
     * @param identity of the model, 16 bytes
     * @param version of the model that computed them
     * @param layer output of which block, as it was asked for or as the model says
     */
    record Tokens(ElementType type, Shape shape, ByteBuf data, byte[] identity, String version, int layer)
            implements Answer {
        @Override
        public void release() {
            data.release();
        }
    }

    /** A ComNeck bitstream, docs/format.md. */
    record Bitstream(ByteBuf data) implements Answer {
        @Override
        public void release() {
            data.release();
        }
    }

    /** A picture for people, PNG. */
    record Picture(ByteBuf png, int width, int height) implements Answer {
        @Override
        public void release() {
            png.release();
        }
    }

    /** Of each image the likeliest classes, best first. */
    record Classes(List<List<Classification>> images) implements Answer {}

    /**
     * No result.
     *
     * @param message says what is wrong and what to do; safe to show to the client
     * @param offset byte of the body where damage was found, or -1
     */
    record Failure(Reason reason, String message, long offset) implements Answer {}
}

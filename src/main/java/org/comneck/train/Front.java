package org.comneck.train;

import org.bytedeco.pytorch.Tensor;

/** What stands between a codec and a frozen encoder. */
interface Front {
    /** Block of the encoder that its tokens enter. */
    int entry();

    /** Whether it needs decoded pictures; latents are there always. */
    boolean readsPictures();

    /**
     * Tokens of pictures.
     *
     * @param coded what came out of the codec
     * @param grid patches on a side
     * @return F32 (B,1+grid*grid,D)
     */
    Tensor tokens(CodecNetwork.Result coded, int grid);

    /** The neck: latents to tokens. */
    static Front of(NeckNetwork neck, int entry) {
        return new Front() {
            @Override
            public int entry() {
                return entry;
            }

            @Override
            public boolean readsPictures() {
                return false;
            }

            @Override
            public Tensor tokens(CodecNetwork.Result coded, int grid) {
                return neck.run(coded.yHat());
            }
        };
    }

    /** Decoded pictures of 8 bits through a U-Net, and through the encoder's own embedding. */
    static Front of(PostNetwork post, FrozenEncoder encoder) {
        return new Front() {
            @Override
            public int entry() {
                return 0;
            }

            @Override
            public boolean readsPictures() {
                return true;
            }

            @Override
            public Tensor tokens(CodecNetwork.Result coded, int grid) {
                Tensor decoded =
                        Ops.scaled(Ops.scaled(Ops.clamp01(coded.xHat()), 255).round(), 1.0 / 255);
                return encoder.embed(Ops.clamp01(post.run(decoded)), grid);
            }
        };
    }
}

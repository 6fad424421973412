package org.comneck.engine;

import org.comneck.vision.VisionEncoder;

/**
 * Which tokens leave the encoder.
 *
 * @param layer output of that many blocks; negative from the end, -1 is the last block's, -2 that of the one before
 * @param select class token and patches, patches, or the class token
 * @param postNorm how often the encoder's final norm is applied
 * @param projected whether tokens are multiplied by the encoder's projection
 * @param entry block that the neck's output enters, or {@link #MODEL_ENTRY} for the one that the manifest names
 */
public record TokenOptions(
        int layer, VisionEncoder.Tokens select, VisionEncoder.PostNorm postNorm, boolean projected, int entry) {
    /** The entry that the model's manifest names. */
    public static final int MODEL_ENTRY = -1;

    /** What LLaVA takes: the patches of the last block but one, as they are. */
    public static final TokenOptions DEFAULT =
            new TokenOptions(-2, VisionEncoder.Tokens.PATCHES, VisionEncoder.PostNorm.NONE, false, MODEL_ENTRY);

    public TokenOptions withLayer(int number) {
        return new TokenOptions(number, select, postNorm, projected, entry);
    }

    public TokenOptions withSelect(VisionEncoder.Tokens tokens) {
        return new TokenOptions(layer, tokens, postNorm, projected, entry);
    }

    public TokenOptions withPostNorm(VisionEncoder.PostNorm norm) {
        return new TokenOptions(layer, select, norm, projected, entry);
    }

    public TokenOptions withProjected(boolean projection) {
        return new TokenOptions(layer, select, postNorm, projection, entry);
    }

    public TokenOptions withEntry(int block) {
        return new TokenOptions(layer, select, postNorm, projected, block);
    }
}

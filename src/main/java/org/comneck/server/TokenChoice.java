package org.comneck.server;

import org.comneck.engine.TokenOptions;
import org.comneck.tensor.ElementType;
import org.comneck.vision.VisionEncoder;

/**
 * Which tokens a client asked for; what it left open is the model's default.
 *
 * @param layer output of that many blocks, negative from the end, or null
 * @param select or null
 * @param postNorm or null
 * @param projected or null
 * @param type of the answer's elements: F32, F16 or BF16
 */
public record TokenChoice(
        Integer layer,
        VisionEncoder.Tokens select,
        VisionEncoder.PostNorm postNorm,
        Boolean projected,
        ElementType type) {
    /** All as the model says, in F16. */
    public static final TokenChoice DEFAULT = new TokenChoice(null, null, null, null, ElementType.F16);

    public TokenChoice {
        if (type != ElementType.F32 && type != ElementType.F16 && type != ElementType.BF16) {
            throw new IllegalArgumentException("tokens in " + type);
        }
    }

    /** What the engine is asked for. */
    TokenOptions over(TokenOptions defaults) {
        TokenOptions options = defaults;
        if (layer != null) {
            options = options.withLayer(layer);
        }
        if (select != null) {
            options = options.withSelect(select);
        }
        if (postNorm != null) {
            options = options.withPostNorm(postNorm);
        }
        if (projected != null) {
            options = options.withProjected(projected);
        }
        return options;
    }

    public TokenChoice withType(ElementType elements) {
        return new TokenChoice(layer, select, postNorm, projected, elements);
    }
}

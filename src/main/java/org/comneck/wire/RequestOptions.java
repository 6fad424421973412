package org.comneck.wire;

import org.comneck.tensor.ElementType;
import org.comneck.vision.VisionEncoder;

/**
 * What a request asks for. What is null the server chooses as the model's manifest says.
 *
 * @param model {@code name} or {@code name/version}, at most 200 bytes of UTF-8; null for the server's default
 * @param layer output of that many blocks, negative from the end; or null
 * @param select class token and patches, patches, or the class token; or null
 * @param postNorm how often the final norm is applied; or null
 * @param projected whether tokens are multiplied by the encoder's projection; or null
 * @param type F32, F16 or BF16
 */
public record RequestOptions(
        String model,
        Integer layer,
        VisionEncoder.Tokens select,
        VisionEncoder.PostNorm postNorm,
        Boolean projected,
        ElementType type) {
    /** The model's defaults, as f16. */
    public static final RequestOptions DEFAULT = new RequestOptions(null, null, null, null, null, ElementType.F16);

    public RequestOptions {
        if (type != ElementType.F32 && type != ElementType.F16 && type != ElementType.BF16) {
            throw new IllegalArgumentException("tokens are F32, F16 or BF16, not " + type);
        }
    }

    public RequestOptions withModel(String name) {
        return new RequestOptions(name, layer, select, postNorm, projected, type);
    }

    public RequestOptions withLayer(int number) {
        return new RequestOptions(model, number, select, postNorm, projected, type);
    }

    public RequestOptions withSelect(VisionEncoder.Tokens tokens) {
        return new RequestOptions(model, layer, tokens, postNorm, projected, type);
    }

    public RequestOptions withPostNorm(VisionEncoder.PostNorm norm) {
        return new RequestOptions(model, layer, select, norm, projected, type);
    }

    public RequestOptions withProjected(boolean projection) {
        return new RequestOptions(model, layer, select, postNorm, projection, type);
    }

    public RequestOptions withType(ElementType elements) {
        return new RequestOptions(model, layer, select, postNorm, projected, elements);
    }
}

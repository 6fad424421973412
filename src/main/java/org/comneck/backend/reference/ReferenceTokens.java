package org.comneck.backend.reference;

import org.comneck.backend.Activation;

/** Attention and LayerNorm, whose sums over a row run in one order that does not depend on a vector width. */
final class ReferenceTokens {
    private ReferenceTokens() {}

    /** Sixteen partial sums by index modulo 16, then those in order. */
    static float sum(float[] values, int from, int count) {
        float[] partial = new float[16];
        for (int i = 0; i < count; i++) {
            partial[i & 15] = partial[i & 15] + values[from + i];
        }
        return total(partial);
    }

    private static float total(float[] partial) {
        float total = partial[0];
        for (int i = 1; i < 16; i++) {
            total = total + partial[i];
        }
        return total;
    }

    /**
     * One row: {@code fma((x - mean) * inverse, weight, bias)} with {@code mean = sum(x) / D}, {@code variance = sum((x - mean)^2) / D}, each
     * square added to its partial sum by one fused multiply-add, and {@code inverse = 1 / (float) sqrt(variance + epsilon)}.
     */
    static void layerNorm(
            float[] x, int from, int width, float[] weight, float[] bias, float epsilon, float[] out, int to) {
        float mean = sum(x, from, width) / width;
        float[] partial = new float[16];
        for (int c = 0; c < width; c++) {
            float d = x[from + c] - mean;
            partial[c & 15] = Math.fma(d, d, partial[c & 15]);
        }
        float variance = total(partial) / width;
        float inverse = 1f / (float) Math.sqrt(variance + epsilon);
        for (int c = 0; c < width; c++) {
            out[to + c] = Math.fma((x[from + c] - mean) * inverse, weight[c], bias[c]);
        }
    }

    /**
     * One head of one image: {@code q, k, v (N,d) -> out (N,d)}. Scores are chains of fused multiply-adds over d from 0, times {@code (float)
     * (1 / sqrt(d))}; e = exp(score - max); an output is a chain over the keys of e * v from 0, times {@code 1 / sum(e)}.
     */
    static void attention(
            float[] qkv, Activation view, int image, int head, int heads, float[] out, Activation destination) {
        int tokens = view.positions();
        int width = destination.channels();
        int depth = width / heads;
        float scale = (float) (1.0 / Math.sqrt(depth));
        float[][] keys = new float[depth][tokens]; // transposed, so that the innermost loop runs over keys
        float[][] values = new float[tokens][depth];
        for (int t = 0; t < tokens; t++) {
            int at = ReferenceBuffer.index(view, image, t) + head * depth;
            for (int d = 0; d < depth; d++) {
                keys[d][t] = qkv[at + width + d];
            }
            System.arraycopy(qkv, at + 2 * width, values[t], 0, depth);
        }
        float[] scores = new float[tokens];
        float[] sum = new float[depth];
        for (int t = 0; t < tokens; t++) {
            int query = ReferenceBuffer.index(view, image, t) + head * depth;
            java.util.Arrays.fill(scores, 0f);
            for (int d = 0; d < depth; d++) {
                ReferenceConvolution.oneRow(scores, keys[d], qkv[query + d], tokens);
            }
            float max = Float.NEGATIVE_INFINITY;
            for (int j = 0; j < tokens; j++) {
                scores[j] = scores[j] * scale;
                max = Math.max(max, scores[j]);
            }
            for (int j = 0; j < tokens; j++) {
                scores[j] = CanonicalMath.exp(scores[j] - max);
            }
            float inverse = 1f / sum(scores, 0, tokens);
            java.util.Arrays.fill(sum, 0f);
            for (int j = 0; j < tokens; j++) {
                ReferenceConvolution.oneRow(sum, values[j], scores[j], depth);
            }
            int to = ReferenceBuffer.index(destination, image, t) + head * depth;
            for (int d = 0; d < depth; d++) {
                out[to + d] = sum[d] * inverse;
            }
        }
    }
}

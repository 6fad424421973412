package org.comneck.eval;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Base64;

/**
 * What was measured of one photo on one path at one quality: a line of results.jsonl.
 *
 * @param key of model, path, quality and kind of picture
 * @param photo hash of the photo's file
 * @param pixels of the picture, padding excluded
 * @param bytes of the file it was sent as, 0 when uncompressed
 * @param estimatedBits information content of the symbols, NaN when unknown
 * @param psnr in dB, at most 100, NaN where no picture was made
 * @param msSsim likewise, or when the picture is too small for it
 * @param top five likeliest classes by number; may be empty
 * @param feature class token that classes are told by; empty without an encoder
 * @param similarity by layer (number of blocks): cosine of the class token, its relative error, mean cosine of patch tokens, their relative
 *     error, each against the encoder fed with the uncompressed picture; null for layers that the path does not have
 */
record Row(
        String key,
        String photo,
        long pixels,
        long bytes,
        double estimatedBits,
        double psnr,
        double msSsim,
        int[] top,
        float[] feature,
        double[][] similarity) {
    private static final JsonMapper JSON = new JsonMapper();

    double bitsPerPixel() {
        return 8.0 * bytes / pixels;
    }

    String toJson() {
        ObjectNode node = JSON.createObjectNode()
                .put("key", key)
                .put("photo", photo)
                .put("pixels", pixels)
                .put("bytes", bytes);
        put(node, "estimated_bits", estimatedBits);
        put(node, "psnr", psnr);
        put(node, "ms_ssim", msSsim);
        ArrayNode classes = node.putArray("top");
        for (int one : top) {
            classes.add(one);
        }
        ByteBuffer vector = ByteBuffer.allocate(4 * feature.length).order(ByteOrder.LITTLE_ENDIAN);
        vector.asFloatBuffer().put(feature);
        node.put("feature", Base64.getEncoder().encodeToString(vector.array()));
        ArrayNode layers = node.putArray("similarity");
        for (double[] layer : similarity) {
            if (layer == null) {
                layers.addNull();
                continue;
            }
            ArrayNode values = layers.addArray();
            for (double value : layer) {
                values.add(Math.round(value * 1e6) / 1e6);
            }
        }
        return node.toString();
    }

    /** A line of the file, or null when it is not whole: the last one of a run that was killed, or of a full disk. */
    static Row parse(String line) {
        try {
            JsonNode node = JSON.readTree(line);
            ByteBuffer vector = ByteBuffer.wrap(
                            Base64.getDecoder().decode(node.path("feature").asText()))
                    .order(ByteOrder.LITTLE_ENDIAN);
            float[] feature = new float[vector.remaining() / 4];
            vector.asFloatBuffer().get(feature);
            JsonNode layers = node.get("similarity");
            double[][] similarity = new double[layers.size()][];
            for (int k = 0; k < similarity.length; k++) {
                if (!layers.get(k).isNull()) {
                    similarity[k] = new double[layers.get(k).size()];
                    for (int i = 0; i < similarity[k].length; i++) {
                        similarity[k][i] = layers.get(k).get(i).asDouble();
                    }
                }
            }
            int[] top = new int[node.get("top").size()];
            for (int i = 0; i < top.length; i++) {
                top[i] = node.get("top").get(i).asInt();
            }
            return new Row(
                    node.get("key").asText(),
                    node.get("photo").asText(),
                    node.get("pixels").asLong(),
                    node.get("bytes").asLong(),
                    node.path("estimated_bits").asDouble(Double.NaN),
                    node.path("psnr").asDouble(Double.NaN),
                    node.path("ms_ssim").asDouble(Double.NaN),
                    top,
                    feature,
                    similarity);
        } catch (java.io.IOException | RuntimeException e) {
            return null;
        }
    }

    private static void put(ObjectNode node, String name, double value) {
        if (Double.isNaN(value)) {
            node.putNull(name);
        } else {
            node.put(name, Math.round(value * 1e6) / 1e6);
        }
    }
}

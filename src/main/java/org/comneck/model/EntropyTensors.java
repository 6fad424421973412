package org.comneck.model;

import java.util.LinkedHashMap;
import java.util.Map;
import org.comneck.tensor.Tensor;

/** The {@code entropy.*} tensors of a model file: integer coding tables, made once here and never recomputed at run time. */
final class EntropyTensors {
    private EntropyTensors() {}

    /**
     * Makes them from the published codec's tensors.
     *
     * @param codec must hold {@code entropy_bottleneck.*}
     */
    static Map<String, TensorSource> of(Map<String, ? extends TensorSource> codec) {
        Map<String, TensorSource> tensors = new LinkedHashMap<>();
        float[] quantiles = codec.get("entropy_bottleneck.quantiles").toTensor().toFloats();
        float[] medians = new float[quantiles.length / 3];
        for (int c = 0; c < medians.length; c++) {
            medians[c] = quantiles[3 * c + 1];
        }
        tensors.put("entropy.factorized.medians", TensorSource.of(Tensor.of(medians, medians.length)));
        return tensors;
    }
}

package org.comneck.model;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.comneck.backend.CodingTables;
import org.comneck.entropy.CodingTablesBuilder;
import org.comneck.entropy.FactorizedPrior;
import org.comneck.entropy.GaussianConditional;
import org.comneck.tensor.Tensor;

/** The {@code entropy.*} tensors of a model file: integer coding tables, made once here and never recomputed at run time. */
public final class EntropyTensors {
    private EntropyTensors() {}

    /** The tables that nearly every model has, made when first asked for. */
    private static final class Published {
        static final CodingTables GAUSSIAN = CodingTablesBuilder.gaussian(GaussianConditional.scaleTable());
    }

    /**
     * Makes them from the published codec's tensors.
     *
     * @param codec must hold {@code entropy_bottleneck.*}; a {@code gaussian_conditional.scale_table} takes the place of the published one
     */
    public static Map<String, TensorSource> of(Map<String, ? extends TensorSource> codec) {
        FactorizedPrior prior = FactorizedPrior.of(
                name -> codec.get("entropy_bottleneck." + name).toTensor());
        TensorSource published = codec.get("gaussian_conditional.scale_table");
        float[] scales = published != null && published.shape().elements() == GaussianConditional.LEVELS
                ? published.toTensor().toFloats()
                : GaussianConditional.scaleTable();
        float[] thresholds = GaussianConditional.thresholds(scales);
        float[] medians = prior.medians();
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        CodingTables gaussian = Arrays.equals(scales, GaussianConditional.scaleTable())
                ? Published.GAUSSIAN
                : CodingTablesBuilder.gaussian(scales);
        tensors.putAll(CodingTablesBuilder.toTensors("entropy.gaussian", gaussian));
        tensors.put("entropy.gaussian.thresholds", Tensor.of(thresholds, thresholds.length));
        tensors.putAll(CodingTablesBuilder.toTensors("entropy.factorized", CodingTablesBuilder.factorized(prior)));
        tensors.put("entropy.factorized.medians", Tensor.of(medians, medians.length));
        Map<String, TensorSource> sources = new LinkedHashMap<>();
        tensors.forEach((name, tensor) -> sources.put(name, TensorSource.of(tensor)));
        return sources;
    }
}

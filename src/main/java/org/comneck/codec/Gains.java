package org.comneck.codec;

import org.comneck.DamagedDataException;
import org.comneck.model.ModelFile;
import org.comneck.tensor.Tensor;

/**
 * Gains that turn one codec into several qualities: rows of positive factors, one for each channel.
 *
 * @param rows {@code [Q][M]}
 */
record Gains(float[][] rows) {
    /** The tensor {@code name} [Q,M]. */
    static Gains read(ModelFile model, String name, int qualities, int channels) {
        Tensor tensor = model.tensor(name, qualities, channels);
        float[] values = tensor.toFloats();
        float[][] rows = new float[qualities][channels];
        for (int i = 0; i < values.length; i++) {
            if (!(values[i] > 0f) || values[i] == Float.POSITIVE_INFINITY) {
                throw new DamagedDataException(model.file() + ": tensor '" + name + "' has the value " + values[i]
                        + ", gains must be positive");
            }
            rows[i / channels][i % channels] = values[i];
        }
        return new Gains(rows);
    }

    /**
     * Factors of a quality; between two rows {@code a^(1-t) b^t}. Computed with {@link StrictMath}, so that they are the same everywhere.
     */
    float[] at(double quality) {
        if (!(quality >= 0 && quality <= rows.length - 1)) {
            throw new IllegalArgumentException("quality " + quality + " is not within 0.." + (rows.length - 1));
        }
        int low = (int) quality;
        double t = quality - low;
        if (t == 0) {
            return rows[low].clone();
        }
        float[] out = new float[rows[low].length];
        for (int c = 0; c < out.length; c++) {
            out[c] = (float)
                    StrictMath.exp((1 - t) * StrictMath.log(rows[low][c]) + t * StrictMath.log(rows[low + 1][c]));
        }
        return out;
    }
}

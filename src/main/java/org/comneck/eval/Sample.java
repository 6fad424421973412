package org.comneck.eval;

import java.util.Arrays;
import java.util.List;
import java.util.function.ToDoubleFunction;

/**
 * One repetition of a stage.
 *
 * @param wallMs time that passed
 * @param cpuMs processor time of all threads of the process; other work on the machine lengthens the first more than the second
 */
public record Sample(double wallMs, double cpuMs) {
    /** The middle value, or the mean of the two middle ones. */
    static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        int middle = sorted.length / 2;
        return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    static double median(List<Sample> samples, ToDoubleFunction<Sample> value) {
        return median(samples.stream().mapToDouble(value).toArray());
    }

    /** What this part of them did not exceed: the nearest rank. */
    static double quantile(List<Sample> samples, ToDoubleFunction<Sample> value, double part) {
        double[] sorted = samples.stream().mapToDouble(value).sorted().toArray();
        return quantile(sorted, part);
    }

    /** The same of sorted values. */
    static double quantile(double[] sorted, double part) {
        return sorted[Math.clamp((int) Math.ceil(part * sorted.length) - 1, 0, sorted.length - 1)];
    }

    static double least(List<Sample> samples, ToDoubleFunction<Sample> value) {
        return samples.stream().mapToDouble(value).min().orElseThrow();
    }
}

package org.comneck.train;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Tells classes by the direction of a feature vector: a class is the mean direction of its examples, and a vector belongs to the class whose
 * mean is nearest by angle. Directions are taken from the mean of all examples, since features that have much in common would all point alike.
 */
final class NearestCentroid {
    private final Map<String, double[]> sums = new LinkedHashMap<>();
    private final Map<String, double[]> centroids = new LinkedHashMap<>();
    private final Map<String, Integer> counts = new LinkedHashMap<>();
    private double[] mean;

    /** Adds an example. All of them come before the first question. */
    void add(String label, float[] feature) {
        double[] sum = sums.computeIfAbsent(label, key -> new double[feature.length]);
        for (int i = 0; i < feature.length; i++) {
            sum[i] += feature[i];
        }
        counts.merge(label, 1, Integer::sum);
    }

    /** The class of a vector. */
    String nearest(float[] feature) {
        if (mean == null) {
            center(feature.length);
        }
        double best = Double.NEGATIVE_INFINITY;
        String answer = null;
        for (Map.Entry<String, double[]> entry : centroids.entrySet()) {
            double[] centroid = entry.getValue();
            double dot = 0;
            for (int i = 0; i < centroid.length; i++) {
                dot += centroid[i] * (feature[i] - mean[i]);
            }
            if (dot > best) {
                best = dot;
                answer = entry.getKey();
            }
        }
        return answer;
    }

    /** Every class weighs the same in the mean of all. */
    private void center(int width) {
        mean = new double[width];
        sums.forEach((label, sum) -> {
            for (int i = 0; i < width; i++) {
                mean[i] += sum[i] / counts.get(label) / sums.size();
            }
        });
        sums.forEach((label, sum) -> {
            double[] centroid = new double[width];
            for (int i = 0; i < width; i++) {
                centroid[i] = sum[i] / counts.get(label) - mean[i];
            }
            double length = Math.sqrt(
                    Arrays.stream(centroid).map(value -> value * value).sum());
            for (int i = 0; i < width; i++) {
                centroid[i] /= Math.max(length, 1e-12);
            }
            centroids.put(label, centroid);
        });
    }
}

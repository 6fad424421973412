package org.comneck.eval;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;

/** What class tokens are good for without any training: nearest neighbours, nearest centroids, few-shot episodes. Cosine throughout. */
public final class Neighbours {
    /**
     * A share with its uncertainty.
     *
     * @param value of the sample
     * @param low end of the 95 % interval
     * @param high other end
     * @param count what it was taken over
     */
    public record Share(double value, double low, double high, int count) {
        /** Wilson's interval of a binomial share. */
        public static Share of(int hits, int count) {
            if (count == 0) {
                return new Share(Double.NaN, Double.NaN, Double.NaN, 0);
            }
            double p = (double) hits / count;
            double z2 = Z * Z / count;
            double middle = (p + z2 / 2) / (1 + z2);
            double half = Z * Math.sqrt(p * (1 - p) / count + z2 / (4 * count)) / (1 + z2);
            return new Share(p, Math.max(0, middle - half), Math.min(1, middle + half), count);
        }
    }

    /**
     * A photo's class token.
     *
     * @param photo names the photo: two tokens of one photo are never neighbours
     * @param label its class
     * @param vector of any length; compared by cosine
     */
    public record Token(String photo, String label, float[] vector) {}

    /** 97.5 % quantile of the normal distribution. */
    private static final double Z = 1.959963984540054;

    private Neighbours() {}

    /** Share of queries whose nearest class centroid of the gallery is their own; of those whose class has other photos there. */
    public static Share nearestCentroid(List<Token> gallery, List<Token> queries) {
        Map<String, double[]> sums = new TreeMap<>();
        Map<String, Integer> sizes = new HashMap<>();
        for (Token token : gallery) {
            sizes.merge(token.label(), 1, Integer::sum);
            double[] sum = sums.computeIfAbsent(token.label(), key -> new double[token.vector().length]);
            add(sum, unit(token.vector()), 1);
        }
        int hits = 0;
        int count = 0;
        Map<String, float[]> own = byPhoto(gallery);
        for (Token query : queries) {
            float[] inGallery = own.get(query.photo());
            if (sizes.getOrDefault(query.label(), 0) == (inGallery == null ? 0 : 1)) {
                continue;
            }
            float[] vector = unit(query.vector());
            String best = null;
            double highest = Double.NEGATIVE_INFINITY;
            for (Map.Entry<String, double[]> one : sums.entrySet()) {
                double[] centroid = one.getValue();
                if (inGallery != null && one.getKey().equals(query.label())) {
                    centroid = centroid.clone();
                    add(centroid, unit(inGallery), -1);
                }
                double score = cosine(vector, centroid);
                if (score > highest) {
                    highest = score;
                    best = one.getKey();
                }
            }
            hits += query.label().equals(best) ? 1 : 0;
            count++;
        }
        return Share.of(hits, count);
    }

    /** Share of queries whose class wins the vote of the k nearest tokens of the gallery; ties go to the nearest. */
    public static Share nearest(List<Token> gallery, List<Token> queries, int k) {
        List<float[]> units = gallery.stream().map(t -> unit(t.vector())).toList();
        int hits = 0;
        int count = 0;
        for (Token query : queries) {
            float[] vector = unit(query.vector());
            record Near(double score, String label) {}
            List<Near> near = new ArrayList<>();
            boolean known = false;
            for (int i = 0; i < units.size(); i++) {
                Token token = gallery.get(i);
                if (!token.photo().equals(query.photo())) {
                    known |= token.label().equals(query.label());
                    near.add(new Near(dot(vector, units.get(i)), token.label()));
                }
            }
            if (!known) {
                continue;
            }
            near.sort((a, b) -> Double.compare(b.score(), a.score()));
            Map<String, Double> votes = new HashMap<>();
            int n = Math.min(k, near.size());
            for (int i = 0; i < n; i++) {
                votes.merge(near.get(i).label(), 1 + (n - i) * 1e-6, Double::sum);
            }
            String best = Collections.max(votes.entrySet(), Map.Entry.comparingByValue())
                    .getKey();
            hits += best.equals(query.label()) ? 1 : 0;
            count++;
        }
        return Share.of(hits, count);
    }

    /**
     * Few-shot episodes: {@code ways} classes by chance, {@code shots} photos of each as examples, up to five others of each as questions; the
     * answer is the class with the nearest mean of its examples.
     *
     * @param support where examples come from
     * @param queries where questions come from; matched to {@code support} by photo
     * @param episodes how many
     * @param seed of the choice: equal seeds and photos choose the same episodes whatever the tokens are
     * @return mean accuracy of episodes with its 95 % interval; NaN when there are too few classes
     */
    public static Share episodes(
            List<Token> support, List<Token> queries, int ways, int shots, int episodes, long seed) {
        Map<String, float[]> vectors = byPhoto(support);
        Map<String, List<Token>> classes = new TreeMap<>();
        for (Token query : queries) {
            if (vectors.containsKey(query.photo())) {
                classes.computeIfAbsent(query.label(), key -> new ArrayList<>()).add(query);
            }
        }
        classes.values().removeIf(list -> list.size() <= shots);
        if (classes.size() < ways) {
            return new Share(Double.NaN, Double.NaN, Double.NaN, 0);
        }
        Random random = new Random(seed);
        List<String> names = new ArrayList<>(classes.keySet());
        double sum = 0;
        double squares = 0;
        for (int e = 0; e < episodes; e++) {
            Collections.shuffle(names, random);
            List<double[]> centroids = new ArrayList<>();
            List<List<Token>> questions = new ArrayList<>();
            for (String name : names.subList(0, ways)) {
                List<Token> photos = new ArrayList<>(classes.get(name));
                Collections.shuffle(photos, random);
                double[] centroid = new double[photos.getFirst().vector().length];
                for (Token example : photos.subList(0, shots)) {
                    add(centroid, unit(vectors.get(example.photo())), 1);
                }
                centroids.add(centroid);
                questions.add(photos.subList(shots, Math.min(photos.size(), shots + QUESTIONS)));
            }
            int hits = 0;
            int count = 0;
            for (int way = 0; way < ways; way++) {
                for (Token question : questions.get(way)) {
                    float[] vector = unit(question.vector());
                    int best = 0;
                    double highest = Double.NEGATIVE_INFINITY;
                    for (int c = 0; c < ways; c++) {
                        double score = cosine(vector, centroids.get(c));
                        if (score > highest) {
                            highest = score;
                            best = c;
                        }
                    }
                    hits += best == way ? 1 : 0;
                    count++;
                }
            }
            double accuracy = (double) hits / count;
            sum += accuracy;
            squares += accuracy * accuracy;
        }
        double mean = sum / episodes;
        double deviation = Math.sqrt(Math.max(0, squares / episodes - mean * mean));
        double half = Z * deviation / Math.sqrt(episodes);
        return new Share(mean, mean - half, mean + half, episodes);
    }

    /** Questions of each class in an episode, at most. */
    private static final int QUESTIONS = 5;

    private static Map<String, float[]> byPhoto(List<Token> tokens) {
        Map<String, float[]> map = new HashMap<>();
        tokens.forEach(token -> map.put(token.photo(), token.vector()));
        return map;
    }

    private static void add(double[] sum, float[] vector, double factor) {
        for (int i = 0; i < sum.length; i++) {
            sum[i] += factor * vector[i];
        }
    }

    private static float[] unit(float[] vector) {
        double norm = Math.sqrt(dot(vector, vector));
        float[] out = new float[vector.length];
        for (int i = 0; i < out.length && norm > 0; i++) {
            out[i] = (float) (vector[i] / norm);
        }
        return out;
    }

    private static double dot(float[] a, float[] b) {
        double sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += (double) a[i] * b[i];
        }
        return sum;
    }

    private static double cosine(float[] vector, double[] centroid) {
        double sum = 0;
        double norm = 0;
        for (int i = 0; i < vector.length; i++) {
            sum += vector[i] * centroid[i];
            norm += centroid[i] * centroid[i];
        }
        return norm == 0 ? -1 : sum / Math.sqrt(norm);
    }
}

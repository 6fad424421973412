package org.comneck.eval;

/** Tokens against those of the uncompressed photo. */
final class Similarity {
    private Similarity() {}

    /**
     * Of every layer: cosine of the first token, its relative error, mean cosine of the others, their relative error (length of the difference / length
     * of the reference); null for layers that the path does not have.
     */
    static double[][] of(Pipeline.View view, Pipeline.View reference) {
        double[][] out = new double[view.states().length][];
        for (int k = 0; k < out.length; k++) {
            float[] a = view.states()[k];
            float[] b = reference.states()[k];
            if (a != null && b != null && a.length == b.length) {
                out[k] = layer(a, b, view.width());
            }
        }
        return out;
    }

    /** Cosine of every patch token of a layer; null where the path does not have it. */
    static double[] patches(Pipeline.View view, Pipeline.View reference, int layer) {
        float[] a = view.states()[layer];
        float[] b = reference.states()[layer];
        int width = view.width();
        if (a == null || b == null || a.length != b.length) {
            return null;
        }
        double[] out = new double[a.length / width - 1];
        for (int t = 0; t < out.length; t++) {
            double ab = 0;
            double aa = 0;
            double bb = 0;
            for (int i = (t + 1) * width; i < (t + 2) * width; i++) {
                ab += (double) a[i] * b[i];
                aa += (double) a[i] * a[i];
                bb += (double) b[i] * b[i];
            }
            out[t] = ab / Math.sqrt(aa * bb);
        }
        return out;
    }

    static double[] layer(float[] a, float[] b, int width) {
        double cosines = 0;
        double differences = 0;
        double references = 0;
        double[] first = new double[2];
        int tokens = a.length / width;
        for (int t = 0; t < tokens; t++) {
            double ab = 0;
            double aa = 0;
            double bb = 0;
            double dd = 0;
            for (int i = t * width; i < (t + 1) * width; i++) {
                double d = (double) a[i] - b[i];
                ab += (double) a[i] * b[i];
                aa += (double) a[i] * a[i];
                bb += (double) b[i] * b[i];
                dd += d * d;
            }
            double cosine = aa == 0 || bb == 0 ? (aa == bb ? 1 : 0) : ab / Math.sqrt(aa * bb);
            if (t == 0) {
                first[0] = cosine;
                first[1] = Math.sqrt(dd / bb);
            } else {
                cosines += cosine;
                differences += dd;
                references += bb;
            }
        }
        return new double[] {first[0], first[1], cosines / (tokens - 1), Math.sqrt(differences / references)};
    }
}

package org.comneck.train;

import java.util.Map;

/** One network's training: what a step is. The loop around it is {@link Trainer}'s. */
interface Stage extends AutoCloseable {
    /** What is trained. */
    Parameters parameters();

    /** The photos it is trained on. */
    Photos photos();

    /**
     * Forward and backward of one batch; adds to the gradient in the parameters.
     *
     * @param index of the batch, counted from 0, {@code accumulate} of them in a step; the batch depends on it and the seed alone
     * @param progress fraction of the budget that is used, 0..1
     * @return loss terms by name, {@code loss} first
     */
    Map<String, Double> step(long index, double progress);

    /** Learning rate as a multiple of the recipe's, before warm-up. */
    double rate(double progress);

    /** Photos in a batch. */
    int batch();

    /**
     * Measures on photos that are not trained on, with averaged weights.
     *
     * @param thorough whether to take the minutes that whole photos need
     */
    Map<String, Double> evaluate(boolean thorough);

    /** Stops reading ahead. */
    @Override
    void close();

    /** From 1 to {@code least} along half a cosine. */
    static double cosine(double progress, double least) {
        return least + (1 - least) * 0.5 * (1 + Math.cos(Math.PI * Math.clamp(progress, 0, 1)));
    }
}

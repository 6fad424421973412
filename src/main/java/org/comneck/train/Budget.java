package org.comneck.train;

import org.comneck.UsageException;

/**
 * How long a stage trains: whichever is used up first. A checkpoint does not say whether its stage is finished, so that a recipe with a larger
 * budget goes on with it.
 *
 * @param steps {@code budget.steps}, or the largest int
 * @param seconds 60 times {@code budget.minutes}, or infinity
 */
record Budget(long steps, double seconds) {
    static Budget of(Recipe recipe) {
        Budget budget = new Budget(
                recipe.integer("budget.steps", Integer.MAX_VALUE),
                60 * recipe.number("budget.minutes", Double.POSITIVE_INFINITY));
        if (budget.steps == Integer.MAX_VALUE && Double.isInfinite(budget.seconds)) {
            throw new UsageException("recipe " + recipe.name() + " lacks budget.steps or budget.minutes");
        }
        return budget;
    }

    /** The part that is used up, 1 or more at the end. */
    double used(long stepsDone, double secondsSpent) {
        return Math.max((double) stepsDone / steps, secondsSpent / seconds);
    }

    /** Seconds that are left, estimated from those spent. */
    double secondsLeft(long stepsDone, double secondsSpent) {
        double bySteps = stepsDone == 0 ? Double.POSITIVE_INFINITY : (steps - stepsDone) * (secondsSpent / stepsDone);
        return Math.max(0, Math.min(seconds - secondsSpent, bySteps));
    }
}

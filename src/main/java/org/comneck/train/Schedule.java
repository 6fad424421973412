package org.comneck.train;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.comneck.UsageException;

/**
 * Weights of loss terms over the budget, {@code schedule} of a recipe:
 *
 * <pre>
 *   schedule = until 1/3: 100 entropy; until 2/3: entropy + 100 class; until 1: 100 class
 * </pre>
 */
record Schedule(List<Phase> phases) {
    private static final Pattern PHASE = Pattern.compile("until\\s+([0-9./]+)\\s*:\\s*(.+)");
    private static final Pattern TERM = Pattern.compile("(?:([0-9.eE-]+)\\s+)?([a-z.]+)");

    /**
     * @param until fraction of the budget at which the next phase begins
     * @param weights by term; all of them positive
     */
    record Phase(double until, Map<String, Double> weights) {
        boolean has(String term) {
            return weights.containsKey(term);
        }
    }

    /**
     * The schedule of a recipe.
     *
     * @param known terms that there are
     */
    static Schedule of(Recipe recipe, Set<String> known) {
        List<Phase> phases = new ArrayList<>();
        double before = 0;
        for (String text : recipe.word("schedule").split(";")) {
            Matcher phase = PHASE.matcher(text.trim());
            if (!phase.matches()) {
                throw wrong(recipe, "'" + text.trim() + "' is not like 'until 1/3: 100 entropy + class'");
            }
            Map<String, Double> weights = new LinkedHashMap<>();
            double until;
            try {
                until = fraction(phase.group(1));
                for (String sum : phase.group(2).split("\\+")) {
                    Matcher term = TERM.matcher(sum.trim());
                    if (!term.matches() || !known.contains(term.group(2))) {
                        throw wrong(recipe, "'" + sum.trim() + "' is no term; known: " + String.join(", ", known));
                    }
                    weights.put(term.group(2), term.group(1) == null ? 1 : Double.parseDouble(term.group(1)));
                }
            } catch (NumberFormatException e) {
                throw wrong(recipe, "'" + text.trim() + "' has a number that is none");
            }
            if (until <= before || until > 1) {
                throw wrong(recipe, "phases end later and later, at most at 1");
            }
            before = until;
            phases.add(new Phase(until, weights));
        }
        if (before < 1) {
            throw wrong(recipe, "the last phase ends at " + before + " instead of 1");
        }
        return new Schedule(phases);
    }

    /** A number, or a fraction like {@code 1/3}. */
    static double fraction(String text) {
        int slash = text.indexOf('/');
        return slash < 0
                ? Double.parseDouble(text)
                : Double.parseDouble(text.substring(0, slash)) / Double.parseDouble(text.substring(slash + 1));
    }

    private static UsageException wrong(Recipe recipe, String what) {
        return new UsageException("recipe " + recipe.name() + ": schedule: " + what);
    }

    /** The same without a term that cannot be had; a phase of which nothing is left becomes part of the next. */
    Schedule without(String term) {
        List<Phase> left = new ArrayList<>();
        for (Phase phase : phases) {
            Map<String, Double> weights = new LinkedHashMap<>(phase.weights);
            weights.remove(term);
            if (!weights.isEmpty()) {
                left.add(new Phase(phase.until, weights));
            }
        }
        if (left.isEmpty()) {
            throw new UsageException("the schedule has no terms besides '" + term + "', which needs labels");
        }
        Phase last = left.removeLast();
        left.add(new Phase(1, last.weights));
        return new Schedule(left);
    }

    /** The phase at a fraction of the budget. */
    Phase at(double progress) {
        for (Phase phase : phases) {
            if (progress < phase.until) {
                return phase;
            }
        }
        return phases.getLast();
    }
}

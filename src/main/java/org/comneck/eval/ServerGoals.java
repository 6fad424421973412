package org.comneck.eval;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** What the figures of {@link ServerBenchmark} should be, and a table of both. */
public final class ServerGoals {
    private ServerGoals() {}

    private enum Kind {
        LESS,
        AT_LEAST,
        EXACTLY
    }

    /**
     * A goal.
     *
     * @param measure and column of the line that it is about
     */
    private record Goal(String measure, String column, Kind kind, double value, String unit) {
        boolean isMetBy(double figure) {
            return switch (kind) {
                case LESS -> figure < value;
                case AT_LEAST -> figure >= value;
                case EXACTLY -> figure == value;
            };
        }

        String text() {
            String sign = kind == Kind.LESS ? "< " : kind == Kind.AT_LEAST ? ">= " : "";
            return sign + number(value) + " " + unit;
        }
    }

    private static final List<Goal> GOALS = List.of(
            new Goal("latency", "tcp_added_p50_us", Kind.LESS, 300, "us"),
            new Goal("latency", "tcp_added_p99_us", Kind.LESS, 1000, "us"),
            new Goal("latency", "http_added_p50_us", Kind.LESS, 600, "us"),
            new Goal("latency", "http_added_p99_us", Kind.LESS, 2000, "us"),
            new Goal("throughput", "tcp_ratio", Kind.AT_LEAST, 0.95, "of the calls"),
            new Goal("throughput", "http_ratio", Kind.AT_LEAST, 0.95, "of the calls"),
            new Goal("throughput", "lost", Kind.EXACTLY, 0, "answers"),
            new Goal("throughput", "doubled", Kind.EXACTLY, 0, "answers"),
            new Goal("idle", "added_mib_for_2000", Kind.LESS, 64, "MiB"),
            new Goal("soak", "lost", Kind.EXACTLY, 0, "answers"),
            new Goal("soak", "doubled", Kind.EXACTLY, 0, "answers"),
            new Goal("soak", "failed", Kind.EXACTLY, 0, "answers"),
            new Goal("soak", "refusal_p99_ms", Kind.LESS, 5, "ms"),
            new Goal("soak", "grown_mib", Kind.LESS, 16, "MiB"));

    /** A line for each goal that there is a figure for. */
    public static List<String> table(List<Map<String, Object>> lines) {
        List<String> table = new ArrayList<>();
        table.add(row("measure", "figure", "is", "goal", "met"));
        for (Map<String, Object> line : lines) {
            for (Goal goal : GOALS) {
                if (goal.measure.equals(line.get("measure")) && line.get(goal.column) instanceof Number figure) {
                    table.add(row(
                            goal.measure,
                            goal.column,
                            number(figure.doubleValue()),
                            goal.text(),
                            goal.isMetBy(figure.doubleValue()) ? "yes" : "no"));
                }
            }
        }
        return table;
    }

    private static String number(double value) {
        return value == Math.rint(value) ? Long.toString((long) value) : String.format(Locale.ROOT, "%.3g", value);
    }

    private static String row(String measure, String figure, String is, String goal, String met) {
        return String.format(Locale.ROOT, "%-11s %-19s %9s  %-22s %s", measure, figure, is, goal, met);
    }
}

package org.comneck.server;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.DoubleAdder;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.DoubleSupplier;
import java.util.function.Supplier;

/**
 * Counters, gauges and histograms, and their Prometheus text (exposition format 0.0.4). Names follow the naming rules: one prefix, base
 * units, {@code _total} on counters. Counting takes no lock.
 */
public final class Metrics {
    /** Upper bounds of the buckets of times, in seconds. */
    static final double[] SECONDS = {
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10
    };

    /** Upper bounds of the buckets of batch sizes. */
    static final double[] BATCH = {1, 2, 4, 8, 16, 32, 64};

    private final Map<String, Family> families = new LinkedHashMap<>();

    /** A count that only rises. */
    public static final class Counter {
        private final LongAdder value = new LongAdder();

        public void add(long amount) {
            value.add(amount);
        }

        public long value() {
            return value.sum();
        }
    }

    /** Counts of values in buckets. */
    public static final class Histogram {
        private final double[] bounds;
        private final LongAdder[] counts;
        private final DoubleAdder sum = new DoubleAdder();

        private Histogram(double[] bounds) {
            this.bounds = bounds;
            this.counts = new LongAdder[bounds.length + 1];
            for (int i = 0; i < counts.length; i++) {
                counts[i] = new LongAdder();
            }
        }

        public void record(double value) {
            int bucket = 0;
            while (bucket < bounds.length && value > bounds[bucket]) {
                bucket++;
            }
            counts[bucket].increment();
            sum.add(value);
        }

        /** {@link #record} of a time in seconds. */
        public void recordNanos(long nanos) {
            record(nanos / 1e9);
        }

        public long count() {
            long all = 0;
            for (LongAdder count : counts) {
                all += count.sum();
            }
            return all;
        }

        public double sum() {
            return sum.sum();
        }

        /** Of each bucket how many values fell in it, the last without bound. */
        long[] counts() {
            long[] out = new long[counts.length];
            for (int i = 0; i < out.length; i++) {
                out[i] = counts[i].sum();
            }
            return out;
        }
    }

    /** Metrics of one name. */
    private static final class Family {
        private final String help;
        private final String type;
        private final Map<String, Object> members = new ConcurrentHashMap<>();
        private volatile Supplier<Map<String, Double>> source;

        private Family(String help, String type) {
            this.help = help;
            this.type = type;
        }
    }

    /**
     * The counter of a name and labels, made when it is first asked for.
     *
     * @param labels names and values in turn
     */
    public Counter counter(String name, String help, String... labels) {
        return (Counter) family(name, help, "counter").members.computeIfAbsent(labels(labels), key -> new Counter());
    }

    /** A gauge that is asked when somebody reads the metrics. */
    public void gauge(String name, String help, DoubleSupplier value, String... labels) {
        family(name, help, "gauge").members.put(labels(labels), value);
    }

    /** Counters or gauges that are kept elsewhere: values by labels, in braces or empty. */
    void read(String name, String help, String type, Supplier<Map<String, Double>> values) {
        family(name, help, type).source = values;
    }

    /** A histogram of seconds. */
    public Histogram seconds(String name, String help, String... labels) {
        return histogram(name, help, SECONDS, labels);
    }

    /** A histogram with bounds of its own. */
    public Histogram histogram(String name, String help, double[] bounds, String... labels) {
        return (Histogram)
                family(name, help, "histogram").members.computeIfAbsent(labels(labels), key -> new Histogram(bounds));
    }

    /** Histograms of a name by labels, for the status page. */
    Map<String, Histogram> histograms(String name) {
        Map<String, Histogram> out = new LinkedHashMap<>();
        Family family;
        synchronized (families) {
            family = families.get(name);
        }
        if (family != null) {
            family.members.forEach((labels, member) -> out.put(labels, (Histogram) member));
        }
        return out;
    }

    private Family family(String name, String help, String type) {
        synchronized (families) {
            Family family = families.computeIfAbsent(name, key -> new Family(help, type));
            if (!family.type.equals(type)) {
                throw new IllegalArgumentException(name + " is a " + family.type);
            }
            return family;
        }
    }

    /** {@code {reason="queue_full"}}, or nothing. */
    static String labels(String... labels) {
        if (labels.length == 0) {
            return "";
        }
        StringBuilder text = new StringBuilder("{");
        for (int i = 0; i < labels.length; i += 2) {
            text.append(i == 0 ? "" : ",").append(labels[i]).append("=\"");
            text.append(
                    labels[i + 1].replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n"));
            text.append('"');
        }
        return text.append('}').toString();
    }

    /** The text that Prometheus reads. */
    public String text() {
        List<Map.Entry<String, Family>> all;
        synchronized (families) {
            all = new ArrayList<>(families.entrySet());
        }
        StringBuilder out = new StringBuilder(1 << 13);
        for (Map.Entry<String, Family> entry : all) {
            String name = entry.getKey();
            Family family = entry.getValue();
            out.append("# HELP ").append(name).append(' ').append(family.help).append('\n');
            out.append("# TYPE ").append(name).append(' ').append(family.type).append('\n');
            family.members.entrySet().stream()
                    .sorted(Map.Entry.comparingByKey())
                    .forEach(member -> {
                        switch (member.getValue()) {
                            case Counter counter -> line(out, name, member.getKey(), counter.value());
                            case DoubleSupplier gauge -> line(out, name, member.getKey(), gauge.getAsDouble());
                            case Histogram histogram -> histogram(out, name, member.getKey(), histogram);
                            default -> throw new IllegalStateException(name);
                        }
                    });
            if (family.source != null) {
                family.source.get().forEach((labels, value) -> line(out, name, labels, value));
            }
        }
        return out.toString();
    }

    private static void histogram(StringBuilder out, String name, String labels, Histogram histogram) {
        String open = labels.isEmpty() ? "{" : labels.substring(0, labels.length() - 1) + ",";
        long[] counts = histogram.counts();
        long below = 0;
        for (int i = 0; i < counts.length; i++) {
            below += counts[i];
            String bound = i < histogram.bounds.length ? number(histogram.bounds[i]) : "+Inf";
            line(out, name + "_bucket", open + "le=\"" + bound + "\"}", below);
        }
        line(out, name + "_sum", labels, histogram.sum());
        line(out, name + "_count", labels, below);
    }

    private static void line(StringBuilder out, String name, String labels, double value) {
        out.append(name).append(labels).append(' ').append(number(value)).append('\n');
    }

    private static String number(double value) {
        return value == Math.rint(value) && Math.abs(value) < 1e15
                ? Long.toString((long) value)
                : Double.toString(value);
    }
}

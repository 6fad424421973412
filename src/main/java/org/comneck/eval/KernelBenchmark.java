package org.comneck.eval;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.stream.Collectors;
import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.tensor.Bfloat16;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;

/**
 * Times one operation of the networks at one shape, as a prepared run executes it: on a device within its graph, between two events, without
 * copies to or from the host. What it computes is checked against f64 before it is timed.
 */
public final class KernelBenchmark {
    /** Operations, with the names of their sizes and the shapes that are timed where none is asked for. */
    public enum Kernel {
        /** From q, k and v of all heads to the attention's output: (batch, heads, tokens, depth of a head). */
        ATTENTION("attention", "B,HEADS,TOKENS,DEPTH", new int[][] {
            {1, 16, 257, 64},
            {16, 16, 257, 64},
            {64, 16, 257, 64},
            {1, 16, 577, 64},
            {16, 16, 577, 64},
            {64, 16, 577, 64}
        }),
        /** A linear layer with bias. */
        LINEAR("linear", "ROWS,INPUTS,OUTPUTS", new int[][] {
            {257, 1024, 3072},
            {257, 1024, 1024},
            {257, 1024, 4096},
            {257, 4096, 1024},
            {4112, 1024, 3072},
            {4112, 4096, 1024}
        }),
        /** LayerNorm over channels, from f32 to the precision's type. */
        LAYER_NORM("layer-norm", "ROWS,CHANNELS", new int[][] {{257, 1024}, {4112, 1024}}),
        /** Patches behind a class token, plus positions, and LayerNorm of that: f32 in every precision. */
        EMBED_NORM("embed-norm", "B,PATCHES,CHANNELS", new int[][] {{1, 256, 1024}, {16, 256, 1024}});

        private final String label;
        private final String sizes;
        private final int[][] shapes;

        Kernel(String label, String sizes, int[][] shapes) {
            this.label = label;
            this.sizes = sizes;
            this.shapes = shapes;
        }

        /** Its name on the command line and in results. */
        public String label() {
            return label;
        }

        /** What its shape consists of. */
        public String sizes() {
            return sizes;
        }

        /**
         * Shapes of ViT-L/14, for a picture and for batches.
         *
         * @param device whether batches are wanted as well: on a processor they take minutes
         */
        public List<int[]> shapes(boolean device) {
            return Arrays.stream(shapes)
                    .filter(shape -> device || shape[0] == shapes[0][0])
                    .toList();
        }

        /** Those whose name contains the text. */
        public static List<Kernel> matching(String text) {
            List<Kernel> found = Arrays.stream(values())
                    .filter(kernel -> kernel.label.contains(text))
                    .toList();
            if (found.isEmpty()) {
                throw new UsageException("no kernel is called '" + text + "'; there are "
                        + Arrays.stream(values()).map(Kernel::label).collect(Collectors.joining(", ")));
            }
            return found;
        }

        private void check(int[] shape) {
            boolean fits = shape.length == sizes.split(",").length
                    && Arrays.stream(shape).allMatch(size -> size >= 1 && size <= MOST_OF_A_SIZE)
                    && largest(shape) <= MOST_ELEMENTS;
            if (!fits) {
                throw new UsageException("the shape of " + label + " is " + sizes
                        + ", at least 1 each, with at most 2^30 numbers in a matrix; not "
                        + Arrays.stream(shape).mapToObj(Integer::toString).collect(Collectors.joining(",")));
            }
        }

        /** Numbers of the largest input, weight or output. */
        private double largest(int[] s) {
            return switch (this) {
                case ATTENTION -> 3.0 * s[0] * s[1] * s[2] * s[3];
                case LINEAR -> Math.max(Math.max((double) s[0] * s[1], (double) s[0] * s[2]), (double) s[1] * s[2]);
                case LAYER_NORM -> (double) s[0] * s[1];
                case EMBED_NORM -> (double) s[0] * s[1] * s[2];
            };
        }
    }

    /**
     * What was measured.
     *
     * @param repeats times behind the quantiles
     * @param medianUs microseconds
     * @param p10Us a tenth of them took no longer
     * @param p90Us nine tenths of them took no longer
     * @param fma fused multiply-adds of the definition
     * @param bytes that must be read or written once
     * @param error largest difference from f64 among the elements that were checked, in parts of the largest of them
     * @param peers median microseconds by the peer's name for it
     */
    public record Result(
            int repeats,
            double medianUs,
            double p10Us,
            double p90Us,
            double fma,
            double bytes,
            double error,
            Map<String, Double> peers) {}

    private static final int MOST_OF_A_SIZE = 1 << 20;
    private static final double MOST_ELEMENTS = 1 << 30;
    private static final int STAGES = 16; // timings of one execution
    private static final int CHECKED_ROWS = 6;
    private static final float EPSILON = 1e-5f;

    private final Backend backend;
    private final int repeats;
    private final Peer peer;

    /**
     * @param repeats timings of each shape, 1 to 100,000
     * @param peer or null
     */
    public KernelBenchmark(Backend backend, int repeats, Peer peer) {
        if (repeats < 1 || repeats > 100_000) {
            throw new UsageException(repeats + " repeats are not possible: 1 to 100000");
        }
        this.backend = backend;
        this.repeats = repeats;
        this.peer = peer;
    }

    /**
     * Checks and times.
     *
     * @throws UsageException where the shape is none of this kernel
     * @throws InternalException where the result is wrong
     */
    public Result run(Kernel kernel, int[] shape, Precision precision) {
        if (!backend.computes(precision)) {
            throw new UsageException("the " + backend.name() + " backend has no f16");
        }
        kernel.check(shape);
        return switch (kernel) {
            case ATTENTION -> attention(shape, precision);
            case LINEAR -> linear(shape, precision);
            case LAYER_NORM -> layerNorm(shape, precision);
            case EMBED_NORM -> embedNorm(shape, precision);
        };
    }

    private Result attention(int[] shape, Precision precision) {
        int batch = shape[0];
        int heads = shape[1];
        int tokens = shape[2];
        int depth = shape[3];
        int width = heads * depth;
        RunBuilder builder = backend.newRun();
        Activation qkv = builder.input(precision.operands(), batch, 1, tokens, 3 * width);
        Activation to = builder.buffer(precision.operands(), Grid.FULL, batch, 1, tokens, width);
        double products = (double) batch * heads * tokens * tokens * depth;
        double elements = (double) batch * tokens * width;
        return measure(
                Kernel.ATTENTION,
                shape,
                precision,
                builder,
                qkv,
                to,
                () -> builder.attention(qkv, heads, to),
                (values, row, expected) -> attentionRow(values, row, heads, tokens, depth, expected),
                2 * products,
                4 * elements * precision.operands().bytes());
    }

    private Result linear(int[] shape, Precision precision) {
        int rows = shape[0];
        int inputs = shape[1];
        int outputs = shape[2];
        float[] weight = new float[inputs * outputs];
        float[] bias = new float[outputs];
        Random random = new Random(2);
        for (int i = 0; i < weight.length; i++) {
            weight[i] = round(precision, (float) ((random.nextFloat() * 2 - 1) / Math.sqrt(inputs)));
        }
        for (int i = 0; i < outputs; i++) {
            bias[i] = random.nextFloat() - 0.5f;
        }
        try (Layer layer = backend.layer(
                Convolution.linear(inputs, outputs),
                Tensor.of(weight, outputs, inputs),
                Tensor.of(bias, outputs),
                precision)) {
            RunBuilder builder = backend.newRun();
            Activation x = builder.input(precision.operands(), 1, 1, rows, inputs);
            Activation to = builder.buffer(precision.operands(), Grid.FULL, 1, 1, rows, outputs);
            return measure(
                    Kernel.LINEAR,
                    shape,
                    precision,
                    builder,
                    x,
                    to,
                    () -> builder.convolution(layer, x, null, Function.NONE, to),
                    (values, row, expected) -> {
                        for (int o = 0; o < outputs; o++) {
                            double sum = bias[o];
                            for (int i = 0; i < inputs; i++) {
                                sum += (double) values.at((long) row * inputs + i) * weight[o * inputs + i];
                            }
                            expected[o] = sum;
                        }
                    },
                    (double) rows * inputs * outputs,
                    ((double) rows * inputs + (double) rows * outputs + (double) inputs * outputs)
                            * precision.operands().bytes());
        }
    }

    private Result layerNorm(int[] shape, Precision precision) {
        int rows = shape[0];
        int channels = shape[1];
        float[] weight = uniform(3, channels, 0.5f);
        float[] bias = uniform(4, channels, -0.5f);
        Tensor weights = Tensor.of(weight, channels);
        Tensor biases = Tensor.of(bias, channels);
        RunBuilder builder = backend.newRun();
        // A network's running sum is f32, so its norms read that.
        Activation x = builder.input(ElementType.F32, 1, 1, rows, channels);
        Activation to = builder.buffer(precision.operands(), Grid.FULL, 1, 1, rows, channels);
        return measure(
                Kernel.LAYER_NORM,
                shape,
                precision,
                builder,
                x,
                to,
                () -> builder.layerNorm(x, weights, biases, EPSILON, to),
                (values, row, expected) -> {
                    for (int c = 0; c < channels; c++) {
                        expected[c] = values.at((long) row * channels + c);
                    }
                    normalize(expected, weight, bias);
                },
                2.0 * rows * channels,
                (double) rows * channels * (4 + precision.operands().bytes()));
    }

    private Result embedNorm(int[] shape, Precision precision) {
        int batch = shape[0];
        int tokens = shape[1] + 1;
        int channels = shape[2];
        float[] weight = uniform(3, channels, 0.5f);
        float[] bias = uniform(4, channels, -0.5f);
        float[] classToken = uniform(5, channels, -0.5f);
        float[] table = uniform(6, tokens * channels, -0.5f);
        Tensor weights = Tensor.of(weight, channels);
        Tensor biases = Tensor.of(bias, channels);
        Tensor first = Tensor.of(classToken, channels);
        Tensor positions = Tensor.of(table, tokens, channels);
        RunBuilder builder = backend.newRun();
        Activation patches = builder.input(ElementType.F32, batch, 1, tokens - 1, channels);
        Activation to = builder.buffer(ElementType.F32, Grid.FULL, batch, 1, tokens, channels);
        return measure(
                Kernel.EMBED_NORM,
                shape,
                precision,
                builder,
                patches,
                to,
                () -> builder.embedNorm(patches, first, positions, weights, biases, EPSILON, to),
                (values, row, expected) -> {
                    int token = row % tokens;
                    long patch = (long) row / tokens * (tokens - 1) + token - 1;
                    for (int c = 0; c < channels; c++) {
                        float x = token == 0 ? classToken[c] : values.at(patch * channels + c);
                        expected[c] = (double) x + table[token * channels + c];
                    }
                    normalize(expected, weight, bias);
                },
                2.0 * batch * tokens * channels,
                4.0 * channels * ((2.0 * batch + 1) * tokens));
    }

    /** Uniform numbers from least to least + 1. */
    private static float[] uniform(long seed, int count, float least) {
        Random random = new Random(seed);
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = random.nextFloat() + least;
        }
        return values;
    }

    private static void normalize(double[] row, float[] weight, float[] bias) {
        double mean = Arrays.stream(row).average().orElseThrow();
        double variance =
                Arrays.stream(row).map(x -> (x - mean) * (x - mean)).average().orElseThrow();
        for (int c = 0; c < row.length; c++) {
            row[c] = (row[c] - mean) / Math.sqrt(variance + EPSILON) * weight[c] + bias[c];
        }
    }

    /** Numbers of a port. */
    private record Values(MemorySegment memory, ElementType type) {
        float at(long i) {
            return switch (type) {
                case BF16 -> Bfloat16.toFloat(memory.getAtIndex(ValueLayout.JAVA_SHORT, i));
                case F16 -> Float.float16ToFloat(memory.getAtIndex(ValueLayout.JAVA_SHORT, i));
                default -> memory.getAtIndex(ValueLayout.JAVA_FLOAT, i);
            };
        }

        void fill() {
            Random random = new Random(1);
            long count = memory.byteSize() / type.bytes();
            for (long i = 0; i < count; i++) {
                float value = random.nextFloat() * 4 - 2;
                switch (type) {
                    case BF16 -> memory.setAtIndex(ValueLayout.JAVA_SHORT, i, Bfloat16.toBits(value));
                    case F16 -> memory.setAtIndex(ValueLayout.JAVA_SHORT, i, Float.floatToFloat16(value));
                    default -> memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, value);
                }
            }
        }
    }

    /** One row of the result from the inputs, in f64. */
    private interface Row {
        void compute(Values inputs, int row, double[] expected);
    }

    private Result measure(
            Kernel kernel,
            int[] shape,
            Precision precision,
            RunBuilder builder,
            Activation from,
            Activation to,
            Runnable step,
            Row expected,
            double fma,
            double bytes) {
        // The first stage of a device's run has the upload, the last one the download: neither is timed.
        int timed = Math.min(repeats, STAGES);
        for (int i = 0; i < timed + 2; i++) {
            builder.stage(kernel.label());
            step.run();
        }
        builder.output(to);
        String request = String.join(
                "\t",
                precision.name().toLowerCase(Locale.ROOT),
                Arrays.stream(shape).mapToObj(Integer::toString).collect(Collectors.joining(",")),
                "" + timed);
        double[] ours = new double[repeats];
        Map<String, List<Double>> theirs = new LinkedHashMap<>();
        double error;
        try (Run run = builder.build()) {
            Values inputs = new Values(run.memory(from), from.type());
            inputs.fill();
            run.execute();
            error = check(kernel, precision, inputs, new Values(run.memory(to), to.type()), to, expected);
            for (int done = 0; done < repeats; done += timed) {
                run.execute();
                for (int i = 0; i < Math.min(timed, repeats - done); i++) {
                    ours[done + i] = run.stageNanos(i + 1) * 1e-3;
                }
                if (peer != null) {
                    for (String stage : peer.stages()) {
                        if (stage.startsWith(kernel.label() + " ")) {
                            theirs.computeIfAbsent(
                                            stage.substring(kernel.label().length() + 1), name -> new ArrayList<>())
                                    .addAll(peer.times(stage + "\t" + request));
                        }
                    }
                }
            }
        }
        Arrays.sort(ours);
        Map<String, Double> peers = new LinkedHashMap<>();
        theirs.forEach((name, times) -> {
            if (!times.isEmpty()) {
                peers.put(
                        name,
                        Sample.median(
                                times.stream().mapToDouble(Double::doubleValue).toArray()));
            }
        });
        return new Result(
                repeats,
                Sample.median(ours),
                Sample.quantile(ours, 0.1),
                Sample.quantile(ours, 0.9),
                fma,
                bytes,
                error,
                peers);
    }

    /** The first and the last row and some between, all channels of each. */
    private static double check(
            Kernel kernel, Precision precision, Values inputs, Values found, Activation to, Row reference) {
        int rows = to.images() * to.positions();
        double[] expected = new double[to.channels()];
        double worst = 0;
        double most = 0;
        for (int k = 0; k < Math.min(rows, CHECKED_ROWS); k++) {
            int row = rows <= CHECKED_ROWS ? k : (int) ((long) k * (rows - 1) / (CHECKED_ROWS - 1));
            reference.compute(inputs, row, expected);
            for (int c = 0; c < expected.length; c++) {
                double difference = Math.abs(found.at((long) row * expected.length + c) - expected[c]);
                worst = Double.isNaN(difference) ? Double.POSITIVE_INFINITY : Math.max(worst, difference);
                most = Math.max(most, Math.abs(expected[c]));
            }
        }
        double error = worst / most;
        // Of the largest element: rounding of result and weights to 16 bits, or sums of f32.
        double allowed = switch (precision) {
            case F32 -> 1e-4;
            case BF16 -> 2e-2;
            case F16 -> 3e-3;
        };
        if (!(error <= allowed)) {
            throw new InternalException(kernel.label() + " is wrong: it differs from f64 by " + error);
        }
        return error;
    }

    private static void attentionRow(Values qkv, int row, int heads, int tokens, int depth, double[] expected) {
        int width = heads * depth;
        long first = (long) row / tokens * tokens;
        double[] weights = new double[tokens];
        for (int head = 0; head < heads; head++) {
            double most = Double.NEGATIVE_INFINITY;
            for (int j = 0; j < tokens; j++) {
                double score = 0;
                for (int c = 0; c < depth; c++) {
                    int channel = head * depth + c;
                    score += (double) qkv.at(row * 3L * width + channel)
                            * qkv.at((first + j) * 3 * width + width + channel);
                }
                weights[j] = score / Math.sqrt(depth);
                most = Math.max(most, weights[j]);
            }
            double sum = 0;
            for (int j = 0; j < tokens; j++) {
                weights[j] = Math.exp(weights[j] - most);
                sum += weights[j];
            }
            for (int c = 0; c < depth; c++) {
                double value = 0;
                for (int j = 0; j < tokens; j++) {
                    value += weights[j] / sum * qkv.at((first + j) * 3 * width + 2L * width + head * depth + c);
                }
                expected[head * depth + c] = value;
            }
        }
    }

    private static float round(Precision precision, float value) {
        return switch (precision) {
            case F32 -> value;
            case BF16 -> Bfloat16.round(value);
            case F16 -> Float.float16ToFloat(Float.floatToFloat16(value));
        };
    }
}

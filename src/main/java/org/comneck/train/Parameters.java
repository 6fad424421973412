package org.comneck.train;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SplittableRandom;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/**
 * The trainable tensors of a network, by the names under which they are published, and their optimiser with a moving average: Adam, or Muon
 * for the matrices named to {@link #orthogonal}.
 *
 * <p>All of them are views of one vector, and so are their gradients: a step of the optimiser is a handful of operations on vectors, and a
 * checkpoint is four vectors. They start from random values that depend on the seed and the name alone.
 */
final class Parameters {
    private static final double BETA1 = 0.9;
    private static final double BETA2 = 0.99;
    private static final double EPSILON = 1e-8;

    /** Newton-Schulz: a quintic that brings singular values near 1 within a few rounds (K. Jordan and others, Muon, 2024). */
    private static final double[] QUINTIC = {3.4445, -4.7750, 2.0315};

    private static final int ROUNDS = 5;

    /** Root mean square of an orthogonal step in units of the learning rate, about that of Adam's steps (arXiv 2502.16982). */
    private static final double ORTHOGONAL_STEP = 0.2;

    /** A matrix whose steps are made orthogonal, in so many parts of equal height. */
    private record Matrix(int parts, double rate) {}

    /** A tensor's place in the vector. */
    record Slot(int offset, int count, long[] shape) {}

    private final long seed;
    private final Map<String, Slot> slots = new LinkedHashMap<>();
    private final Map<String, float[]> initial = new LinkedHashMap<>();
    private final Map<String, Float> rates = new LinkedHashMap<>();
    private final Map<String, Matrix> matrices = new LinkedHashMap<>();
    private final Map<String, Tensor> views = new LinkedHashMap<>();
    private final Map<String, Tensor> averages = new LinkedHashMap<>();
    private int count;
    private Tensor value;
    private Tensor gradient;
    private Tensor first;
    private Tensor second;
    private Tensor average;
    private Tensor rate;
    private boolean averaged;

    Parameters(long seed) {
        this.seed = seed;
    }

    /** Tensors that are not trained: {@link #get} answers with them, and nothing else is of use. */
    static Parameters frozen(Map<String, Tensor> tensors) {
        Parameters frozen = new Parameters(0);
        frozen.views.putAll(tensors);
        return frozen;
    }

    /** Adds a tensor of independent uniform values in [-bound, bound). */
    Parameters uniform(String name, double bound, long... shape) {
        float[] values = new float[elements(shape)];
        SplittableRandom random = new SplittableRandom(seed * 0x9E3779B97F4A7C15L ^ name.hashCode());
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) ((2 * random.nextDouble() - 1) * bound);
        }
        return add(name, values, shape);
    }

    Parameters constant(String name, double constant, long... shape) {
        float[] values = new float[elements(shape)];
        java.util.Arrays.fill(values, (float) constant);
        return add(name, values, shape);
    }

    /** Lets an added tensor start from other values. */
    Parameters start(String name, float[] values) {
        Slot slot = slots.get(name);
        if (value != null || slot == null || slot.count != values.length) {
            throw new IllegalArgumentException("tensor '" + name + "' cannot start from " + values.length + " values");
        }
        initial.put(name, values);
        return this;
    }

    Parameters add(String name, float[] values, long... shape) {
        if (value != null || slots.containsKey(name) || values.length != elements(shape)) {
            throw new IllegalArgumentException("tensor '" + name + "' cannot be added");
        }
        slots.put(name, new Slot(count, values.length, shape.clone()));
        initial.put(name, values);
        count = Math.addExact(count, values.length);
        return this;
    }

    /** Weight and bias of a convolution: uniform within 1 / sqrt(inputs of an output), as PyTorch starts them. */
    Parameters conv(String name, int out, int in, int kernel) {
        double bound = 1 / Math.sqrt((double) in * kernel * kernel);
        return uniform(name + ".weight", bound, out, in, kernel, kernel).uniform(name + ".bias", bound, out);
    }

    /** Weight and bias of a transposed convolution with stride 2. */
    Parameters deconv(String name, int in, int out, int kernel) {
        double bound = 2 / Math.sqrt((double) in * kernel * kernel);
        return uniform(name + ".weight", bound, in, out, kernel, kernel).uniform(name + ".bias", bound / 2, out);
    }

    Parameters norm(String name, int width) {
        return constant(name + ".weight", 1, width).constant(name + ".bias", 0, width);
    }

    /** Multiplies the learning rate of one tensor. */
    Parameters rate(String name, double factor) {
        rates.merge(name, (float) factor, (a, b) -> a * b);
        return this;
    }

    /**
     * Has a matrix stepped by Muon: along its gradient's momentum with all singular values made equal, which learns directions that Adam's
     * steps hardly show.
     *
     * @param parts matrices that stand on top of each other in it: 3 for queries, keys and values
     * @param factor of the learning rate
     */
    Parameters orthogonal(String name, int parts, double factor) {
        matrices.put(name, new Matrix(parts, factor));
        return rate(name, 0);
    }

    /** Makes the tensors, F32. Nothing can be added afterwards. */
    Parameters build() {
        return build(Ops.F32);
    }

    /** {@link #build()} of another element type: F64 for gradient checks. */
    Parameters build(ScalarType type) {
        float[] all = new float[count];
        float[] factors = new float[count];
        java.util.Arrays.fill(factors, 1f);
        slots.forEach((name, slot) -> {
            System.arraycopy(initial.get(name), 0, all, slot.offset, slot.count);
            java.util.Arrays.fill(factors, slot.offset, slot.offset + slot.count, rates.getOrDefault(name, 1f));
        });
        initial.clear();
        value = Ops.of(all, count).to(type);
        average = value.clone();
        rate = Ops.of(factors, count).to(type);
        gradient = torch.zeros_like(value);
        first = torch.zeros_like(value);
        second = torch.zeros_like(value);
        slots.forEach((name, slot) -> {
            Tensor view =
                    value.narrow(0, slot.offset, slot.count).view(slot.shape).detach();
            view.set_requires_grad(true);
            view.mutable_grad().put(gradient.narrow(0, slot.offset, slot.count).view(slot.shape));
            views.put(name, view);
            averages.put(name, average.narrow(0, slot.offset, slot.count).view(slot.shape));
        });
        return this;
    }

    /** The tensor of this name: the trained one, or its moving average after {@link #useAverage}. */
    Tensor get(String name) {
        Tensor view = (averaged ? averages : views).get(name);
        if (view == null) {
            throw new IllegalArgumentException("there is no parameter '" + name + "'");
        }
        return view;
    }

    boolean has(String name) {
        return slots.containsKey(name);
    }

    Map<String, Slot> slots() {
        return slots;
    }

    int count() {
        return count;
    }

    /** Whether {@link #get} answers with moving averages. */
    void useAverage(boolean use) {
        averaged = use;
    }

    void zeroGradient() {
        gradient.zero_();
    }

    /** Makes the sum of the gradients of so many batches their mean. */
    void meanGradient(int batches) {
        if (batches > 1) {
            gradient.mul_(Ops.scalar(1.0 / batches));
        }
    }

    /**
     * One step of the optimiser.
     *
     * @param step counted from 1
     * @param clip largest length of the gradient
     * @param decay of the moving average
     * @return length of the gradient before clipping; a step whose gradient is not finite is left out
     */
    double step(long step, double learningRate, double clip, double decay) {
        NoGradGuard guard = new NoGradGuard();
        try {
            double length = Ops.value(gradient.norm());
            if (!Double.isFinite(length)) {
                return length;
            }
            if (length > clip) {
                gradient.mul_(Ops.scalar(clip / length));
            }
            first.mul_(Ops.scalar(BETA1)).add_(gradient, Ops.scalar(1 - BETA1));
            second.mul_(Ops.scalar(BETA2)).addcmul_(gradient, gradient, Ops.scalar(1 - BETA2));
            double correction1 = 1 - Math.pow(BETA1, step);
            double correction2 = 1 - Math.pow(BETA2, step);
            Tensor deviation =
                    second.sqrt().div_(Ops.scalar(Math.sqrt(correction2))).add_(Ops.scalar(EPSILON));
            value.addcdiv_(first.mul(rate), deviation, Ops.scalar(-learningRate / correction1));
            matrices.forEach((name, matrix) -> orthogonalStep(slots.get(name), matrix, learningRate));
            average.lerp_(value, Ops.scalar(1 - Math.min(decay, (1.0 + step) / (10.0 + step))));
            return length;
        } finally {
            guard.close();
        }
    }

    private void orthogonalStep(Slot slot, Matrix matrix, double learningRate) {
        long rows = slot.shape[0] / matrix.parts;
        long columns = slot.count / slot.shape[0];
        double length = learningRate * matrix.rate * ORTHOGONAL_STEP * Math.sqrt(Math.max(rows, columns));
        for (int part = 0; part < matrix.parts; part++) {
            long from = slot.offset + part * rows * columns;
            // Nesterov's momentum: where the next step will look from.
            Tensor direction = Ops.scaled(first.narrow(0, from, rows * columns), BETA1)
                    .add_(gradient.narrow(0, from, rows * columns), Ops.scalar(1 - BETA1))
                    .view(rows, columns);
            value.narrow(0, from, rows * columns)
                    .view(rows, columns)
                    .sub_(Ops.scaled(orthogonalized(direction).to(value.scalar_type()), length));
        }
    }

    /** A matrix with the singular vectors of {@code x} and singular values near 1, BF16. */
    static Tensor orthogonalized(Tensor x) {
        boolean tall = x.size(0) > x.size(1);
        Tensor y = x.div(Ops.plus(x.norm(), 1e-20)).to(Ops.BF16);
        y = tall ? y.t() : y;
        for (int i = 0; i < ROUNDS; i++) {
            Tensor square = y.mm(y.t());
            Tensor mixed = Ops.scaled(square, QUINTIC[1]).add_(square.mm(square), Ops.scalar(QUINTIC[2]));
            y = Ops.scaled(y, QUINTIC[0]).add_(mixed.mm(y));
        }
        return tall ? y.t() : y;
    }

    /** The vectors of a checkpoint. */
    Map<String, float[]> state() {
        Map<String, float[]> state = new LinkedHashMap<>();
        state.put("value", Ops.floats(value));
        state.put("first", Ops.floats(first));
        state.put("second", Ops.floats(second));
        state.put("average", Ops.floats(average));
        return state;
    }

    /** Puts the vectors of a checkpoint back. */
    void restore(Map<String, float[]> state) {
        NoGradGuard guard = new NoGradGuard();
        try {
            value.copy_(Ops.of(state.get("value"), count));
            first.copy_(Ops.of(state.get("first"), count));
            second.copy_(Ops.of(state.get("second"), count));
            average.copy_(Ops.of(state.get("average"), count));
        } finally {
            guard.close();
        }
    }

    /** Values of one tensor, of the moving average. */
    float[] averageOf(String name) {
        return Ops.floats(averages.get(name));
    }

    /** Replaces the values of one tensor and its moving average. */
    void set(String name, Tensor values) {
        NoGradGuard guard = new NoGradGuard();
        try {
            views.get(name).copy_(values);
            averages.get(name).copy_(values);
        } finally {
            guard.close();
        }
    }

    /** Starts the moving average and the optimiser's memory anew: for a new phase with another loss. */
    void forgetMoments() {
        NoGradGuard guard = new NoGradGuard();
        try {
            first.zero_();
            second.zero_();
        } finally {
            guard.close();
        }
    }

    private static int elements(long... shape) {
        long product = 1;
        for (long size : shape) {
            product = Math.multiplyExact(product, size);
        }
        return Math.toIntExact(product);
    }
}

package org.comneck.train;

import static org.junit.jupiter.api.Assertions.fail;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.function.Supplier;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/**
 * Gradients against central differences, in F64.
 *
 * <pre>
 *   Parameters w = network.declare(size, new Parameters(1)).build(GradientCheck.F64);
 *   GradientCheck.check(w, () -> loss of w, from inputs made by GradientCheck.input);
 * </pre>
 *
 * <p>Each tensor in turn moves along a random direction: the loss has to change as the gradient says. What {@link Ops#constant} stops
 * (roundings with straight-through gradients, denominators, targets) is held at its value where the gradient was taken, so that the networks are
 * checked where they really work, rounding included. Noise is the same in every evaluation.
 */
final class GradientCheck {
    static final ScalarType F64 = ScalarType.Double;

    private static final double LIMIT = 1e-5;

    private GradientCheck() {}

    /** An F64 tensor of fixed random values in [low, high). */
    static Tensor input(long seed, double low, double high, long... shape) {
        long count = 1;
        for (long size : shape) {
            count *= size;
        }
        SplittableRandom random = new SplittableRandom(seed);
        double[] values = random.doubles(count, low, high).toArray();
        return Tensor.create(values, shape);
    }

    /** Checks every tensor. */
    static void check(Parameters w, Supplier<Tensor> loss) {
        check(w, 1, loss);
    }

    /**
     * Checks every {@code each}-th tensor.
     *
     * @param loss one number (a 0-d tensor), made anew from {@code w} on each call
     */
    static void check(Parameters w, int each, Supplier<Tensor> loss) {
        List<Tensor> constants = new ArrayList<>();
        int[] next = new int[1];
        try (var _ = new PointerScope()) {
            w.zeroGradient();
            torch.manual_seed(1);
            Ops.constants(x -> {
                constants.add(x.clone());
                return x;
            });
            Tensor base = loss.get();
            base.backward();
            Ops.constants(_ -> constants.get(next[0]++));
            Supplier<Double> again = () -> {
                try (var _ = new PointerScope()) {
                    next[0] = 0;
                    torch.manual_seed(1);
                    return Ops.value(loss.get());
                }
            };
            int count = 0;
            for (Map.Entry<String, Parameters.Slot> slot : w.slots().entrySet()) {
                if (count++ % each == 0) {
                    tensor(w, slot.getKey(), slot.getValue(), Ops.value(base), again);
                }
            }
        } finally {
            Ops.constants(x -> x);
        }
    }

    private static void tensor(Parameters w, String name, Parameters.Slot slot, double base, Supplier<Double> loss) {
        NoGradGuard guard = new NoGradGuard();
        try (var _ = new PointerScope()) {
            Tensor value = w.get(name);
            Tensor before = value.clone();
            StringBuilder tried = new StringBuilder();
            // A kink between the two points spoils a difference, but hardly three of them with ever closer points; a
            // wrong gradient does.
            for (double step : new double[] {1e-5, 1e-6, 1e-7}) {
                Tensor direction = input(name.hashCode() + (long) (1 / step), -1, 1, slot.shape());
                double expected = Ops.value(w.get(name).grad().mul(direction).sum());
                value.add_(direction, Ops.scalar(step));
                double up = loss.get();
                value.copy_(before).add_(direction, Ops.scalar(-step));
                double down = loss.get();
                value.copy_(before);
                double actual = (up - down) / (2 * step);
                double rounding = 1e-14 * Math.abs(base) * Math.sqrt(slot.count()) / step + 1e-10;
                if (Math.abs(actual - expected) <= LIMIT * Math.max(Math.abs(actual), Math.abs(expected)) + rounding) {
                    return;
                }
                tried.append(
                        String.format("; step %.0e: gradient says %.9g, differences %.9g", step, expected, actual));
            }
            fail("gradient of '" + name + "'" + tried);
        } finally {
            guard.close();
        }
    }
}

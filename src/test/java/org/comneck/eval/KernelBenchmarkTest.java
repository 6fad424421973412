package org.comneck.eval;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import java.util.function.UnaryOperator;
import org.comneck.InternalException;
import org.comneck.backend.Backend;
import org.comneck.backend.Precision;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.eval.KernelBenchmark.Kernel;
import org.junit.jupiter.api.Test;

/** Results are checked before they are timed. */
class KernelBenchmarkTest {
    /** A backend whose steps get arguments that were tampered with. */
    private static Backend tampering(Backend backend, UnaryOperator<Object[]> arguments) {
        return proxy(Backend.class, (self, method, given) -> {
            if (!method.getName().equals("newRun")) {
                return call(() -> method.invoke(backend, given));
            }
            RunBuilder builder = backend.newRun();
            return proxy(
                    RunBuilder.class,
                    (run, step, of) -> call(() -> step.invoke(
                            builder, step.getName().equals("attention") ? arguments.apply(of.clone()) : of)));
        });
    }

    private interface Call {
        Object make() throws ReflectiveOperationException;
    }

    private static Object call(Call call) throws Throwable {
        try {
            return call.make();
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }

    private static <T> T proxy(Class<T> type, InvocationHandler handler) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, handler));
    }

    @Test
    void wrongResultsAreFound() {
        int[] shape = {2, 2, 7, 8};
        try (Backend backend = new ReferenceBackend()) {
            for (Precision precision : List.of(Precision.F32, Precision.BF16)) { // no f16 on this backend
                KernelBenchmark.Result right = new KernelBenchmark(tampering(backend, same -> same), 1, null)
                        .run(Kernel.ATTENTION, shape, precision);
                assertTrue(right.error() < (precision == Precision.F32 ? 1e-6 : 1e-2), "error " + right.error());
                assertEquals(2.0 * 2 * 2 * 7 * 7 * 8, right.fma());
                assertEquals(4.0 * 2 * 7 * 16 * (precision == Precision.F32 ? 4 : 2), right.bytes());
                Backend wrong = tampering(backend, arguments -> {
                    arguments[1] = 4; // heads
                    return arguments;
                });
                assertThrows(
                        InternalException.class,
                        () -> new KernelBenchmark(wrong, 1, null).run(Kernel.ATTENTION, shape, precision));
            }
        }
    }

    @Test
    void quantilesAreOfTheNearestRank() {
        List<Double> values = new ArrayList<>();
        for (int i = 1; i <= 20; i++) {
            values.add((double) i);
        }
        double[] sorted = values.stream().mapToDouble(Double::doubleValue).toArray();
        assertEquals(2, Sample.quantile(sorted, 0.1));
        assertEquals(18, Sample.quantile(sorted, 0.9));
        assertEquals(5, Sample.quantile(new double[] {5}, 0.1));
    }
}

package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.Test;

class OpsTest {
    /** Singular values of the result lie between these: the quintic is steep near 0 and does not settle at 1. */
    private static final double LEAST = 0.5;

    private static final double MOST = 1.3;

    @Test
    void stepsOfMatricesHaveSingularValuesNearOne() {
        Ops.start(1);
        torch.manual_seed(5);
        try (var _ = new PointerScope()) {
            for (long[] shape : new long[][] {{24, 24}, {16, 64}, {64, 16}}) {
                Tensor x = torch.randn(shape);
                Tensor step = Parameters.orthogonalized(x).to(Ops.F32);
                Tensor square = shape[0] > shape[1] ? step.t().mm(step) : step.mm(step.t());
                float[] values = Ops.floats(torch.linalg_eigvalsh(square));
                assertTrue(values[1] > LEAST * LEAST, Arrays.toString(values));
                assertTrue(values[values.length - 1] < MOST * MOST, Arrays.toString(values));
                assertTrue(Ops.value(step.mul(x).sum()) > 0, "the step goes along the gradient");
            }
        }
    }

    /** With several threads OpenBLAS needed more stack than there is, from about this size on. */
    @Test
    void factorizationsWorkWithSeveralThreads() {
        Ops.start(2);
        torch.manual_seed(7);
        try (var _ = new PointerScope()) {
            Tensor x = torch.randn(256, 256).to(ScalarType.Double);
            Tensor square = x.t().mm(x).add(torch.eye(256).to(ScalarType.Double));
            Tensor wanted = torch.randn(256, 16).to(ScalarType.Double);
            Tensor solved = Ops.solve(square, wanted);
            assertEquals(0, Ops.value(square.mm(solved).sub(wanted).abs().max().to(Ops.F32)), 1e-6);
            Tensor vectors = Ops.eigenvectors(square);
            Tensor unit = vectors.t().mm(vectors).sub(torch.eye(256).to(ScalarType.Double));
            assertEquals(0, Ops.value(unit.abs().max().to(Ops.F32)), 1e-9);
        } finally {
            Ops.start(1);
        }
    }

    @Test
    void attentionInBf16IsThatOfF32() {
        Ops.start(1);
        torch.manual_seed(6);
        try (var _ = new PointerScope()) {
            Tensor qkv = torch.randn(2, 10, 3 * 16).to(Ops.BF16);
            Tensor wanted = Ops.attention(qkv.to(Ops.F32), 2);
            Tensor actual = Ops.attention(qkv, 2);
            assertEquals(Ops.BF16, actual.scalar_type().intern());
            assertEquals(0, Ops.value(actual.to(Ops.F32).sub(wanted).abs().max()), 0.03);
        }
    }

    @Test
    void sumsOfBf16AreWideAndOthersStayAsTheyAre() {
        Ops.start(1);
        try (var _ = new PointerScope()) {
            Tensor x = Ops.zeros(2, 3);
            assertEquals(Ops.F32, Ops.wide(x.to(Ops.BF16)).scalar_type().intern());
            assertEquals(Ops.F32, Ops.wide(x).scalar_type().intern());
            assertEquals(
                    ScalarType.Double,
                    Ops.wide(x.to(ScalarType.Double)).scalar_type().intern());
        }
    }
}

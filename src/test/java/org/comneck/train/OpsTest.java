package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.Test;

class OpsTest {
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

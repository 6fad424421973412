package org.comneck.entropy;

import org.comneck.backend.Backend;
import org.comneck.backend.cpu.CpuBackend;
import org.junit.jupiter.api.Nested;

/** The native rANS with every instruction set that this machine has. */
class CpuRansTest {
    @Nested
    class Portable extends RansTest {
        @Override
        Backend backend() {
            return cpu("portable");
        }
    }

    @Nested
    class Avx2 extends RansTest {
        @Override
        Backend backend() {
            return cpu("avx2");
        }
    }

    @Nested
    class Avx512 extends RansTest {
        @Override
        Backend backend() {
            return cpu("avx512");
        }
    }

    @Nested
    class StepsPortable extends PayloadStepsTest {
        @Override
        Backend backend() {
            return cpu("portable");
        }
    }

    @Nested
    class StepsAvx2 extends PayloadStepsTest {
        @Override
        Backend backend() {
            return cpu("avx2");
        }
    }

    @Nested
    class StepsAvx512 extends PayloadStepsTest {
        @Override
        Backend backend() {
            return cpu("avx512");
        }
    }

    private static Backend cpu(String isa) {
        try {
            return CpuBackend.open(2, isa);
        } catch (UnsupportedOperationException e) {
            org.junit.jupiter.api.Assumptions.abort("skipped: " + e.getMessage());
            throw e;
        }
    }
}

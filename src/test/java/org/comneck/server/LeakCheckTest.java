package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.netty.buffer.ByteBufAllocator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** The check that other tests rely on finds a leak, and finds none where there is none. */
@ExtendWith(LeakCheck.class)
class LeakCheckTest {
    @Test
    void aLeakIsFound() throws Exception {
        LeakCheck.check();
        leak();
        AssertionError error = assertThrows(AssertionError.class, LeakCheck::check);
        assertTrue(error.getMessage().contains("LeakCheckTest.leak"), error.getMessage());
    }

    private static void leak() {
        ByteBufAllocator.DEFAULT.directBuffer(16).writeByte(1);
    }

    @Test
    void whatIsReleasedIsNoLeak() throws Exception {
        ByteBufAllocator.DEFAULT.directBuffer(16).writeByte(1).release();
        LeakCheck.check();
    }
}

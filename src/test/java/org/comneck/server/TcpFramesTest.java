package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.netty.buffer.Unpooled;
import io.netty.channel.embedded.EmbeddedChannel;
import java.util.concurrent.TimeUnit;
import org.comneck.DamagedDataException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** Time and frames, with a clock that the test moves. */
@ExtendWith(LeakCheck.class)
class TcpFramesTest {
    private static final long BODY_MILLIS = Limits.DEFAULT.bodyMillis();

    private final Metrics metrics = new Metrics();
    private final Models models = Models.of(new Model("m", "1", null));
    private final Scheduler scheduler =
            new Scheduler(models, Batching.DEFAULT, Limits.DEFAULT, metrics, StubCompute.free());
    private EmbeddedChannel channel;

    @BeforeEach
    void open() {
        channel = new EmbeddedChannel(new TcpFrames(new Core(ServerOptions.DEFAULT, models, metrics, scheduler)));
        channel.freezeTime();
    }

    @AfterEach
    void stop() {
        channel.close();
        scheduler.close();
        models.close();
    }

    private void come(byte[] frame, int from, int to) {
        channel.writeInbound(Unpooled.copiedBuffer(frame, from, to - from));
    }

    private void pass(long millis) {
        channel.advanceTimeBy(millis, TimeUnit.MILLISECONDS);
        channel.runScheduledPendingTasks();
    }

    private int received() {
        TcpFrames.Received received = assertInstanceOf(TcpFrames.Received.class, channel.readInbound());
        int bytes = received.body().readableBytes();
        received.body().release();
        return bytes;
    }

    @Test
    void aFrameThatDoesNotComeOnEndsTheConnection() {
        byte[] frame = TcpPeer.requestOf(1, new byte[100]).toFrame().toByteArray();
        come(frame, 0, 50);
        pass(BODY_MILLIS - 1);
        come(frame, 50, 60); // a trickle
        DamagedDataException error = assertThrows(DamagedDataException.class, () -> {
            pass(1);
            channel.checkException();
        });
        assertTrue(error.getMessage().contains("does not end"), error.getMessage());
    }

    @Test
    void framesThatFollowEachOtherAreNotOneThatDoesNotEnd() {
        byte[] frame = TcpPeer.requestOf(1, new byte[100]).toFrame().toByteArray();
        come(frame, 0, 50);
        for (int i = 0; i < 5; i++) {
            // Whenever somebody looks, a frame is under way: each time another one.
            pass(BODY_MILLIS / 2);
            come(frame, 50, frame.length);
            assertEquals(100, received());
            come(frame, 0, 50);
            pass(BODY_MILLIS - BODY_MILLIS / 2);
            channel.checkException();
        }
        come(frame, 50, frame.length);
        assertEquals(100, received());
    }

    @Test
    void aLongFrameHasTheTimeThatItNeeds() {
        byte[] frame = TcpPeer.requestOf(1, new byte[1 << 20]).toFrame().toByteArray();
        int step = 70_000; // every 5 s: 14 KiB a second
        for (int at = 0; at < frame.length; at += step) {
            come(frame, at, Math.min(frame.length, at + step));
            pass(BODY_MILLIS / 3);
            channel.checkException();
        }
        assertEquals(1 << 20, received());
    }
}

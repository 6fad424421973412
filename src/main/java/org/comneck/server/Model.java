package org.comneck.server;

import java.util.HexFormat;
import org.comneck.engine.NativeEngine;

/** A loaded model and the number of those who use it. Its engine is closed when it was unloaded and the last of them is done. */
final class Model {
    private final String name;
    private final String version;
    private final NativeEngine engine; // null in tests of the scheduler alone
    private int users = 1; // the registry is the first
    private boolean unloaded;
    private final Statistics statistics = new Statistics();

    Model(String name, String version, NativeEngine engine) {
        this.name = name;
        this.version = version;
        this.engine = engine;
    }

    String name() {
        return name;
    }

    String version() {
        return version;
    }

    Statistics statistics() {
        return statistics;
    }

    NativeEngine engine() {
        return engine;
    }

    /** Hex of the 16 bytes by which bitstreams name it. */
    String identity() {
        return HexFormat.of().formatHex(engine.identity());
    }

    /** One user more; false when the last one has gone. */
    synchronized boolean use() {
        if (users == 0) {
            return false;
        }
        users++;
        return true;
    }

    /** One user less. The last one's thread must not be an event loop unless {@code closer} takes the work away. */
    void release(java.util.concurrent.Executor closer) {
        synchronized (this) {
            if (--users > 0) {
                return;
            }
        }
        if (engine != null) {
            closer.execute(engine::close);
        }
    }

    /** The registry's own use ends. Idempotent. */
    void unload(java.util.concurrent.Executor closer) {
        synchronized (this) {
            if (unloaded) {
                return;
            }
            unloaded = true;
        }
        release(closer);
    }
}

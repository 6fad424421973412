package org.comneck.server;

import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.ByteBufUtil;
import io.netty.util.ResourceLeakDetector;
import java.lang.ref.ReferenceQueue;
import java.lang.ref.WeakReference;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.junit.jupiter.api.extension.AfterAllCallback;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

/** Fails a test after which Netty's leak detector, looking at every buffer, reports one that nobody released. */
public final class LeakCheck implements BeforeAllCallback, AfterEachCallback, AfterAllCallback {
    private static final BlockingQueue<String> REPORTS = new LinkedBlockingQueue<>();
    private static final int COLLECTION_MILLIS = 5000;

    @Override
    public void beforeAll(ExtensionContext context) throws InterruptedException {
        ResourceLeakDetector.setLevel(ResourceLeakDetector.Level.PARANOID);
        ByteBufUtil.setLeakListener((type, records) -> REPORTS.add(type + " was not released:" + records));
        collect(); // what others left behind
        REPORTS.clear();
    }

    @Override
    public void afterEach(ExtensionContext context) throws InterruptedException {
        check();
    }

    @Override
    public void afterAll(ExtensionContext context) throws InterruptedException {
        check();
    }

    static void check() throws InterruptedException {
        collect();
        List<String> found = new ArrayList<>();
        REPORTS.drainTo(found);
        if (!found.isEmpty()) {
            throw new AssertionError(found.size() + " leaks; the first: " + found.getFirst());
        }
    }

    /** The detector hears of a buffer when the collector has found it unreachable, and speaks when the next one is made. */
    private static void collect() throws InterruptedException {
        ReferenceQueue<Object> found = new ReferenceQueue<>();
        WeakReference<Object> sentinel = new WeakReference<>(new Object(), found);
        System.gc();
        if (found.remove(COLLECTION_MILLIS) != sentinel) {
            throw new AssertionError("the collector did not run");
        }
        ByteBufAllocator.DEFAULT.directBuffer(1).release();
    }
}

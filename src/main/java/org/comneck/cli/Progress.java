package org.comneck.cli;

import me.tongfei.progressbar.ConsoleProgressBarConsumer;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarStyle;

/** A progress bar on standard error, when somebody sits before it. */
final class Progress implements AutoCloseable {
    private static final long MEBIBYTE = 1 << 20;

    private final ProgressBar bar;

    private Progress(ProgressBar bar) {
        this.bar = bar;
    }

    /** No bar. */
    static Progress none() {
        return new Progress(null);
    }

    /** Counts things. */
    static Progress ofCount(String task, long total) {
        return visible() ? new Progress(builder(task).setInitialMax(total).build()) : none();
    }

    /** A part of a whole; says nothing about the time left, which the task knows better. */
    static Progress ofPart(String task) {
        return visible()
                ? new Progress(builder(task)
                        .setInitialMax(100)
                        .setUnit(" %", 1)
                        .hideEta()
                        .build())
                : none();
    }

    /** Counts bytes. */
    static Progress ofBytes(String task) {
        return visible()
                ? new Progress(builder(task)
                        .setInitialMax(-1)
                        .setUnit(" MiB", MEBIBYTE)
                        .build())
                : none();
    }

    private static ProgressBarBuilder builder(String task) {
        return new ProgressBarBuilder()
                .setTaskName(task)
                .setStyle(ProgressBarStyle.ASCII)
                .setUpdateIntervalMillis(200)
                .clearDisplayOnFinish()
                .setConsumer(new ConsoleProgressBarConsumer(System.err));
    }

    /** Whether somebody sits before it. */
    static boolean visible() {
        return System.console() != null && System.console().isTerminal();
    }

    void step() {
        if (bar != null) {
            bar.step();
        }
    }

    void to(String what, long done, long total) {
        if (bar != null) {
            bar.maxHint(total);
            bar.stepTo(done);
            bar.setExtraMessage(what);
        }
    }

    @Override
    public void close() {
        if (bar != null) {
            bar.close();
        }
    }
}

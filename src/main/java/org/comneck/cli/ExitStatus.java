package org.comneck.cli;

/** What the process ends with; README.md lists them. */
final class ExitStatus {
    /** All was done. */
    static final int OK = 0;

    /** Wrong options, wrong kind of file, wrong model. */
    static final int USAGE = 2;

    /** Damaged data: a bitstream, photo, model or checkpoint is not what it claims to be. */
    static final int DAMAGED = 3;

    /** A file cannot be read or written. */
    static final int IO = 4;

    /** A bug of ours. */
    static final int INTERNAL = 70;

    /** Ctrl-C. */
    static final int INTERRUPTED = 130;

    private ExitStatus() {}
}

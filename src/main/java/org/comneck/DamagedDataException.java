package org.comneck;

/**
 * Bytes from outside are truncated, corrupted, of another type than they claim, or beyond a limit. The message says what is
 * wrong, where (file, offset, tensor) and what to do.
 */
public final class DamagedDataException extends ComneckException {
    private static final long serialVersionUID = 1L;

    /** Byte offset in the file or stream, or -1 where none is known. */
    private final long offset;

    public DamagedDataException(String message) {
        this(message, -1, null);
    }

    public DamagedDataException(String message, long offset) {
        this(message, offset, null);
    }

    public DamagedDataException(String message, long offset, Throwable cause) {
        super(offset < 0 ? message : message + " (at byte " + offset + ")", cause);
        this.offset = offset;
    }

    /** Byte offset in the file or stream, or -1 where none is known. */
    public long offset() {
        return offset;
    }
}

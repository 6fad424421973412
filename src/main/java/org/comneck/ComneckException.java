package org.comneck;

/** What this library throws: one of three kinds, so that a caller can tell whose fault it was. */
public abstract sealed class ComneckException extends RuntimeException
        permits DamagedDataException, UsageException, InternalException {
    private static final long serialVersionUID = 1L;

    ComneckException(String message, Throwable cause) {
        super(message, cause);
    }
}

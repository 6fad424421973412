package org.comneck;

/** The request cannot be served as it was made: a wrong option, a missing file, the wrong model. Says what to do instead. */
public final class UsageException extends ComneckException {
    private static final long serialVersionUID = 1L;

    public UsageException(String message) {
        super(message, null);
    }

    public UsageException(String message, Throwable cause) {
        super(message, cause);
    }
}

package org.comneck;

/** A bug of ours, or a machine that does not keep its promises (a native allocation that failed, say). Please report it. */
public sealed class InternalException extends ComneckException permits DeviceException {
    private static final long serialVersionUID = 1L;

    public InternalException(String message) {
        super(message, null);
    }

    public InternalException(String message, Throwable cause) {
        super(message, cause);
    }
}

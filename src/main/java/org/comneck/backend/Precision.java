package org.comneck.backend;

/** The arithmetic of one layer. */
public enum Precision {
    /** Canonical: IEEE binary32, the same bits everywhere. */
    F32(0),
    /** Fast: bf16 inputs and weights, f32 accumulation, to a tolerance. Never before a decoded symbol. */
    BF16(1);

    private final int code;

    Precision(int code) {
        this.code = code;
    }

    /** The number by which native code knows this precision. */
    public int code() {
        return code;
    }
}

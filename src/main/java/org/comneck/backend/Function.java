package org.comneck.backend;

/** Element-wise function at the end of a layer. Each is a fixed sequence of IEEE binary32 operations (docs/arithmetic.md). */
public enum Function {
    NONE(0),
    RELU(1),
    /** x * sigmoid(1.702 x), as in OpenAI's CLIP. */
    QUICK_GELU(2),
    /** x/2 * (1 + erf(x / sqrt 2)). */
    GELU(3);

    private final int code;

    Function(int code) {
        this.code = code;
    }

    /** The number by which native code knows this function. */
    public int code() {
        return code;
    }
}

package org.comneck.backend;

import org.comneck.tensor.ElementType;

/** The arithmetic of one layer. */
public enum Precision {
    /** Canonical: IEEE binary32, the same bits everywhere. */
    F32(0, ElementType.F32),
    /** Fast: bf16 inputs and weights, f32 accumulation, to a tolerance. Never before a decoded symbol. */
    BF16(1, ElementType.BF16),
    /** Fast: fp16 inputs and weights, f32 accumulation, on some backends only: {@link Backend#computes}. Never before a decoded symbol. */
    F16(2, ElementType.F16);

    private final int code;
    private final ElementType operands;

    Precision(int code, ElementType operands) {
        this.code = code;
        this.operands = operands;
    }

    /** As what values that only such a layer reads may be stored. */
    public ElementType operands() {
        return operands;
    }

    /** The number by which native code knows this precision. */
    public int code() {
        return code;
    }
}

package org.comneck.bitstream;

/** The arithmetic that a stream's symbols depend on: a decoder must compute exactly as this says. */
public enum ArithmeticProfile {
    /** IEEE binary32 in canonical order with fused multiply-add, docs/arithmetic.md. */
    F32_FMA(1, "f32-fma");

    private final int code;
    private final String text;

    ArithmeticProfile(int code, String text) {
        this.code = code;
        this.text = text;
    }

    /** The number that stands for this profile in a file. */
    public int code() {
        return code;
    }

    /** The name that a model's manifest uses. */
    @Override
    public String toString() {
        return text;
    }

    /** The profile of this name, or null. */
    public static ArithmeticProfile named(String text) {
        for (ArithmeticProfile profile : values()) {
            if (profile.text.equals(text)) {
                return profile;
            }
        }
        return null;
    }

    static ArithmeticProfile of(int code) {
        for (ArithmeticProfile profile : values()) {
            if (profile.code == code) {
                return profile;
            }
        }
        return null;
    }
}

package org.comneck.engine;

import java.util.Locale;
import org.comneck.UsageException;

/** File formats of tokens. */
public enum TokenFormat {
    /** NumPy array, version 1.0. */
    NPY,
    /** One tensor in a safetensors file. */
    SAFETENSORS,
    /** The elements alone, little-endian. */
    BIN;

    /** {@code .npy}. */
    public String extension() {
        return "." + name().toLowerCase(Locale.ROOT);
    }

    /**
     * The format that a file name ends with.
     *
     * @throws UsageException when it ends with none
     */
    public static TokenFormat ofFile(String name) {
        for (TokenFormat format : values()) {
            if (name.toLowerCase(Locale.ROOT).endsWith(format.extension())) {
                return format;
            }
        }
        throw new UsageException(name + ": the name of a token file ends with .npy, .safetensors or .bin");
    }
}

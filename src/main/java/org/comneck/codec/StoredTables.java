package org.comneck.codec;

import java.util.Arrays;
import org.comneck.DamagedDataException;
import org.comneck.backend.CodingTables;
import org.comneck.model.ModelFile;

/** The integer tables that import stored in a model file. */
final class StoredTables {
    private StoredTables() {}

    /**
     * Tables {@code prefix.{shift,first,count} [T]} and {@code prefix.frequency [T, 256]}, of whose row t the first {@code count[t] + 1} are
     * used.
     *
     * @throws DamagedDataException when one is missing, misshapen, or is no probability table
     */
    static CodingTables read(ModelFile model, String prefix, int tables) {
        int[] shift = model.tensor(prefix + ".shift", tables).toInts();
        int[] first = model.tensor(prefix + ".first", tables).toInts();
        int[] count = model.tensor(prefix + ".count", tables).toInts();
        int[] all = model.tensor(prefix + ".frequency", tables, 256).toInts();
        int[][] frequency = new int[tables][];
        for (int t = 0; t < tables; t++) {
            int used = Math.clamp(count[t] + 1L, 0, 256);
            frequency[t] = Arrays.copyOfRange(all, t * 256, t * 256 + used);
        }
        try {
            return new CodingTables(CodingTables.PRECISION, shift, first, count, frequency);
        } catch (IllegalArgumentException e) {
            throw new DamagedDataException(model.file() + ": " + prefix + ": " + e.getMessage(), -1, e);
        }
    }
}

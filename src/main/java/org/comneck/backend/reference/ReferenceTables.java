package org.comneck.backend.reference;

import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;

/** Coding tables with the sums and inverses that coding needs. */
final class ReferenceTables implements Backend.Tables {
    private final CodingTables source;

    /** {@code start[t][q]}: sum of the frequencies before symbol q; the last entry is 4096. */
    final int[][] start;

    /** {@code symbolAt[t][slot]}: the symbol whose range holds the slot. */
    final byte[][] symbolAt;

    ReferenceTables(CodingTables source) {
        this.source = source;
        start = new int[source.tables()][];
        symbolAt = new byte[source.tables()][1 << CodingTables.PRECISION];
        for (int t = 0; t < source.tables(); t++) {
            int[] frequency = source.frequency()[t];
            start[t] = new int[frequency.length + 1];
            for (int q = 0; q < frequency.length; q++) {
                start[t][q + 1] = start[t][q] + frequency[q];
                java.util.Arrays.fill(symbolAt[t], start[t][q], start[t][q + 1], (byte) q);
            }
        }
    }

    static ReferenceTables of(Backend.Tables tables) {
        if (tables instanceof ReferenceTables ours) {
            return ours;
        }
        throw new IllegalArgumentException("tables of another backend: " + tables);
    }

    @Override
    public CodingTables source() {
        return source;
    }

    @Override
    public void close() {
        // plain Java memory
    }
}

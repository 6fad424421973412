package org.comneck.backend;

/**
 * Integer probability tables for rANS, made once when a model is imported and never recomputed at run time.
 *
 * <p>Table t codes a value v as follows. With {@code q = (v >> shift[t]) - first[t]}: values with {@code 0 <= q < count[t]} are coded as
 * symbol q, and the low {@code shift[t]} bits of v go to the raw bits; any other value is coded as the escape symbol {@code count[t]} and
 * its value goes to the escapes. Frequencies of the {@code count[t] + 1} symbols sum to {@code 1 << precision}.
 *
 * @param precision bits of the frequencies, 12
 * @param shift number of low bits of a value that table t does not model, 0 for all but the widest scales
 * @param first smallest coded (shifted) value of table t
 * @param count coded values of table t, escape excluded, at most 255
 * @param frequency {@code frequency[t]} has {@code count[t] + 1} entries, the escape symbol last; each at least 1
 */
public record CodingTables(int precision, int[] shift, int[] first, int[] count, int[][] frequency) {
    /** Number of tables. */
    public int tables() {
        return count.length;
    }
}

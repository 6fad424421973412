package org.comneck.backend;

import java.util.Arrays;

/**
 * Integer probability tables for rANS, made once when a model is imported and never recomputed at run time.
 *
 * <p>Table t codes a value v as follows. With {@code q = (v >> shift[t]) - first[t]}: values with {@code 0 <= q < count[t]} are coded as
 * symbol q, and the low {@code shift[t]} bits of v go to the side bits of the payload; any other value is coded as the escape symbol
 * {@code count[t]}, and its distance from the table's end goes to the side bits (docs/format.md). Frequencies of the {@code count[t] + 1}
 * symbols sum to {@code 1 << 12}.
 *
 * @param precision bits of the frequencies, {@value #PRECISION}
 * @param shift number of low bits of a value that table t does not model, 0 for all but the widest scales
 * @param first smallest coded (shifted) value of table t
 * @param count coded values of table t, escape excluded, 1 to {@value #MAX_COUNT}
 * @param frequency {@code frequency[t]} has {@code count[t] + 1} entries, the escape symbol last; each at least 1
 */
public record CodingTables(int precision, int[] shift, int[] first, int[] count, int[][] frequency) {
    /** Bits of a frequency. */
    public static final int PRECISION = 12;

    /** Most values that a table codes without escape. */
    public static final int MAX_COUNT = 255;

    /** Most tables: indices are unsigned bytes. */
    public static final int MAX_TABLES = 256;

    /**
     * Checks every table.
     *
     * @throws IllegalArgumentException naming the table and what is wrong with it
     */
    public CodingTables {
        int tables = count.length;
        check(precision == PRECISION, "precision is %d bits, not %d", precision, PRECISION);
        check(tables >= 1 && tables <= MAX_TABLES, "%d tables, not 1 to %d", tables, MAX_TABLES);
        check(
                shift.length == tables && first.length == tables && frequency.length == tables,
                "%d counts, but %d shifts, %d first values, %d rows of frequencies",
                tables,
                shift.length,
                first.length,
                frequency.length);
        for (int t = 0; t < tables; t++) {
            check(shift[t] >= 0 && shift[t] <= 15, "table %d: shift %d is not within 0 to 15", t, shift[t]);
            check(count[t] >= 1 && count[t] <= MAX_COUNT, "table %d: %d values, not 1 to 255", t, count[t]);
            long low = (long) first[t] << shift[t];
            long high = (((long) first[t] + count[t]) << shift[t]) - 1;
            check(
                    low >= Short.MIN_VALUE && high <= Short.MAX_VALUE,
                    "table %d: values %d to %d exceed 16 bits",
                    t,
                    low,
                    high);
            check(
                    frequency[t].length == count[t] + 1,
                    "table %d: %d frequencies for %d values and the escape",
                    t,
                    frequency[t].length,
                    count[t]);
            long sum = 0;
            for (int f : frequency[t]) {
                check(f >= 1, "table %d: a frequency is %d", t, f);
                sum += f;
            }
            check(sum == 1 << PRECISION, "table %d: frequencies sum to %d, not %d", t, sum, 1 << PRECISION);
        }
        shift = shift.clone();
        first = first.clone();
        count = count.clone();
        frequency = Arrays.stream(frequency).map(int[]::clone).toArray(int[][]::new);
    }

    private static void check(boolean condition, String format, Object... values) {
        if (!condition) {
            throw new IllegalArgumentException("coding tables: " + format.formatted(values));
        }
    }

    /** Number of tables. */
    public int tables() {
        return count.length;
    }
}

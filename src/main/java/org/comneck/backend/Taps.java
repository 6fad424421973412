package org.comneck.backend;

/**
 * How one axis of an 8-bit picture is resampled: each element is
 * {@code clamp((2^21 + sum over k < count of source[first + k] * weight[k]) >> 22, 0, 255)} in 32-bit integers.
 *
 * @param size elements of the source along the axis
 * @param most room for weights of each element
 * @param values of each element first, count, then {@code most} weights of 22 fractional bits; not copied
 */
public record Taps(int size, int most, int[] values) {
    /** What becomes of another size. */
    public enum Axis {
        WIDTH,
        HEIGHT
    }

    /** Fractional bits of a weight: 8-bit samples times weights of up to 2 in magnitude stay within 32 bits. */
    public static final int PRECISION_BITS = 32 - 8 - 2;

    /** @throws IllegalArgumentException when an element reaches outside the source, or a sum could overflow */
    public Taps {
        if (size < 1 || most < 1 || values.length == 0 || values.length % (most + 2) != 0) {
            throw new IllegalArgumentException(values.length + " values for up to " + most + " taps into " + size);
        }
        for (int at = 0; at < values.length; at += most + 2) {
            int first = values[at];
            int count = values[at + 1];
            long sum = 0;
            for (int k = 0; k < Math.clamp(count, 0, most); k++) {
                sum += Math.abs((long) values[at + 2 + k]);
            }
            if (first < 0 || count < 1 || count > most || first > size - count) {
                throw new IllegalArgumentException(count + " taps from " + first + ", of " + size);
            }
            if (255 * sum + (1 << (PRECISION_BITS - 1)) > Integer.MAX_VALUE) {
                throw new IllegalArgumentException("weights of " + sum + " in magnitude");
            }
        }
    }

    /** Elements that come out. */
    public int outputs() {
        return values.length / (most + 2);
    }

    /** First source element of an output. */
    public int first(int output) {
        return values[output * (most + 2)];
    }

    /** How many source elements of an output. */
    public int count(int output) {
        return values[output * (most + 2) + 1];
    }

    /** Weight of source element {@code first(output) + k}. */
    public int weight(int output, int k) {
        return values[output * (most + 2) + 2 + k];
    }

    /** Those of some outputs alone: what crops the result. */
    public Taps slice(int from, int count) {
        int each = most + 2;
        return new Taps(size, most, java.util.Arrays.copyOfRange(values, from * each, (from + count) * each));
    }

    /** A sum of samples times weights, plus one half, as a byte. */
    public static byte round(int sum) {
        return (byte) Math.clamp(sum >> PRECISION_BITS, 0, 255);
    }
}

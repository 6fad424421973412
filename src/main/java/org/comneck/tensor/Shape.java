package org.comneck.tensor;

import java.util.Arrays;

/** Sizes of a row-major array, outermost first. A scalar has none; a size may be 0. */
public final class Shape {
    private final long[] sizes;
    private final long elements;

    private Shape(long[] sizes) {
        long product = 1;
        for (long size : sizes) {
            if (size < 0) {
                throw new IllegalArgumentException("negative size in shape " + Arrays.toString(sizes));
            }
            product = Math.multiplyExact(product, size);
        }
        this.sizes = sizes;
        this.elements = product;
    }

    /**
     * A shape of these sizes.
     *
     * @throws IllegalArgumentException when a size is negative
     * @throws ArithmeticException when the number of elements exceeds a long
     */
    public static Shape of(long... sizes) {
        return new Shape(sizes.clone());
    }

    public int rank() {
        return sizes.length;
    }

    /** Size of one dimension; negative indices count from the end. */
    public long size(int dimension) {
        return sizes[dimension < 0 ? sizes.length + dimension : dimension];
    }

    /** Number of elements. */
    public long elements() {
        return elements;
    }

    public long[] toArray() {
        return sizes.clone();
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Shape shape && Arrays.equals(sizes, shape.sizes);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(sizes);
    }

    /** {@code [320,16,16]}. */
    @Override
    public String toString() {
        return Arrays.toString(sizes).replace(" ", "");
    }
}

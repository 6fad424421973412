package org.comneck.backend;

/**
 * Which positions of an h x w grid an activation holds, in raster order. The checkerboard of ELIC (section 3.2): anchors are the
 * positions where row and column are both even or both odd.
 */
public enum Grid {
    /** All h*w positions. */
    FULL(0),
    /** Positions with (row + column) even. */
    ANCHORS(1),
    /** Positions with (row + column) odd. */
    NON_ANCHORS(2);

    private final int code;

    Grid(int code) {
        this.code = code;
    }

    /** The number by which native code knows this grid. */
    public int code() {
        return code;
    }

    /** Number of positions of an h x w grid. */
    public int positions(int height, int width) {
        int all = Math.multiplyExact(height, width);
        return switch (this) {
            case FULL -> all;
            case ANCHORS -> (all + 1) / 2;
            case NON_ANCHORS -> all / 2;
        };
    }
}

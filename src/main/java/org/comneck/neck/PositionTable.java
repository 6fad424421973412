package org.comneck.neck;

import org.comneck.DamagedDataException;
import org.comneck.tensor.Tensor;

/**
 * A learned position for every token: first those of the tokens that have no place in the picture (a class token, or none), then a square
 * grid in raster order.
 */
public final class PositionTable {
    private final int prefix;
    private final int side;
    private final int width;
    private final float[] values;

    /**
     * @param table [tokens, D] or [1, tokens, D]
     * @param prefix tokens before the grid, 0 or 1
     * @param name for errors
     */
    public PositionTable(Tensor table, int prefix, String name) {
        int rank = table.shape().rank();
        if (rank < 2 || rank > 3 || rank == 3 && table.shape().size(0) != 1) {
            throw new DamagedDataException("tensor '" + name + "' has shape " + table.shape() + " instead of [T,D]");
        }
        long cells = table.shape().size(-2) - prefix;
        this.side = (int) Math.round(Math.sqrt(cells));
        if (cells < 1 || (long) side * side != cells) {
            throw new DamagedDataException("tensor '" + name + "' has shape " + table.shape() + ": " + cells
                    + " positions are not a square grid");
        }
        this.prefix = prefix;
        this.width = Math.toIntExact(table.shape().size(-1));
        this.values = table.toFloats();
    }

    /** Rows and columns of the table's own grid. */
    public int side() {
        return side;
    }

    /** True when tokens of this grid need interpolated positions. */
    public boolean interpolates(int height, int rowWidth) {
        return height != side || rowWidth != side;
    }

    /**
     * Positions for a grid, [prefix + height * width, D]: the table itself, or bicubically interpolated (Keys' kernel with a = -0.75, pixel
     * centres at halves, edges repeated: PyTorch's {@code interpolate(mode="bicubic", align_corners=False)}), in f64.
     */
    public Tensor forGrid(int height, int columns) {
        if (!interpolates(height, columns)) {
            return Tensor.of(values, prefix + (long) side * side, width);
        }
        float[] out = new float[(prefix + height * columns) * width];
        System.arraycopy(values, 0, out, 0, prefix * width);
        for (int y = 0; y < height; y++) {
            double[] wy = new double[4];
            int top = weights((y + 0.5) * side / height - 0.5, wy);
            for (int x = 0; x < columns; x++) {
                double[] wx = new double[4];
                int left = weights((x + 0.5) * side / columns - 0.5, wx);
                for (int c = 0; c < width; c++) {
                    double sum = 0;
                    for (int i = 0; i < 4; i++) {
                        int row = Math.clamp(top + i, 0, side - 1);
                        for (int j = 0; j < 4; j++) {
                            int column = Math.clamp(left + j, 0, side - 1);
                            sum += wy[i] * wx[j] * values[(prefix + row * side + column) * width + c];
                        }
                    }
                    out[(prefix + y * columns + x) * width + c] = (float) sum;
                }
            }
        }
        return Tensor.of(out, prefix + (long) height * columns, width);
    }

    /** Weights of the four neighbours of a coordinate; returns the first neighbour. */
    private static int weights(double at, double[] weights) {
        int base = (int) Math.floor(at);
        double t = at - base;
        for (int i = 0; i < 4; i++) {
            weights[i] = cubic(Math.abs(t + 1 - i));
        }
        return base - 1;
    }

    private static double cubic(double d) {
        double a = -0.75;
        if (d <= 1) {
            return ((a + 2) * d - (a + 3)) * d * d + 1;
        }
        return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
    }
}

package org.comneck.neck;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.comneck.DamagedDataException;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;

class PositionTableTest {
    private static final double[] GRID = {
        0.0,
        -4.0,
        1.8284271247461903,
        3.196152422706632,
        8.0,
        8.180339887498949,
        7.696938456699069,
        17.520259177452136,
        22.627416997969522
    };

    /** PyTorch 2.13: interpolate(GRID as f64, size=(4,5), mode="bicubic", align_corners=False). */
    private static final double[] GROWN = {
        0.21525268109027842, -2.475430938467763, -4.861328125, -1.3797210579299244, 1.9709515539988656,
        1.4462712718143085, 1.848394504826909, 2.6298543384146824, 3.732316635899859, 4.464953516925354,
        4.441492648674181, 8.01400119899891, 12.748999644999842, 14.111896206855652, 14.212388743134692,
        7.042366826684692, 11.578054724779943, 18.20359809302121, 22.278822200894545, 24.188625823499905
    };

    /** The same to size=(2,2). */
    private static final double[] SHRUNK = {-0.08225530831663883, 1.691580881894316, 8.69433581693569, 19.03460574046342
    };

    /** GRID behind a class token, two channels: GRID and its negative. */
    private static PositionTable table() {
        float[] values = new float[20];
        values[0] = 100;
        values[1] = 200;
        for (int i = 0; i < 9; i++) {
            values[2 + 2 * i] = (float) GRID[i];
            values[3 + 2 * i] = (float) -GRID[i];
        }
        return new PositionTable(Tensor.of(values, 1, 10, 2), 1, "pos_embed");
    }

    private static void check(double[] expected, int height, int columns) {
        float[] actual = table().forGrid(height, columns).toFloats();
        assertEquals(2 * (1 + expected.length), actual.length);
        assertEquals(100, actual[0]);
        assertEquals(200, actual[1]);
        for (int i = 0; i < expected.length; i++) {
            assertEquals(expected[i], actual[2 + 2 * i], 3e-6, "position " + i);
            assertEquals(-expected[i], actual[3 + 2 * i], 3e-6, "position " + i);
        }
    }

    @Test
    void interpolatesLikePyTorch() {
        check(GROWN, 4, 5);
        check(SHRUNK, 2, 2);
        assertTrue(table().interpolates(4, 5));
    }

    @Test
    void itsOwnGridIsTheTableItself() {
        check(GRID, 3, 3);
        assertFalse(table().interpolates(3, 3));
    }

    @Test
    void withoutClassToken() {
        float[] values = {1, 2, 3, 4};
        PositionTable table = new PositionTable(Tensor.of(values, 4, 1), 0, "p");
        assertEquals(2, table.side());
        assertArrayEquals(values, table.forGrid(2, 2).toFloats());
    }

    @Test
    void refusesWhatIsNoSquareGrid() {
        Tensor ten = Tensor.of(new float[10], 10, 1);
        DamagedDataException e =
                assertThrows(DamagedDataException.class, () -> new PositionTable(ten, 0, "visual.trunk.pos_embed"));
        assertTrue(e.getMessage().contains("visual.trunk.pos_embed"), e.getMessage());
        assertThrows(DamagedDataException.class, () -> new PositionTable(Tensor.of(new float[4], 4), 0, "p"));
    }
}

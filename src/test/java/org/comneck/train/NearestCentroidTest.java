package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class NearestCentroidTest {
    @Test
    void classesAreToldByTheirDirectionFromTheMeanOfAll() {
        NearestCentroid classes = new NearestCentroid();
        classes.add("left", new float[] {9, 1, 0});
        classes.add("left", new float[] {9, 1, 0.2f});
        classes.add("right", new float[] {11, 1, 0});
        classes.add("up", new float[] {10, 2, 0});
        assertEquals("left", classes.nearest(new float[] {9.5f, 1, 0}));
        assertEquals("right", classes.nearest(new float[] {12, 1.1f, 0}));
        assertEquals("up", classes.nearest(new float[] {10, 5, 0.1f}));
    }
}

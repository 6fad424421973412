package org.comneck.engine;

import org.comneck.backend.Taps;

/** Filters of {@link Photo#resize}. Both are stretched when shrinking, so that every source pixel counts (antialiasing). */
public enum Resample {
    /** Triangle, one pixel to each side. */
    BILINEAR(1),
    /** Keys' cubic with a = -0.5, two pixels to each side: what CLIP's and DeiT's published preprocessing uses. */
    BICUBIC(2);

    private final double support;

    Resample(double support) {
        this.support = support;
    }

    /** What each of {@code newSize} elements of an axis is made of, for {@link org.comneck.backend.RunBuilder#resample}. */
    public Taps taps(int size, int newSize) {
        return Resampler.taps(size, newSize, this);
    }

    /** Pixels to each side of the centre where the filter is not zero, at scale 1. */
    double support() {
        return support;
    }

    /** Weight at this distance from the centre, in pixels at scale 1. */
    double weight(double distance) {
        double x = Math.abs(distance);
        if (this == BILINEAR) {
            return x < 1 ? 1 - x : 0;
        }
        double a = -0.5;
        if (x < 1) {
            return ((a + 2) * x - (a + 3)) * x * x + 1;
        }
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    }
}

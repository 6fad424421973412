package org.comneck.train;

import java.util.SplittableRandom;

/**
 * Random changes of a view's colours, each drawn evenly from [1 - strength, 1 + strength]: brightness, a factor; contrast, the distance from
 * the mean grey; saturation, the distance from each pixel's grey. Values stay in [0,1].
 *
 * @param brightness {@code augment.brightness}, 0 for none
 * @param contrast {@code augment.contrast}
 * @param saturation {@code augment.saturation}
 * @param grey {@code augment.grey}: share of views that lose their colours
 */
record ColourJitter(double brightness, double contrast, double saturation, double grey) {
    static ColourJitter of(Recipe recipe) {
        return new ColourJitter(
                recipe.number("augment.brightness", 0),
                recipe.number("augment.contrast", 0),
                recipe.number("augment.saturation", 0),
                recipe.number("augment.grey", 0));
    }

    private static float factor(double strength, SplittableRandom random) {
        return (float) (1 + strength * (2 * random.nextDouble() - 1));
    }

    private static float grey(float red, float green, float blue) {
        return 0.299f * red + 0.587f * green + 0.114f * blue;
    }

    /** Changes planes R, G, B of so many pixels each. Draws as many random numbers whatever the strengths are. */
    void apply(float[] pixels, int offset, int plane, SplittableRandom random) {
        float bright = factor(brightness, random);
        float contrasting = factor(contrast, random);
        float saturated = factor(saturation, random);
        if (random.nextDouble() < grey) {
            saturated = 0;
        }
        if (bright == 1 && contrasting == 1 && saturated == 1) {
            return;
        }
        double sum = 0;
        for (int i = offset; i < offset + plane; i++) {
            sum += grey(pixels[i], pixels[i + plane], pixels[i + 2 * plane]);
        }
        float mean = (float) (bright * sum / plane);
        for (int i = offset; i < offset + plane; i++) {
            float own = grey(pixels[i], pixels[i + plane], pixels[i + 2 * plane]);
            for (int c = 0; c < 3; c++) {
                float value = bright * (own + saturated * (pixels[i + c * plane] - own));
                pixels[i + c * plane] = Math.clamp(mean + contrasting * (value - mean), 0f, 1f);
            }
        }
    }
}

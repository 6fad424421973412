package org.comneck.train;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;

/**
 * What tokens from the bitstream are worth, on photos that are not trained on: centre squares, coded at each quality, against the encoder on
 * the uncompressed pixels. Latents are rounded, as the bitstream holds them; bits are estimated (real files differ by less than 1 %).
 *
 * <p>Figures: {@code photos}; {@code pixels.top1}, {@code pixels.top5}; and for quality q {@code bpp.q}, {@code top1.q}, {@code top5.q},
 * {@code class.cosine.q}, {@code class.error.q} (projected class token), {@code tokens.cosine.q}, {@code tokens.error.q} (patch tokens at
 * the chosen layer); errors are relative L2 distances; all are means over photos. Thorough: {@code decoded.*.q} of the picture that the
 * codec's own decoder makes, read by the same encoder.
 */
final class SurrogateMeasure {
    private static final int BATCH = 8;
    private static final int QUICK = 48;
    private static final Set<String> TERMS = Set.of("class", "tokens");

    private final Photos photos;
    private final PhotoLabels labels;
    private final CodecNetwork codec;
    private final Front front;
    private final SurrogateLoss loss;
    private final int grid;
    private final Map<String, Double> sums = new LinkedHashMap<>();

    /**
     * @param labels null without classes
     * @param grid latents on a side
     */
    SurrogateMeasure(Photos photos, PhotoLabels labels, CodecNetwork codec, Front front, SurrogateLoss loss, int grid) {
        this.photos = photos;
        this.labels = labels;
        this.codec = codec;
        this.front = front;
        this.loss = loss;
        this.grid = grid;
    }

    Map<String, Double> figures(boolean thorough) {
        int count = thorough ? photos.count() : Math.min(QUICK, photos.count());
        sums.clear();
        for (int first = 0; first < count; first += BATCH) {
            try (var _ = new PointerScope()) {
                measure(first, Math.min(BATCH, count - first), count, thorough);
            }
        }
        Map<String, Double> figures = new LinkedHashMap<>();
        figures.put("photos", (double) count);
        sums.forEach((name, sum) -> figures.put(name, sum / count));
        return figures;
    }

    private void measure(int first, int size, int count, boolean thorough) {
        int side = 16 * grid;
        float[] pixels = new float[size * 3 * side * side];
        int[] truth = new int[size];
        for (int i = 0; i < size; i++) {
            // Evenly spread over the list, whatever part of it is used.
            int photo = (int) ((long) (first + i) * photos.count() / count);
            Photos.draw(photos.get(photo), Photos.centre(photos.get(photo)), side, pixels, i * 3 * side * side);
            truth[i] = labels == null ? PhotoLabels.UNKNOWN : labels.row(photos.file(photo));
        }
        Tensor x = Ops.of(pixels, size, 3, side, side);
        SurrogateLoss.Seen wanted = loss.uncompressed(x, grid, TERMS);
        classes("pixels.", "", wanted, truth);
        Tensor analysed = codec.analysis(x);
        for (int q = 0; q < codec.size().lambdas().size(); q++) {
            try (var _ = new PointerScope()) {
                measure(q, analysed, wanted, truth, thorough);
            }
        }
    }

    private void measure(int q, Tensor analysed, SurrogateLoss.Seen wanted, int[] truth, boolean thorough) {
        int size = truth.length;
        int side = 16 * grid;
        long[] level = new long[size];
        java.util.Arrays.fill(level, q);
        Tensor quality = Ops.of(level, size);
        CodecNetwork.Result coded =
                codec.runLatents(codec.gained(analysed, quality), quality, false, thorough || front.readsPictures());
        String end = "." + q;
        add("bpp" + end, Ops.value(coded.bits().sum()) / (side * side));
        compare("", end, loss.compressed(front.tokens(coded, grid), TERMS), wanted, truth);
        if (thorough) {
            compare("decoded.", end, loss.uncompressed(Ops.clamp01(coded.xHat()), grid, TERMS), wanted, truth);
        }
    }

    private void compare(String prefix, String end, SurrogateLoss.Seen actual, SurrogateLoss.Seen wanted, int[] truth) {
        classes(prefix, end, actual, truth);
        similar(prefix + "class", end, actual.projected(), wanted.projected());
        similar(
                prefix + "tokens",
                end,
                actual.patches().flatten(1, 2),
                wanted.patches().flatten(1, 2));
    }

    private void classes(String prefix, String end, SurrogateLoss.Seen seen, int[] truth) {
        if (labels == null) {
            return;
        }
        Tensor logits = loss.logits(seen.projected());
        for (int i = 0; i < truth.length; i++) {
            int rank = EncoderStage.rank(logits.select(0, i), truth[i]);
            add(prefix + "top1" + end, rank == 0 ? 1 : 0);
            add(prefix + "top5" + end, rank < 5 ? 1 : 0);
        }
    }

    /** Cosine and relative distance of rows. */
    private void similar(String name, String end, Tensor actual, Tensor wanted) {
        Tensor cosine = Ops.sumOver(Ops.unit(actual).mul(Ops.unit(wanted)), false, 1);
        Tensor distance = Ops.sumOver(actual.sub(wanted).square(), false, 1)
                .div(Ops.sumOver(wanted.square(), false, 1))
                .sqrt();
        add(name + ".cosine" + end, Ops.value(cosine.sum()));
        add(name + ".error" + end, Ops.value(distance.sum()));
    }

    private void add(String name, double value) {
        sums.merge(name, value, Double::sum);
    }
}

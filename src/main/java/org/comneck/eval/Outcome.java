package org.comneck.eval;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.comneck.engine.Photo;
import org.comneck.eval.Neighbours.Share;
import org.comneck.model.Manifest;

/** What a run measured, and the figures that follow from it. */
public final class Outcome {
    /**
     * A path at one of its qualities.
     *
     * @param path {@link Evaluation#TOKENS}, {@link Evaluation#RECONSTRUCTION}, {@link Evaluation#POST_PROCESSING},
     *     {@link Evaluation#UNCOMPRESSED} or an anchor's name
     * @param quality in the path's own terms
     */
    public record Setting(String path, double quality) {}

    /**
     * A model and everything measured with it.
     *
     * @param numbers each photo's class among the model's labels, or null
     * @param rows by setting, one a photo in the order of {@code photos}
     * @param references gallery tokens; empty for the photos themselves
     * @param times of stages in this run
     * @param bytes of runs' buffers
     * @param costs of stages, counted for pictures of {@code size} pixels a side
     * @param examples pictures for people; empty without a report
     */
    record Measured(
            String name,
            Manifest manifest,
            String hash,
            String file,
            List<Path> photos,
            Map<Path, Integer> numbers,
            Map<Setting, List<Row>> rows,
            List<Neighbours.Token> references,
            Map<String, Pipeline.StageTime> times,
            Map<String, Long> bytes,
            List<Complexity.Cost> costs,
            int size,
            List<Example> examples) {}

    /** A photo and what became of it at several rates. */
    record Example(String name, Photo picture, List<Shot> shots) {}

    /**
     * A photo at one rate.
     *
     * @param picture decoded
     * @param cosines of each patch token with the uncompressed photo's, row by row; null without tokens
     * @param names what it is taken for, after a comma; may be empty
     */
    record Shot(long bytes, double bitsPerPixel, Photo picture, double[] cosines, String names) {}

    /**
     * One line of the results.
     *
     * @param count photos
     * @param bytes mean size of a file
     * @param bitsPerPixel mean over photos of real files; 0 when uncompressed
     * @param estimatedBitsPerPixel NaN where unknown
     * @param values those that could be measured
     */
    public record Figure(
            Setting setting,
            int count,
            double bytes,
            double bitsPerPixel,
            double estimatedBitsPerPixel,
            Map<Measure, Share> values) {}

    /**
     * Bits of one path against another at equal value of a measure.
     *
     * @param path cheaper, one hopes
     * @param reference what it is compared with
     * @param difference BD-rate
     * @param low end of the 95 % interval of the BD-rate over resampled photos, NaN when unknown
     * @param high other end
     * @param atQuality saved part of the bits at the value that the reference reaches at each of its qualities; NaN where the path does not reach it
     */
    public record Saving(
            String path,
            String reference,
            Measure measure,
            Curve.Difference difference,
            double low,
            double high,
            Map<Double, Double> atQuality) {}

    private static final int EPISODES = 600;
    private static final int RESAMPLES = 300;
    private static final List<Measure> PER_PHOTO = List.of(
            Measure.TOP1,
            Measure.TOP5,
            Measure.AGREE1,
            Measure.AGREE5,
            Measure.CLASS_COSINE,
            Measure.PATCH_COSINE,
            Measure.PSNR,
            Measure.MS_SSIM);

    private final Evaluation.Options options;
    private final Labels labels;
    private final Map<String, Measured> models;
    private final List<String> skipped;
    private final List<String> problems;
    private final int found;
    private final long measured;
    private final String backend;
    private final Map<String, List<Figure>> figures = new LinkedHashMap<>();

    Outcome(
            Evaluation.Options options,
            Labels labels,
            List<Path> photos,
            Map<String, Measured> models,
            List<String> skipped,
            List<String> problems,
            int found,
            long measured,
            String backend) {
        this.options = options;
        this.labels = labels;
        this.models = models;
        this.skipped = List.copyOf(skipped);
        this.problems = List.copyOf(problems);
        this.found = found;
        this.measured = measured;
        this.backend = backend;
        models.forEach((name, model) -> figures.put(name, figures(model)));
    }

    Evaluation.Options options() {
        return options;
    }

    Labels labels() {
        return labels;
    }

    Map<String, Measured> models() {
        return models;
    }

    String backend() {
        return backend;
    }

    /** Photos that were left out. */
    public List<String> skipped() {
        return skipped;
    }

    /** What went wrong on the way, in words. */
    public List<String> problems() {
        return problems;
    }

    /** Results of earlier runs that were there at the start. */
    public int found() {
        return found;
    }

    /** Results measured in this run. */
    public long measured() {
        return measured;
    }

    /** Every path and quality of every model, by the model's name. */
    public Map<String, List<Figure>> figures() {
        return Collections.unmodifiableMap(figures);
    }

    private List<Figure> figures(Measured model) {
        List<Figure> out = new ArrayList<>();
        model.rows().forEach((setting, rows) -> out.add(figure(model, setting, rows)));
        return out;
    }

    private Figure figure(Measured model, Setting setting, List<Row> rows) {
        Map<Measure, Share> values = new EnumMap<>(Measure.class);
        for (Measure measure : PER_PHOTO) {
            double[] each = perPhoto(model, setting, measure);
            if (each != null) {
                values.put(measure, share(each, measure.share()));
            }
        }
        if (labels != Labels.NONE && !options.full() && model.rows().containsKey(UNCOMPRESSED)) {
            List<Neighbours.Token> queries = tokens(model, rows);
            List<Neighbours.Token> gallery =
                    model.references().isEmpty() ? tokens(model, model.rows().get(UNCOMPRESSED)) : model.references();
            put(values, Measure.CENTROID, Neighbours.nearestCentroid(gallery, queries));
            put(values, Measure.NEAREST, Neighbours.nearest(gallery, queries, 5));
            put(values, Measure.SHOT1, Neighbours.episodes(queries, queries, 5, 1, EPISODES, options.seed()));
            put(values, Measure.SHOT5, Neighbours.episodes(queries, queries, 5, 5, EPISODES, options.seed()));
        }
        double estimated = rows.stream()
                .mapToDouble(r -> r.estimatedBits() / r.pixels())
                .average()
                .orElse(Double.NaN);
        return new Figure(
                setting,
                rows.size(),
                rows.stream().mapToDouble(Row::bytes).average().orElse(0),
                rows.stream().mapToDouble(Row::bitsPerPixel).average().orElse(0),
                estimated,
                values);
    }

    private static final Setting UNCOMPRESSED = new Setting(Evaluation.UNCOMPRESSED, 0);

    private static void put(Map<Measure, Share> values, Measure measure, Share share) {
        if (share.count() > 0) {
            values.put(measure, share);
        }
    }

    private List<Neighbours.Token> tokens(Measured model, List<Row> rows) {
        return IntStream.range(0, rows.size())
                .mapToObj(i -> new Neighbours.Token(
                        rows.get(i).photo(),
                        labels.of(model.photos().get(i)),
                        rows.get(i).feature()))
                .toList();
    }

    private static Share share(double[] each, boolean binomial) {
        double mean = Arrays.stream(each).average().orElse(Double.NaN);
        if (binomial && Arrays.stream(each).allMatch(v -> v == 0 || v == 1)) {
            return Share.of((int) Math.round(Arrays.stream(each).sum()), each.length);
        }
        double variance = Arrays.stream(each).map(v -> (v - mean) * (v - mean)).sum() / Math.max(each.length - 1, 1);
        double half = 1.96 * Math.sqrt(variance / each.length);
        return new Share(mean, mean - half, mean + half, each.length);
    }

    /** A measure's value of every photo; null where it has none. */
    private double[] perPhoto(Measured model, Setting setting, Measure measure) {
        List<Row> rows = model.rows().get(setting);
        List<Row> references = model.rows().get(UNCOMPRESSED);
        double[] out = new double[rows.size()];
        for (int i = 0; i < out.length; i++) {
            Row row = rows.get(i);
            Path photo = model.photos().get(i);
            out[i] = switch (measure) {
                case TOP1 -> label(model, photo, row, 1);
                case TOP5 -> label(model, photo, row, 5);
                case AGREE1 -> agreement(row, references == null ? null : references.get(i), 1);
                case AGREE5 -> agreement(row, references == null ? null : references.get(i), 5);
                case CLASS_COSINE -> cosine(row, row.similarity().length - 1, 0);
                case PATCH_COSINE -> cosine(row, tokenLayer(model.manifest(), row.similarity().length - 1), 2);
                case PSNR -> row.psnr();
                case MS_SSIM -> row.msSsim();
                default -> throw new IllegalArgumentException(measure + " is none of single photos");
            };
            if (Double.isNaN(out[i])) {
                return null;
            }
        }
        return out.length == 0 ? null : out;
    }

    static int tokenLayer(Manifest manifest, int depth) {
        int layer = manifest.tokens() == null ? -1 : manifest.tokens().layer();
        return layer < 0 ? depth + 1 + layer : layer;
    }

    private static double cosine(Row row, int layer, int which) {
        return layer < 0 || layer >= row.similarity().length || row.similarity()[layer] == null
                ? Double.NaN
                : row.similarity()[layer][which];
    }

    private static double label(Measured model, Path photo, Row row, int most) {
        if (model.numbers() == null || row.top().length == 0) {
            return Double.NaN;
        }
        int number = model.numbers().get(photo);
        return Arrays.stream(row.top()).limit(most).anyMatch(k -> k == number) ? 1 : 0;
    }

    private static double agreement(Row row, Row reference, int most) {
        if (reference == null || row.top().length == 0) {
            return Double.NaN;
        }
        long common = Arrays.stream(row.top())
                .limit(most)
                .filter(k -> Arrays.stream(reference.top()).limit(most).anyMatch(r -> r == k))
                .count();
        return (double) common / Math.min(most, reference.top().length);
    }

    // ---------------------------------------------------------------- curves

    /** A path's curve of a measure over bits per pixel. */
    public Curve curve(String model, String path, Measure measure) {
        return new Curve(figures.get(model).stream()
                .filter(f -> f.setting().path().equals(path))
                .filter(f -> f.values().containsKey(measure) && f.bitsPerPixel() > 0)
                .map(f -> new Curve.Point(
                        f.bitsPerPixel(), f.values().get(measure).value()))
                .toList());
    }

    /** Paths of a model with a rate, in the order of the results. */
    public List<String> paths(String model) {
        return figures.get(model).stream()
                .filter(f -> f.bitsPerPixel() > 0)
                .map(f -> f.setting().path())
                .distinct()
                .toList();
    }

    /** One figure, or null. */
    public Figure figure(String model, String path, double quality) {
        return figures.get(model).stream()
                .filter(f -> f.setting().equals(new Setting(path, quality)))
                .findFirst()
                .orElse(null);
    }

    /**
     * Bits of the model's own paths against the others, measure by measure: tokens against all, reconstruction against ordinary codecs; of
     * every model but the first also tokens against the first one's, and against its reconstruction. That is how the paper compares a tuned
     * codec (d2, d3): with pictures of the codec as it was.
     */
    public List<Saving> savings(String model) {
        List<Saving> out = new ArrayList<>();
        List<String> paths = paths(model);
        for (String path : List.of(Evaluation.TOKENS, Evaluation.RECONSTRUCTION)) {
            for (String reference : paths) {
                boolean own = reference.equals(Evaluation.TOKENS) || reference.equals(path);
                if (paths.contains(path) && !own) {
                    savings(out, new Source(model, path), new Source(model, reference), reference);
                }
            }
        }
        String first = models.keySet().iterator().next();
        if (!first.equals(model)) {
            for (String reference : List.of(Evaluation.RECONSTRUCTION, Evaluation.TOKENS)) {
                if (paths.contains(Evaluation.TOKENS) && paths(first).contains(reference)) {
                    Source other = new Source(first, reference);
                    savings(out, new Source(model, Evaluation.TOKENS), other, first + "'s " + reference);
                }
            }
        }
        return out;
    }

    /** A path of a model. */
    private record Source(String model, String path) {}

    private void savings(List<Saving> out, Source mine, Source other, String reference) {
        for (Measure measure : Measure.values()) {
            Curve curve = curve(mine.model, mine.path, measure);
            Curve against = curve(other.model, other.path, measure);
            if (curve.points().size() > 1 && against.points().size() > 1) {
                out.add(saving(mine, other, reference, measure, curve, against));
            }
        }
    }

    private Saving saving(Source mine, Source other, String reference, Measure measure, Curve curve, Curve against) {
        Curve.Difference difference = curve.rateAgainst(against);
        Map<Double, Double> atQuality = new LinkedHashMap<>();
        for (Figure figure : figures.get(other.model)) {
            Share value = figure.values().get(measure);
            if (figure.setting().path().equals(other.path) && value != null) {
                atQuality.put(figure.setting().quality(), 1 - cheapest(curve, value.value()) / figure.bitsPerPixel());
            }
        }
        double[] interval = {Double.NaN, Double.NaN};
        boolean samePhotos =
                models.get(mine.model).photos().equals(models.get(other.model).photos());
        if (PER_PHOTO.contains(measure) && samePhotos && !Double.isNaN(difference.percent())) {
            interval = resample(points(mine, measure), points(other, measure));
        }
        return new Saving(mine.path, reference, measure, difference, interval[0], interval[1], atQuality);
    }

    /** The rate at which a curve reaches a value; that of its cheapest point when even that is better, so that savings are never overstated. */
    private static double cheapest(Curve curve, double value) {
        Curve.Point first = curve.points().getFirst();
        return value < first.value() ? first.rate() : curve.rateAt(value);
    }

    /** One quality of a path: rate and value of every photo. */
    private record PhotoPoints(double[] rates, double[] values) {
        Curve.Point mean(int[] drawn) {
            double rate = 0;
            double value = 0;
            for (int i : drawn) {
                rate += rates[i];
                value += values[i];
            }
            return new Curve.Point(rate / drawn.length, value / drawn.length);
        }
    }

    private List<PhotoPoints> points(Source source, Measure measure) {
        Measured model = models.get(source.model);
        List<PhotoPoints> out = new ArrayList<>();
        model.rows().forEach((setting, rows) -> {
            double[] values = setting.path().equals(source.path) ? perPhoto(model, setting, measure) : null;
            if (values != null) {
                out.add(new PhotoPoints(
                        rows.stream().mapToDouble(Row::bitsPerPixel).toArray(), values));
            }
        });
        return out;
    }

    /** BD-rates of photos drawn again and again with replacement: their 2.5 % and 97.5 % quantiles. */
    private double[] resample(List<PhotoPoints> mine, List<PhotoPoints> other) {
        int count = mine.getFirst().rates.length;
        Random random = new Random(options.seed());
        List<Double> all = new ArrayList<>();
        for (int r = 0; r < RESAMPLES; r++) {
            int[] drawn = random.ints(count, 0, count).toArray();
            Curve curve = new Curve(mine.stream().map(p -> p.mean(drawn)).toList());
            Curve against = new Curve(other.stream().map(p -> p.mean(drawn)).toList());
            double percent = curve.rateAgainst(against).percent();
            if (!Double.isNaN(percent)) {
                all.add(percent);
            }
        }
        if (all.size() < RESAMPLES * 9 / 10) {
            return new double[] {Double.NaN, Double.NaN}; // too often the curves do not even overlap
        }
        Collections.sort(all);
        return new double[] {all.get((int) (0.025 * all.size())), all.get((int) (0.975 * all.size()))};
    }

    /** Mean similarity by layer of a setting: rows of {cosine, error, cosine, error}; null for layers it does not have. */
    double[][] layers(String model, Setting setting) {
        List<Row> rows = models.get(model).rows().get(setting);
        double[][] out = new double[rows.getFirst().similarity().length][];
        for (int k = 0; k < out.length; k++) {
            if (rows.getFirst().similarity()[k] == null) {
                continue;
            }
            out[k] = new double[4];
            for (Row row : rows) {
                for (int i = 0; i < 4; i++) {
                    out[k][i] += row.similarity()[k][i] / rows.size();
                }
            }
        }
        return out;
    }
}

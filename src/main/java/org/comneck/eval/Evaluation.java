package org.comneck.eval;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.comneck.DamagedDataException;
import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.backend.Backend;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.model.ModelFile;

/**
 * One run: models, photos and codecs in, everything measured out. Photos go through every path once; what an earlier run has left in the
 * report's folder is not measured again.
 */
public final class Evaluation {
    /** Tokens from the bitstream. */
    public static final String TOKENS = "tokens";

    /** Decoded by the model's codec, then its encoder from pixels. */
    public static final String RECONSTRUCTION = "reconstruction";

    /** Decoded, through a U-Net that was trained for the encoder, then the encoder from pixels. */
    public static final String POST_PROCESSING = "post-processing";

    /** The encoder from the photo's own pixels. */
    public static final String UNCOMPRESSED = "uncompressed";

    /**
     * A model under test.
     *
     * @param name in the report
     * @param file or null for the one that comes with the program
     */
    public record NamedModel(String name, Path file) {}

    /**
     * What to measure.
     *
     * @param models at least one
     * @param photos to measure on
     * @param gallery photos whose uncompressed tokens are what neighbours and centroids are found in; empty for the photos themselves
     * @param qualities of the models' codecs; empty for every whole one
     * @param anchors ordinary codecs
     * @param labels where the right answers come from
     * @param full whole pictures: rates and picture quality alone, no tokens
     * @param folder where results are kept, or null
     * @param engine backend, threads, precision
     * @param seed of episodes
     */
    public record Options(
            List<NamedModel> models,
            List<Path> photos,
            List<Path> gallery,
            List<Double> qualities,
            List<Anchor> anchors,
            Labels labels,
            boolean full,
            Path folder,
            EngineOptions engine,
            long seed) {}

    /** Told what goes on; called from one thread. */
    public interface Listener {
        /** So many of so many photos are through, all models together. */
        void progress(String what, long done, long total);

        /** A line for people: a photo skipped, a codec that failed. */
        void note(String text);
    }

    /** Increased when what a result means changes: older ones are then measured again. */
    private static final String VERSION = "1";

    private static final int BATCH = 4;

    /** Photos that the report shows. */
    private static final int EXAMPLES = 3;

    /** Side of the picture for which costs are counted when the model names none. */
    private static final int CODEC_SIZE = 256;

    /** Stands for the PSNR of equal pictures, so that means stay finite. */
    private static final double EQUAL_DB = 100;

    private final Options options;
    private final Listener listener;
    private final List<String> skipped = new ArrayList<>();
    private final List<String> failures = new ArrayList<>();
    private final Map<Path, String> hashes = new HashMap<>();
    private final List<Anchor> anchors;
    private long done;
    private long measured;

    public Evaluation(Options options, Listener listener) {
        this.options = options;
        this.listener = listener;
        this.anchors = new ArrayList<>(options.anchors());
    }

    /**
     * Measures what is still to be measured.
     *
     * @throws UsageException when a label is unknown, a model lacks what is asked for, or results cannot be kept
     */
    public Outcome run() {
        Labels labels = options.labels().resolve(options.photos());
        Labels galleryLabels = options.labels().resolve(options.gallery());
        List<Path> photos = readable(options.photos());
        List<Path> gallery = options.full() ? List.of() : readable(options.gallery());
        if (photos.isEmpty()) {
            throw new UsageException("none of the " + options.photos().size() + " photos can be read");
        }
        long total = (long) options.models().size() * (photos.size() + gallery.size());
        Map<String, Outcome.Measured> models = new LinkedHashMap<>();
        try (Results results = new Results(options.folder());
                Backend backend = NativeEngine.backend(options.engine())) {
            for (NamedModel named : options.models()) {
                try (ModelFile model = named.file() == null ? ModelFile.openEmbedded() : ModelFile.open(named.file());
                        Pipeline pipeline =
                                new Pipeline(backend, model, options.engine().precision())) {
                    Outcome.Measured one =
                            measure(named, model, pipeline, results, photos, gallery, labels, galleryLabels, total);
                    models.put(named.name(), one);
                }
            }
            return new Outcome(
                    options,
                    labels,
                    photos,
                    models,
                    skipped,
                    failures,
                    results.found(),
                    measured,
                    backend.description());
        }
    }

    private Outcome.Measured measure(
            NamedModel named,
            ModelFile model,
            Pipeline pipeline,
            Results results,
            List<Path> photos,
            List<Path> gallery,
            Labels labels,
            Labels galleryLabels,
            long total) {
        if (options.full() && !pipeline.hasCodec()) {
            throw new UsageException(named.name() + " has no codec; without one there is nothing to do with --full");
        }
        Map<Path, Integer> numbers =
                pipeline.hasClasses() && !options.full() ? labels.numbers(photos, pipeline.manifest()) : null;
        String hash = Pipeline.hash(model);
        String prefix = hash.substring(0, 24) + "|" + VERSION + (options.full() ? "|full" : "") + "|"
                + options.engine().precision();
        List<Double> qualities = !pipeline.hasCodec()
                ? List.of()
                : options.qualities().isEmpty()
                        ? IntStream.range(0, pipeline.qualities())
                                .mapToObj(q -> (double) q)
                                .toList()
                        : options.qualities().stream().map(pipeline::quality).toList();
        for (List<Path> batch : batches(photos)) {
            measure(pipeline, results, prefix, batch, qualities, anchors);
            progress(named.name(), batch.size(), total);
        }
        for (List<Path> batch : batches(gallery)) {
            measure(pipeline, results, prefix, batch, List.of(), List.of());
            progress(named.name() + ", gallery", batch.size(), total);
        }
        Map<String, Pipeline.StageTime> times = pipeline.times();
        int size = model.manifest().preprocessing() == null || !pipeline.hasCodec()
                ? CODEC_SIZE
                : model.manifest().preprocessing().size();
        // Collected at the end, so that an anchor or photo that failed half-way is left out as a whole.
        Map<Outcome.Setting, List<Row>> rows = new LinkedHashMap<>();
        List<Path> complete =
                photos.stream().filter(p -> !skipped.contains(p.toString())).toList();
        if (!options.full() && pipeline.hasEncoder()) {
            collect(rows, results, prefix, complete, UNCOMPRESSED, 0);
        }
        for (double quality : qualities) {
            if (pipeline.hasNeck() && !options.full()) {
                collect(rows, results, prefix, complete, TOKENS, quality);
            }
            collect(rows, results, prefix, complete, RECONSTRUCTION, quality);
            if (pipeline.hasPostProcessing() && !options.full()) {
                collect(rows, results, prefix, complete, POST_PROCESSING, quality);
            }
        }
        for (Anchor anchor : anchors) {
            for (double quality : anchor.qualities()) {
                collect(rows, results, prefix, complete, anchor.name() + "#" + anchor.describe(), quality);
            }
        }
        List<Neighbours.Token> references = new ArrayList<>();
        for (Path photo : gallery) {
            Row row = results.get(key(prefix, UNCOMPRESSED, 0), hashes.get(photo));
            if (row != null) {
                references.add(new Neighbours.Token(row.photo(), galleryLabels.of(photo), row.feature()));
            }
        }
        return new Outcome.Measured(
                named.name(),
                model.manifest(),
                hash,
                named.file() == null ? "embedded" : named.file().toString(),
                complete,
                numbers,
                rows,
                references,
                times,
                pipeline.bytes(),
                Complexity.of(model, size),
                size,
                options.folder() == null || !pipeline.hasNeck() || options.full()
                        ? List.of()
                        : examples(pipeline, complete, qualities));
    }

    /** Photos from all over the set at the lowest, a middle and the highest quality. */
    private static List<Outcome.Example> examples(Pipeline pipeline, List<Path> photos, List<Double> qualities) {
        List<Outcome.Example> out = new ArrayList<>();
        int count = Math.min(EXAMPLES, photos.size());
        for (int i = 0; i < count; i++) {
            Path path = photos.get((2 * i + 1) * photos.size() / (2 * count));
            Photo picture = pipeline.prepare(Photo.read(path));
            Pipeline.View reference = pipeline.see(List.of(picture)).getFirst();
            int layer = Outcome.tokenLayer(pipeline.manifest(), pipeline.depth());
            List<Outcome.Shot> shots = new ArrayList<>();
            for (double quality : qualities.stream()
                    .filter(q -> List.of(0, (qualities.size() - 1) / 2, qualities.size() - 1)
                            .contains(qualities.indexOf(q)))
                    .toList()) {
                byte[] file = pipeline.encode(List.of(picture), quality, true)
                        .getFirst()
                        .file();
                Pipeline.Decoded decoded =
                        pipeline.decode(List.of(file), true, true).getFirst();
                int[] top = decoded.view().top();
                shots.add(new Outcome.Shot(
                        file.length,
                        8.0 * file.length / picture.width() / picture.height(),
                        decoded.photo(),
                        Similarity.patches(decoded.view(), reference, layer),
                        top.length == 0
                                ? ""
                                : ", "
                                        + pipeline.manifest()
                                                .labels()
                                                .get(top[0])
                                                .name()));
            }
            int[] top = reference.top();
            out.add(new Outcome.Example(
                    path.getFileName()
                            + (top.length == 0
                                    ? ""
                                    : ", "
                                            + pipeline.manifest()
                                                    .labels()
                                                    .get(top[0])
                                                    .name()),
                    picture,
                    shots));
        }
        return out;
    }

    private void collect(
            Map<Outcome.Setting, List<Row>> rows,
            Results results,
            String prefix,
            List<Path> photos,
            String path,
            double quality) {
        List<Row> found = new ArrayList<>();
        for (Path photo : photos) {
            Row row = results.get(key(prefix, path, quality), hashes.get(photo));
            if (row == null) {
                return; // an anchor that failed
            }
            found.add(row);
        }
        rows.put(new Outcome.Setting(path.replaceFirst("#.*", ""), quality), found);
    }

    private static String key(String prefix, String path, double quality) {
        return prefix + "|" + path + "|" + quality;
    }

    private void progress(String what, int count, long total) {
        done += count;
        listener.progress(what, done, total);
    }

    /** Those that exist and can be opened; others are listed once. Contents are looked at when they are needed. */
    private List<Path> readable(List<Path> photos) {
        List<Path> good = new ArrayList<>();
        for (Path photo : photos) {
            try {
                hashes.put(photo, sha256(Files.readAllBytes(photo)));
                good.add(photo);
            } catch (IOException e) {
                skip(photo, photo + ": cannot be read: " + e.getMessage());
            }
        }
        return good;
    }

    private void skip(Path photo, String why) {
        skipped.add(photo.toString());
        failures.add(why);
        listener.note("skipped: " + why);
    }

    private static String sha256(byte[] bytes) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes), 0, 12);
        } catch (NoSuchAlgorithmException e) {
            throw new InternalException("SHA-256 is missing", e);
        }
    }

    private List<List<Path>> batches(List<Path> photos) {
        int size = options.full() ? 1 : BATCH;
        List<List<Path>> out = new ArrayList<>();
        for (int i = 0; i < photos.size(); i += size) {
            out.add(photos.subList(i, Math.min(photos.size(), i + size)));
        }
        return out;
    }

    // ---------------------------------------------------------------- one batch

    /** Photos of a batch with their pictures. */
    private record Batch(List<String> photos, List<Photo> pictures) {}

    private void measure(
            Pipeline pipeline,
            Results results,
            String prefix,
            List<Path> paths,
            List<Double> qualities,
            List<Anchor> codecs) {
        boolean see = pipeline.hasEncoder() && !options.full();
        List<String> keys = new ArrayList<>();
        if (see) {
            keys.add(key(prefix, UNCOMPRESSED, 0));
        }
        for (double quality : qualities) {
            if (see && pipeline.hasNeck()) {
                keys.add(key(prefix, TOKENS, quality));
            }
            keys.add(key(prefix, RECONSTRUCTION, quality));
            if (see && pipeline.hasPostProcessing()) {
                keys.add(key(prefix, POST_PROCESSING, quality));
            }
        }
        for (Anchor anchor : codecs) {
            for (double quality : anchor.qualities()) {
                keys.add(key(prefix, anchor.name() + "#" + anchor.describe(), quality));
            }
        }
        List<Path> missing = paths.stream()
                .filter(p -> keys.stream().anyMatch(k -> results.get(k, hashes.get(p)) == null))
                .filter(p -> !skipped.contains(p.toString()))
                .toList();
        Batch batch = read(pipeline, missing);
        if (batch.photos().isEmpty()) {
            return;
        }
        List<Pipeline.View> references = see ? pipeline.see(batch.pictures()) : null;
        if (see) {
            add(results, batch, key(prefix, UNCOMPRESSED, 0), null, null, null, references, references);
        }
        for (double quality : qualities) {
            measure(pipeline, results, prefix, batch, quality, references);
        }
        for (Anchor anchor : List.copyOf(codecs)) {
            measure(pipeline, results, prefix, batch, anchor, references);
        }
    }

    private Batch read(Pipeline pipeline, List<Path> paths) {
        Photo[] pictures = new Photo[paths.size()];
        String[] problems = new String[paths.size()];
        IntStream.range(0, pictures.length).parallel().forEach(i -> {
            try {
                Photo photo = Photo.read(paths.get(i));
                pictures[i] = options.full() ? photo : pipeline.prepare(photo);
            } catch (UsageException | DamagedDataException e) {
                problems[i] = e.getMessage();
            }
        });
        List<String> photos = new ArrayList<>();
        List<Photo> good = new ArrayList<>();
        for (int i = 0; i < pictures.length; i++) {
            if (pictures[i] == null) {
                skip(paths.get(i), problems[i]);
            } else {
                photos.add(hashes.get(paths.get(i)));
                good.add(pictures[i]);
            }
        }
        return new Batch(photos, good);
    }

    /** Tokens and reconstruction come from one decoding of one file. */
    private void measure(
            Pipeline pipeline,
            Results results,
            String prefix,
            Batch batch,
            double quality,
            List<Pipeline.View> references) {
        boolean see = references != null;
        boolean tokens = see && pipeline.hasNeck();
        boolean processed = see && pipeline.hasPostProcessing();
        List<String> keys = new ArrayList<>(List.of(key(prefix, RECONSTRUCTION, quality)));
        if (tokens) {
            keys.add(key(prefix, TOKENS, quality));
        }
        if (processed) {
            keys.add(key(prefix, POST_PROCESSING, quality));
        }
        if (complete(results, batch, keys)) {
            return;
        }
        List<Pipeline.Coded> coded = pipeline.encode(batch.pictures(), quality, !options.full());
        List<byte[]> files = coded.stream().map(Pipeline.Coded::file).toList();
        List<Pipeline.Decoded> decoded = pipeline.decode(files, tokens, true);
        List<Photo> photos = decoded.stream().map(Pipeline.Decoded::photo).toList();
        long[] bytes = files.stream().mapToLong(file -> file.length).toArray();
        double[] estimated =
                coded.stream().mapToDouble(Pipeline.Coded::estimatedBits).toArray();
        if (tokens) {
            List<Pipeline.View> views =
                    decoded.stream().map(Pipeline.Decoded::view).toList();
            add(results, batch, keys.get(1), bytes, estimated, null, views, references);
        }
        if (processed) {
            List<Photo> made = pipeline.postProcess(photos);
            add(results, batch, keys.getLast(), bytes, estimated, made, pipeline.see(made), references);
        }
        add(results, batch, keys.getFirst(), bytes, estimated, photos, see ? pipeline.see(photos) : null, references);
    }

    private void measure(
            Pipeline pipeline,
            Results results,
            String prefix,
            Batch batch,
            Anchor anchor,
            List<Pipeline.View> references) {
        for (double quality : anchor.qualities()) {
            String key = key(prefix, anchor.name() + "#" + anchor.describe(), quality);
            if (complete(results, batch, List.of(key))) {
                continue;
            }
            List<Anchor.Coded> coded;
            try {
                coded = IntStream.range(0, batch.pictures().size())
                        .parallel()
                        .mapToObj(i -> anchor.code(batch.pictures().get(i), quality))
                        .toList();
            } catch (UsageException e) {
                anchors.remove(anchor);
                failures.add(e.getMessage());
                listener.note("anchor left out: " + e.getMessage());
                return;
            }
            List<Photo> photos = coded.stream().map(Anchor.Coded::photo).toList();
            long[] bytes = coded.stream().mapToLong(Anchor.Coded::bytes).toArray();
            List<Pipeline.View> views = references == null ? null : pipeline.see(photos);
            add(results, batch, key, bytes, null, photos, views, references);
        }
    }

    private static boolean complete(Results results, Batch batch, List<String> keys) {
        return batch.photos().stream()
                .allMatch(photo -> keys.stream().allMatch(key -> results.get(key, photo) != null));
    }

    /** Compares and keeps one path's results; null for what the path does not have. */
    private void add(
            Results results,
            Batch batch,
            String key,
            long[] bytes,
            double[] estimatedBits,
            List<Photo> photos,
            List<Pipeline.View> views,
            List<Pipeline.View> references) {
        List<Row> rows = IntStream.range(0, batch.photos().size())
                .parallel()
                .filter(i -> results.get(key, batch.photos().get(i)) == null)
                .mapToObj(i -> {
                    Photo picture = batch.pictures().get(i);
                    Photo photo = photos == null ? null : photos.get(i);
                    Pipeline.View view = views == null ? null : views.get(i);
                    return new Row(
                            key,
                            batch.photos().get(i),
                            (long) picture.width() * picture.height(),
                            bytes == null ? 0 : bytes[i],
                            estimatedBits == null ? Double.NaN : estimatedBits[i],
                            photo == null ? Double.NaN : Math.min(PictureQuality.psnr(picture, photo), EQUAL_DB),
                            photo == null ? Double.NaN : PictureQuality.msSsim(picture, photo),
                            view == null ? new int[0] : view.top(),
                            view == null ? new float[0] : view.feature(),
                            view == null ? new double[0][] : Similarity.of(view, references.get(i)));
                })
                .toList();
        results.add(rows);
        measured += rows.size();
    }
}

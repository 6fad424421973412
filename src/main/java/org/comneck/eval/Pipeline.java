package org.comneck.eval;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.comneck.DamagedDataException;
import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.Grid;
import org.comneck.backend.Precision;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.bitstream.ArithmeticProfile;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.bitstream.Limits;
import org.comneck.codec.Codec;
import org.comneck.codec.PostProcessing;
import org.comneck.engine.Photo;
import org.comneck.engine.Resample;
import org.comneck.entropy.GaussianConditional;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.neck.Neck;
import org.comneck.tensor.ElementType;
import org.comneck.vision.VisionEncoder;

/**
 * A model under test: pictures to files, files to tokens of every layer and to pictures, pictures to tokens of every layer. Not thread-safe;
 * the backend's threads work on each batch.
 */
final class Pipeline implements AutoCloseable {
    /**
     * A picture's file.
     *
     * @param file the bytes of a bitstream file, the same that {@code comneck encode} writes
     * @param estimatedBits information content of the symbols under the model's distributions, without headers
     */
    record Coded(byte[] file, double estimatedBits) {}

    /**
     * What an encoder made of a picture.
     *
     * @param states (tokens, D) after so many blocks, by that number; null where none was made
     * @param width D
     * @param feature the class token as classes are told by: normalised, projected where there is a projection
     * @param top numbers of the five likeliest classes, best first; empty without labels
     */
    record View(float[][] states, int width, float[] feature, int[] top) {}

    /**
     * What came out of a file.
     *
     * @param photo null when it was not asked for
     * @param view likewise
     */
    record Decoded(Photo photo, View view) {}

    /**
     * What a stage took.
     *
     * @param nanos all pictures together
     * @param pictures how many
     */
    record StageTime(long nanos, long pictures) {}

    private static final int TOP = 5;
    private static final int MAX_RUNS = 8;
    private static final long MAX_RUN_BYTES = 2L << 30;
    private static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED;
    private static final ValueLayout.OfShort I16 = ValueLayout.JAVA_SHORT_UNALIGNED;
    private static final int CACHED_SYMBOLS = 64;
    private static final double LEAST_PROBABILITY = 1e-9;

    /** What a run does, and for what sizes. */
    private record Key(String kind, int images, int height, int width) {}

    /** A recorded run and its ports; unused ones are null. */
    private record Recorded(
            Run run,
            Activation pixels,
            Activation gains,
            Codec.Coded coded,
            Activation photo,
            Activation[] states,
            Activation feature,
            Activation logits) {}

    private final Backend backend;
    private final ModelFile model;
    private final Manifest manifest;
    private final Codec codec; // or null
    private final Neck neck; // or null
    private final PostProcessing post; // or null
    private final VisionEncoder encoder; // or null
    private final boolean byCosine;
    private final Map<Key, Recorded> runs = new LinkedHashMap<>(16, 0.75f, true);
    private final Map<String, StageTime> times = new TreeMap<>();
    private final Map<String, Long> bytes = new TreeMap<>();
    private final double[][] information = new double[GaussianConditional.LEVELS][2 * CACHED_SYMBOLS + 1];
    private float[] labels; // (classes, P) of unit length

    /** @param model stays open until this is closed */
    Pipeline(Backend backend, ModelFile model, Precision precision) {
        this.backend = backend;
        this.model = model;
        this.manifest = model.manifest();
        this.codec = manifest.codec() == null ? null : Codec.load(backend, model, precision);
        this.neck = manifest.neck() == null ? null : Neck.load(backend, model, precision);
        this.post = PostProcessing.isIn(model) ? PostProcessing.load(backend, model, precision) : null;
        this.encoder = manifest.encoder() == null ? null : VisionEncoder.load(backend, model, precision);
        this.byCosine = encoder != null && encoder.hasProjection() && model.has("labels.embeddings");
        float[] scales = GaussianConditional.scaleTable();
        for (int t = 0; t < information.length; t++) {
            for (int v = 0; v < information[t].length; v++) {
                information[t][v] = bits(GaussianConditional.probability(scales[t], v - CACHED_SYMBOLS));
            }
        }
    }

    Manifest manifest() {
        return manifest;
    }

    boolean hasCodec() {
        return codec != null;
    }

    boolean hasEncoder() {
        return encoder != null;
    }

    /** Whether tokens come from the bitstream. */
    boolean hasNeck() {
        return codec != null && neck != null && encoder != null;
    }

    /** Whether there is a network between decoder and encoder. */
    boolean hasPostProcessing() {
        return codec != null && post != null && encoder != null;
    }

    /** Whether classes can be told. */
    boolean hasClasses() {
        return encoder != null && !manifest.labels().isEmpty() && (byCosine || encoder.hasClassHead());
    }

    int qualities() {
        return codec == null ? 0 : codec.qualities();
    }

    boolean interpolatesQualities() {
        return codec != null && codec.hasGains();
    }

    /** Number of the encoder's blocks. */
    int depth() {
        return encoder.depth();
    }

    /** Block that the neck's output enters. */
    int entry() {
        return neck.entry();
    }

    /** Whether the first token is a class token. */
    boolean hasClassToken() {
        return encoder.hasClassToken();
    }

    /** SHA-256 of names, types, shapes and bytes of all tensors and of the manifest, hexadecimal. */
    static String hash(ModelFile model) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            digest.update(model.manifest().toJson().getBytes(StandardCharsets.UTF_8));
            for (String name : new TreeSet<>(model.names())) {
                var tensor = model.tensor(name);
                digest.update((name + tensor.type() + tensor.shape()).getBytes(StandardCharsets.UTF_8));
                MemorySegment data = tensor.data();
                for (long at = 0; at < data.byteSize(); at += 1 << 24) {
                    ByteBuffer part = data.asSlice(at, Math.min(1 << 24, data.byteSize() - at))
                            .asByteBuffer();
                    digest.update(part);
                }
            }
            return HexFormat.of().formatHex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new InternalException("SHA-256 is missing", e);
        }
    }

    /** The picture that this model looks at: what its codec encodes, or its encoder sees. */
    Photo prepare(Photo photo) {
        if (codec == null && encoder != null) {
            // A vision transformer alone names both sizes: short side 256, centre 224.
            int size = encoderSize();
            int shortSide = manifest.preprocessing() == null
                    ? size
                    : Math.max(size, manifest.preprocessing().size());
            return photo.resizeShortSide(shortSide, Resample.BICUBIC).centreCrop(size);
        }
        if (manifest.preprocessing() == null) {
            throw new UsageException(model.file() + " does not say how pictures are prepared: evaluate it with --full");
        }
        return photo.prepare(manifest.preprocessing().size(), Resample.BICUBIC);
    }

    private int encoderSize() {
        return manifest.encoder().image();
    }

    /** Quality as the format holds it. */
    double quality(double wanted) {
        double quality = CodedImage.quality(wanted);
        if (!(quality >= 0 && quality <= codec.qualities() - 1) || !codec.hasGains() && quality != Math.rint(quality)) {
            throw new UsageException(
                    "quality " + wanted + " is not one of " + model.file() + ": 0 to " + (codec.qualities() - 1));
        }
        return quality;
    }

    // ---------------------------------------------------------------- the three ways

    /**
     * Pictures of one size to files.
     *
     * @param prepared whether they are what {@link #prepare} gives, rather than whole pictures
     */
    List<Coded> encode(List<Photo> pictures, double quality, boolean prepared) {
        Photo first = pictures.getFirst();
        Key key =
                new Key("encode", pictures.size(), CodedImage.padded(first.height()), CodedImage.padded(first.width()));
        Recorded recorded = runs.computeIfAbsent(key, this::recordEncode);
        for (int b = 0; b < key.images(); b++) {
            byte[] rgb = pictures.get(b).pad(CodedImage.PADDING).rgb();
            memory(recorded.run(), recorded.pixels(), b).copyFrom(MemorySegment.ofArray(rgb));
            if (recorded.gains() != null) {
                fill(memory(recorded.run(), recorded.gains(), b), codec.gain(quality));
            }
        }
        execute(key, recorded);
        List<Coded> out = new ArrayList<>();
        for (int b = 0; b < key.images(); b++) {
            RansEncoder.Encoded encoded = recorded.run().encoded(b);
            CodedImage image = new CodedImage(
                    pictures.get(b).width(),
                    pictures.get(b).height(),
                    key.width(),
                    key.height(),
                    quality,
                    prepared,
                    encoded.symbolChecksum(),
                    MemorySegment.ofArray(encoded.payload()));
            byte[] file = new Container(ArithmeticProfile.F32_FMA, model.identity(), List.of(image)).toByteArray();
            out.add(new Coded(file, estimatedBits(recorded, b)));
        }
        trim();
        return out;
    }

    /** Files of pictures of one size to tokens, to pictures, or both; what both need is computed once. */
    List<Decoded> decode(List<byte[]> files, boolean tokens, boolean photos) {
        List<CodedImage> images = files.stream()
                .map(file -> {
                    Container container = Container.read(file, Limits.DEFAULT);
                    container.requireModel(model.identity(), ArithmeticProfile.F32_FMA);
                    return container.image(0);
                })
                .toList();
        CodedImage first = images.getFirst();
        String kind = tokens && photos ? "decode-both" : tokens ? "decode-tokens" : "decode-photo";
        Key key = new Key(kind, files.size(), first.paddedHeight(), first.paddedWidth());
        Recorded recorded = runs.computeIfAbsent(key, k -> recordDecode(k, tokens, photos));
        for (int b = 0; b < key.images(); b++) {
            CodedImage image = images.get(b);
            recorded.run().payload(b, image.payload(), image.symbolChecksum());
            if (recorded.gains() != null) {
                fill(memory(recorded.run(), recorded.gains(), b), codec.inverseGain(image.quality()));
            }
        }
        execute(key, recorded);
        List<Decoded> out = new ArrayList<>();
        for (int b = 0; b < key.images(); b++) {
            DamagedDataException damage = recorded.run().damage(b);
            if (damage != null) {
                throw damage;
            }
            Photo photo = null;
            if (photos) {
                byte[] rgb = memory(recorded.run(), recorded.photo(), b).toArray(ValueLayout.JAVA_BYTE);
                photo = Photo.of(key.width(), key.height(), rgb)
                        .crop(0, 0, images.get(b).width(), images.get(b).height());
            }
            out.add(new Decoded(photo, tokens ? view(recorded, b) : null));
        }
        trim();
        return out;
    }

    /** What the encoder makes of prepared pictures. */
    List<View> see(List<Photo> pictures) {
        int size = encoderSize();
        List<Photo> resized = pictures.stream()
                .map(picture -> picture.resize(size, size, Resample.BICUBIC))
                .toList();
        Key key = new Key("pixels", resized.size(), size, size);
        Recorded recorded = runs.computeIfAbsent(key, this::recordPixels);
        fill(recorded, resized);
        execute(key, recorded);
        List<View> out = new ArrayList<>();
        for (int b = 0; b < key.images(); b++) {
            out.add(view(recorded, b));
        }
        trim();
        return out;
    }

    /** Pictures of one size out of the post-processing network, of 8 bits again. */
    List<Photo> postProcess(List<Photo> pictures) {
        Photo first = pictures.getFirst();
        Key key = new Key("post", pictures.size(), first.height(), first.width());
        Recorded recorded = runs.computeIfAbsent(key, this::recordPost);
        fill(recorded, pictures);
        execute(key, recorded);
        List<Photo> out = new ArrayList<>();
        for (int b = 0; b < key.images(); b++) {
            byte[] rgb = memory(recorded.run(), recorded.photo(), b).toArray(ValueLayout.JAVA_BYTE);
            out.add(Photo.of(key.width(), key.height(), rgb));
        }
        trim();
        return out;
    }

    private static void fill(Recorded recorded, List<Photo> pictures) {
        for (int b = 0; b < pictures.size(); b++) {
            memory(recorded.run(), recorded.pixels(), b)
                    .copyFrom(MemorySegment.ofArray(pictures.get(b).rgb()));
        }
    }

    /** Time of every stage so far, {@code run/stage}. */
    Map<String, StageTime> times() {
        return Map.copyOf(times);
    }

    /** Buffers of a run for one picture in bytes, by the kind of run; weights are not among them. */
    Map<String, Long> bytes() {
        return Map.copyOf(bytes);
    }

    // ---------------------------------------------------------------- recording

    private Recorded recordEncode(Key key) {
        RunBuilder run = backend.newRun();
        run.stage("analysis");
        Activation pixels = run.input(ElementType.U8, key.images(), key.height(), key.width(), 3);
        Activation gains = gains(run, key);
        Activation image = run.buffer(ElementType.F32, Grid.FULL, key.images(), key.height(), key.width(), 3);
        run.normalize(pixels, new float[] {0, 0, 0}, new float[] {1, 1, 1}, image);
        Activation y = codec.analysis(run, image, gains);
        Codec.Coded coded = codec.encode(run, y);
        coded.output(run);
        codec.encodePayloads(run, coded, 0);
        return new Recorded(run.build(), pixels, gains, coded, null, null, null, null);
    }

    private Recorded recordDecode(Key key, boolean tokens, boolean photos) {
        RunBuilder run = backend.newRun();
        Activation gains = gains(run, key);
        Codec.Coded coded =
                codec.decode(run, key.images(), key.height() / codec.stride(), key.width() / codec.stride());
        Activation yHat = codec.ungain(run, coded.yHat(), gains);
        Activation pixels = null;
        if (photos) {
            Activation image = codec.synthesis(run, yHat);
            pixels = run.buffer(ElementType.U8, Grid.FULL, key.images(), key.height(), key.width(), 3);
            run.toPixels(image, pixels);
            run.output(pixels);
            run.release(image);
        }
        if (!tokens) {
            return new Recorded(run.build(), null, gains, coded, pixels, null, null, null);
        }
        Activation[] states = blocks(run, neck.record(run, yHat), neck.entry());
        Activation feature = feature(run, states[encoder.depth()]);
        Activation logits = logits(run, states[encoder.depth()]);
        return new Recorded(run.build(), null, gains, coded, pixels, states, feature, logits);
    }

    private Recorded recordPixels(Key key) {
        RunBuilder run = backend.newRun();
        Activation pixels = run.input(ElementType.U8, key.images(), key.height(), key.width(), 3);
        Activation[] states = blocks(run, encoder.embed(run, pixels), 0);
        Activation feature = feature(run, states[encoder.depth()]);
        Activation logits = logits(run, states[encoder.depth()]);
        return new Recorded(run.build(), pixels, null, null, null, states, feature, logits);
    }

    private Recorded recordPost(Key key) {
        RunBuilder run = backend.newRun();
        Activation pixels = run.input(ElementType.U8, key.images(), key.height(), key.width(), 3);
        Activation image = run.buffer(ElementType.F32, Grid.FULL, key.images(), key.height(), key.width(), 3);
        run.normalize(pixels, new float[] {0, 0, 0}, new float[] {1, 1, 1}, image);
        Activation out = run.buffer(ElementType.U8, Grid.FULL, key.images(), key.height(), key.width(), 3);
        run.toPixels(post.record(run, image), out);
        run.output(out);
        return new Recorded(run.build(), pixels, null, null, out, null, null, null);
    }

    private Activation gains(RunBuilder run, Key key) {
        return codec.hasGains() ? run.input(ElementType.F32, key.images(), 1, 1, codec.latentChannels()) : null;
    }

    /** All blocks from an entry on, every state an output. */
    private Activation[] blocks(RunBuilder run, Activation x, int entry) {
        Activation[] states = new Activation[encoder.depth() + 1];
        states[entry] = x;
        run.output(x);
        for (int k = entry; k < encoder.depth(); k++) {
            states[k + 1] = encoder.blocks(run, states[k], k, k + 1);
            run.output(states[k + 1]);
        }
        return states;
    }

    /** Class token, normalised and projected; of an encoder without one, all patches, whose mean is taken by {@link #view}. */
    private Activation feature(RunBuilder run, Activation last) {
        VisionEncoder.Tokens select = encoder.hasClassToken() ? VisionEncoder.Tokens.CLS : VisionEncoder.Tokens.PATCHES;
        Activation feature = encoder.head(run, last, select, VisionEncoder.PostNorm.ONCE, encoder.hasProjection());
        run.output(feature);
        return feature;
    }

    private Activation logits(RunBuilder run, Activation last) {
        if (byCosine || !encoder.hasClassHead()) {
            return null;
        }
        Activation logits = encoder.classLogits(run, last);
        run.output(logits);
        return logits;
    }

    // ---------------------------------------------------------------- executing

    private void execute(Key key, Recorded recorded) {
        Run run = recorded.run();
        run.execute();
        List<String> stages = run.stages();
        for (int i = 0; i < stages.size(); i++) {
            long nanos = run.stageNanos(i);
            String name = (key.kind().startsWith("decode") ? "decode" : key.kind()) + "/" + stages.get(i);
            int pictures = stages.indexOf(stages.get(i)) == i ? key.images() : 0;
            times.merge(
                    name,
                    new StageTime(nanos, pictures),
                    (a, b) -> new StageTime(a.nanos() + b.nanos(), a.pictures() + b.pictures()));
        }
        bytes.put(key.kind(), run.bytes() / key.images());
    }

    private double estimatedBits(Recorded recorded, int image) {
        Activation z = recorded.coded().zSymbols();
        MemorySegment zValues = memory(recorded.run(), z, image);
        double sum = 0;
        CodingTables tables = codec.hyperTables().source();
        for (int i = 0; i < z.positions() * z.channels(); i++) {
            sum += bits(tables, i % z.channels(), zValues.getAtIndex(I16, i));
        }
        for (Codec.Pass pass : recorded.coded().passes()) {
            MemorySegment indices = memory(recorded.run(), pass.indices(), image);
            MemorySegment symbols = memory(recorded.run(), pass.symbols(), image);
            int count = pass.symbols().positions() * pass.symbols().channels();
            for (int i = 0; i < count; i++) {
                int value = symbols.getAtIndex(I16, i);
                int table = indices.get(ValueLayout.JAVA_BYTE, i) & 0xFF;
                sum += Math.abs(value) <= CACHED_SYMBOLS
                        ? information[table][value + CACHED_SYMBOLS]
                        : bits(GaussianConditional.probability(GaussianConditional.scaleTable()[table], value));
            }
        }
        return sum;
    }

    /** Out of the reach of doubles, a symbol counts as what an escape takes at least. */
    private static double bits(double probability) {
        return -Math.log(Math.max(probability, LEAST_PROBABILITY)) / Math.log(2);
    }

    /** What a stored table takes for a value of z. */
    private static double bits(CodingTables tables, int t, int value) {
        int q = (value >> tables.shift()[t]) - tables.first()[t];
        boolean escape = q < 0 || q >= tables.count()[t];
        double coded =
                CodingTables.PRECISION - Math.log(tables.frequency()[t][escape ? tables.count()[t] : q]) / Math.log(2);
        return coded + (escape ? 2 : tables.shift()[t]);
    }

    private View view(Recorded recorded, int image) {
        float[][] states = new float[recorded.states().length][];
        for (int k = 0; k < states.length; k++) {
            if (recorded.states()[k] != null) {
                states[k] = memory(recorded.run(), recorded.states()[k], image).toArray(F32);
            }
        }
        float[] tokens = memory(recorded.run(), recorded.feature(), image).toArray(F32);
        int width = recorded.feature().channels();
        float[] feature = new float[width];
        for (int i = 0; i < tokens.length; i++) {
            feature[i % width] += tokens[i] / (tokens.length / width);
        }
        int[] top = {};
        if (hasClasses()) {
            top = top(
                    recorded.logits() == null
                            ? cosines(feature)
                            : memory(recorded.run(), recorded.logits(), image).toArray(F32));
        }
        return new View(states, encoder.width(), feature, top);
    }

    private float[] cosines(float[] feature) {
        if (labels == null) {
            labels = model.tensor("labels.embeddings").toFloats();
            for (int row = 0; row < labels.length; row += feature.length) {
                double sum = 0;
                for (int i = 0; i < feature.length; i++) {
                    sum += (double) labels[row + i] * labels[row + i];
                }
                for (int i = 0; i < feature.length && sum > 0; i++) {
                    labels[row + i] = (float) (labels[row + i] / Math.sqrt(sum));
                }
            }
        }
        float[] scores = new float[labels.length / feature.length]; // the token's own length changes no order
        for (int k = 0; k < scores.length; k++) {
            double sum = 0;
            for (int i = 0; i < feature.length; i++) {
                sum += (double) labels[k * feature.length + i] * feature[i];
            }
            scores[k] = (float) sum;
        }
        return scores;
    }

    private int[] top(float[] scores) {
        return IntStream.range(0, Math.min(scores.length, manifest.labels().size()))
                .boxed()
                .sorted((a, b) -> Float.compare(scores[b], scores[a]))
                .limit(TOP)
                .mapToInt(Integer::intValue)
                .toArray();
    }

    private static MemorySegment memory(Run run, Activation port, int image) {
        MemorySegment all = run.memory(port);
        long each = all.byteSize() / port.images();
        return all.asSlice(image * each, each);
    }

    private static void fill(MemorySegment memory, float[] values) {
        MemorySegment.copy(values, 0, memory, F32, 0, values.length);
    }

    /** Pictures of many sizes need many runs: the longest unused make room. */
    private void trim() {
        long sum = runs.values().stream().mapToLong(r -> r.run().bytes()).sum();
        Iterator<Recorded> oldest = runs.values().iterator();
        while (runs.size() > 1 && (runs.size() > MAX_RUNS || sum > MAX_RUN_BYTES)) {
            Recorded recorded = oldest.next();
            sum -= recorded.run().bytes();
            recorded.run().close();
            oldest.remove();
        }
    }

    @Override
    public void close() {
        runs.values().forEach(recorded -> recorded.run().close());
        runs.clear();
        if (encoder != null) {
            encoder.close();
        }
        if (neck != null) {
            neck.close();
        }
        if (post != null) {
            post.close();
        }
        if (codec != null) {
            codec.close();
        }
    }
}

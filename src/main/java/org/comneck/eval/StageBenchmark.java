package org.comneck.eval;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.comneck.DamagedDataException;
import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.Convolution;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.Taps;
import org.comneck.codec.Codec;
import org.comneck.engine.Resample;
import org.comneck.model.ModelFile;
import org.comneck.neck.Neck;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.comneck.vision.VisionEncoder;

/**
 * Times the stages of one picture, from its bytes to tokens, beside a peer: ours and the peer's repetitions take turns, so that both see the
 * same machine. Everything is checked before it is timed.
 */
public final class StageBenchmark {
    /**
     * What was measured of one stage.
     *
     * @param stage one of {@link #STAGES}
     * @param precision of what may be bf16 or f16 in this stage
     * @param repeats repetitions behind the medians
     * @param wallMs median
     * @param leastMs shortest
     * @param p99Ms 99 of a hundred took no longer; NaN with fewer than a hundred repetitions
     * @param cpuMs median processor time of all threads, negative when unknown
     * @param peer what stood beside it, or null; {@link #OURS} is our own tokens from a bitstream
     * @param peerWallMs median
     * @param peerLeastMs shortest
     * @param peerCpuMs median
     * @param ratio median over the pairs of peer's wall time / ours
     * @param ratioCpu the same of processor time
     */
    public record Result(
            String stage,
            Precision precision,
            int repeats,
            double wallMs,
            double leastMs,
            double p99Ms,
            double cpuMs,
            String peer,
            double peerWallMs,
            double peerLeastMs,
            double peerCpuMs,
            double ratio,
            double ratioCpu) {}

    /**
     * Memory of one way from bytes to a result, loaded alone.
     *
     * @param what {@code tokens}, {@code pixels}, {@code clip} or {@code encode}, as the stages of these names
     * @param precision of what may be bf16 or f16
     * @param weightBytes of packed layers, in a device's memory where that is where they lie; all runs share them
     * @param runBytes of the buffers of one run of this size and batch
     */
    public record Memory(String what, Precision precision, long weightBytes, long runBytes) {}

    /**
     * What was found equal before anything was timed.
     *
     * @param payloadBytes bytes that the test picture takes
     * @param symbols its symbols
     * @param tokenError largest relative L2 distance of our tokens from the peer's, of each precision; NaN without a peer
     */
    public record Checked(int payloadBytes, long symbols, Map<Precision, Double> tokenError) {}

    /** Names of the stages. */
    public static final List<String> STAGES =
            List.of("encode", "entropy", "neck", "blocks", "tokens", "clip", "pixels", "synthesis", "memory");

    /** Name of the peer that our own tokens from a bitstream are to the other ways to tokens. */
    public static final String OURS = "ours, tokens";

    /** What a backend computes, in the order in which it is measured. */
    public static List<Precision> precisions(Backend backend) {
        return Arrays.stream(Precision.values()).filter(backend::computes).toList();
    }

    private static final int WARM_UP = 1;
    private static final int MOST_PICTURES = 1024;
    private static final int ENOUGH_FOR_P99 = 100;

    private final Backend backend;
    private final ModelFile model;
    private final int size;
    private final int batch;
    private final int repeats;
    private final Set<String> stages;
    private final List<Precision> precisions;
    private final Peer peer;
    private final Consumer<Result> results;
    private final Consumer<Memory> memories;

    /**
     * @param backend where our stages run
     * @param model with codec, neck and encoder
     * @param size side of the picture in pixels, a multiple of 64
     * @param batch pictures that are computed together, at least 1; all the same one
     * @param repeats timed repetitions of each stage
     * @param stages which of {@link #STAGES} to measure; all that is timed is checked
     * @param precisions to measure, F32 first where it is among them; none that the backend lacks
     * @param peer or null; it must have been started on the same model, size, batch and threads
     * @param results is told every result as soon as it is there
     * @param memories likewise
     */
    public StageBenchmark(
            Backend backend,
            ModelFile model,
            int size,
            int batch,
            int repeats,
            Set<String> stages,
            List<Precision> precisions,
            Peer peer,
            Consumer<Result> results,
            Consumer<Memory> memories) {
        for (String stage : stages) {
            if (!STAGES.contains(stage)) {
                throw new UsageException("no stage '" + stage + "'; there are " + String.join(", ", STAGES));
            }
        }
        if (size < 64 || size % 64 != 0 || repeats < 1 || batch < 1 || batch > MOST_PICTURES) {
            throw new UsageException("size must be a multiple of 64, repeats at least 1 and a batch 1 to "
                    + MOST_PICTURES + " pictures");
        }
        for (Precision precision : precisions) {
            if (!backend.computes(precision)) {
                throw new UsageException(
                        backend.name() + " does not compute in " + precision + "; it has " + precisions(backend));
            }
        }
        if (precisions.isEmpty()) {
            throw new UsageException("no precision to measure");
        }
        this.backend = backend;
        this.model = model;
        this.size = size;
        this.batch = batch;
        this.repeats = repeats;
        this.stages = Set.copyOf(stages);
        this.precisions = List.copyOf(precisions);
        this.peer = peer;
        this.results = results;
        this.memories = memories;
    }

    /** Measures all stages in each precision. */
    public Checked run() {
        Map<Precision, Double> errors = new EnumMap<>(Precision.class);
        RansEncoder.Encoded coded = null;
        long symbols = 0;
        for (Precision precision : precisions) {
            try (Codec codec = Codec.load(backend, model, precision);
                    Neck neck = Neck.load(backend, model, precision);
                    VisionEncoder encoder = VisionEncoder.load(backend, model, precision)) {
                if (codec.hasGains() && peer != null) {
                    throw new UsageException("the peer knows no gains: name a model with one quality");
                }
                try (Encoding encoding = new Encoding(backend, codec)) {
                    RansEncoder.Encoded own = encoding.encode();
                    time("encode", precision, encoding::encode, "encode");
                    if (coded == null) {
                        coded = own; // all precisions decode the same symbols
                        symbols = encoding.symbols();
                    }
                }
                errors.put(precision, decoding(precision, codec, neck, encoder, coded));
            }
            if (stages.contains("memory")) {
                memory(precision);
            }
        }
        return new Checked(coded.payload().length, symbols, errors);
    }

    /** Where the encoder stops. */
    private int layer() {
        return model.manifest().tokens() == null
                ? -2
                : model.manifest().tokens().layer();
    }

    /** Everything that starts from the payload. Returns the tokens' distance from the peer's. */
    private double decoding(
            Precision precision, Codec codec, Neck neck, VisionEncoder encoder, RansEncoder.Encoded coded) {
        int cells = size / codec.stride();
        int layer = layer();
        MemorySegment payload = MemorySegment.ofArray(coded.payload());
        float[] latents;
        float[] embeddings;

        RunBuilder builder = backend.newRun();
        Activation factors = factors(codec, builder);
        Activation yHat =
                codec.ungain(builder, codec.decode(builder, batch, cells, cells).yHat(), factors);
        builder.output(yHat);
        try (Run run = builder.build()) {
            fill(run, factors, codec.inverseGain(0));
            Runnable entropy = () -> decode(run, payload, coded);
            entropy.run();
            latents = floats(run, yHat);
            if (precision == precisions.getFirst()) { // the same arithmetic in all
                time("entropy", precision, entropy, "entropy");
            }
        }

        builder = backend.newRun();
        Activation input = builder.input(ElementType.F32, batch, cells, cells, codec.latentChannels());
        Activation tokens = neck.record(builder, input);
        builder.output(tokens);
        try (Run run = builder.build()) {
            fill(run, input, latents);
            run.execute();
            embeddings = floats(run, tokens);
            time("neck", precision, run::execute, "neck");
        }

        builder = backend.newRun();
        input = builder.input(ElementType.F32, batch, 1, tokens.positions(), tokens.channels());
        Activation out = encoder.blocks(builder, input, neck.entry(), layer);
        builder.output(out);
        float[] expected;
        try (Run run = builder.build()) {
            fill(run, input, embeddings);
            run.execute();
            expected = floats(run, out);
            time("blocks", precision, run::execute, "blocks");
            time("blocks", precision, run::execute, "blocks " + tuned(precision));
        }

        double error = Double.NaN;
        try (Way way = tokens(backend, codec, neck, encoder)) {
            Runnable whole = () -> decode(way.run(), payload, coded);
            whole.run();
            float[] got = floats(way.run(), way.result());
            if (!Arrays.equals(got, expected)) {
                throw new InternalException("the whole run's tokens are not those of its parts");
            }
            if (peer != null) {
                error = distance(first(latents), cells, codec.latentChannels(), first(got));
            }
            time("tokens", precision, whole, "tokens");
            time("tokens", precision, whole, "clip " + tuned(precision));

            // The other ways to as many tokens: from a picture that was never compressed, and from the decoded picture.
            if (stages.contains("clip")) {
                try (Way clip = clip(backend, codec, encoder)) {
                    Encoding.fill(clip.run().memory(clip.pixels()), batch, encoderSide(codec));
                    time("clip", precision, clip.run()::execute, OURS, () -> sample(whole));
                    time("clip", precision, clip.run()::execute, "clip " + tuned(precision));
                }
            }
            if (stages.contains("pixels")) {
                try (Way pixels = pixels(backend, codec, encoder)) {
                    Runnable decoded = () -> decode(pixels.run(), payload, coded);
                    time("pixels", precision, decoded, OURS, () -> sample(whole));
                    time("pixels", precision, decoded, "pixels");
                }
            }
        }

        builder = backend.newRun();
        input = builder.input(ElementType.F32, batch, cells, cells, codec.latentChannels());
        builder.output(codec.synthesis(builder, input));
        try (Run run = builder.build()) {
            fill(run, input, latents);
            time("synthesis", precision, run::execute, "synthesis");
        }
        return error;
    }

    private static String tuned(Precision precision) {
        return "tuned-" + precision.name().toLowerCase(Locale.ROOT);
    }

    /**
     * A run from one end to the other.
     *
     * @param pixels its input, or null where payloads are
     * @param result tokens F32 (B,N,D)
     */
    private record Way(Run run, Activation pixels, Activation result) implements AutoCloseable {
        @Override
        public void close() {
            run.close();
        }
    }

    /** Payload to tokens, no picture in between. */
    private Way tokens(Backend backend, Codec codec, Neck neck, VisionEncoder encoder) {
        RunBuilder builder = backend.newRun();
        Activation factors = factors(codec, builder);
        Activation x = neck.record(builder, latents(builder, codec, factors));
        Activation out = encoder.blocks(builder, x, neck.entry(), layer());
        builder.output(out);
        Run run = builder.build();
        fill(run, factors, codec.inverseGain(0));
        return new Way(run, null, out);
    }

    /** Payload to picture to tokens: decoded, rounded to bytes, resized to what the encoder wants for as many tokens, normalised. */
    private Way pixels(Backend backend, Codec codec, VisionEncoder encoder) {
        RunBuilder builder = backend.newRun();
        Activation factors = factors(codec, builder);
        Activation yHat = latents(builder, codec, factors);
        Activation image = codec.synthesis(builder, yHat);
        builder.release(yHat);
        Activation pixels = builder.buffer(ElementType.U8, Grid.FULL, batch, size, size, 3);
        builder.toPixels(image, pixels);
        builder.release(image);
        int side = encoderSide(codec);
        if (side != size) {
            builder.stage("resize");
            Taps taps = Resample.BICUBIC.taps(size, side);
            Activation wide = builder.buffer(ElementType.U8, Grid.FULL, batch, size, side, 3);
            builder.resample(pixels, Taps.Axis.WIDTH, taps, wide);
            builder.release(pixels);
            pixels = builder.buffer(ElementType.U8, Grid.FULL, batch, side, side, 3);
            builder.resample(wide, Taps.Axis.HEIGHT, taps, pixels);
            builder.release(wide);
        }
        Activation out = encoder.blocks(builder, encoder.embed(builder, pixels), 0, layer());
        builder.output(out);
        Run run = builder.build();
        fill(run, factors, codec.inverseGain(0));
        return new Way(run, null, out);
    }

    /** The encoder alone, from a picture of its own size. */
    private Way clip(Backend backend, Codec codec, VisionEncoder encoder) {
        RunBuilder builder = backend.newRun();
        int side = encoderSide(codec);
        Activation pixels = builder.input(ElementType.U8, batch, side, side, 3);
        Activation out = encoder.blocks(builder, encoder.embed(builder, pixels), 0, layer());
        builder.output(out);
        return new Way(builder.build(), pixels, out);
    }

    /** Pixels to a side that give the encoder as many patches as the codec has positions. */
    private int encoderSide(Codec codec) {
        return size / codec.stride() * model.manifest().encoder().patch();
    }

    private Activation latents(RunBuilder builder, Codec codec, Activation factors) {
        int cells = size / codec.stride();
        return codec.ungain(builder, codec.decode(builder, batch, cells, cells).yHat(), factors);
    }

    /** Each way with layers of its own. */
    private void memory(Precision precision) {
        memory("tokens", precision, (weighed, codec, neck, encoder) -> tokens(weighed, codec, neck, encoder));
        memory("pixels", precision, (weighed, codec, neck, encoder) -> pixels(weighed, codec, encoder));
        memory("clip", precision, (weighed, codec, neck, encoder) -> clip(weighed, codec, encoder));
        memory("encode", precision, (weighed, codec, neck, encoder) -> {
            return new Way(new Encoding(weighed, codec).run, null, null);
        });
    }

    /** Records a way. */
    private interface Record {
        Way on(Backend backend, Codec codec, Neck neck, VisionEncoder encoder);
    }

    private void memory(String what, Precision precision, Record record) {
        Weighed weighed = new Weighed(backend);
        try (Codec codec = Codec.load(weighed, model, precision);
                Neck neck = Neck.load(weighed, model, precision);
                VisionEncoder encoder = VisionEncoder.load(weighed, model, precision);
                Way way = record.on(weighed, codec, neck, encoder)) {
            long weights = weighed.layers.stream().mapToLong(Layer::bytes).sum();
            memories.accept(new Memory(what, precision, weights, way.run().bytes()));
        }
    }

    /** Remembers the layers that it packs. */
    private static final class Weighed implements Backend {
        private final Backend backend;
        private final List<Layer> layers = new ArrayList<>();

        Weighed(Backend backend) {
            this.backend = backend;
        }

        @Override
        public String name() {
            return backend.name();
        }

        @Override
        public String description() {
            return backend.description();
        }

        @Override
        public Layer layer(Convolution geometry, Tensor weight, Tensor bias, Precision precision) {
            Layer layer = backend.layer(geometry, weight, bias, precision);
            layers.add(layer);
            return layer;
        }

        @Override
        public boolean computes(Precision precision) {
            return backend.computes(precision);
        }

        @Override
        public Tables tables(CodingTables tables) {
            return backend.tables(tables);
        }

        @Override
        public RunBuilder newRun() {
            return backend.newRun();
        }

        @Override
        public RansEncoder ransEncoder() {
            return backend.ransEncoder();
        }

        @Override
        public void close() {
            throw new IllegalStateException("its owner closes the backend");
        }
    }

    /** Ours and the peer's in turns. Without the peer, ours alone where the peer's stage is the plain one. */
    private void time(String stage, Precision precision, Runnable ours, String peerStage) {
        if (peer != null && peer.has(peerStage)) {
            String name = peer.name() + (peerStage.equals(stage) ? ", published" : ", " + peerStage);
            time(stage, precision, ours, name, () -> peer.run(peerStage));
        } else if (peerStage.equals(stage) && !stage.equals("pixels")) {
            time(stage, precision, ours, null, null); // of a second comparison without peer nothing would be new
        }
    }

    /** Ours and another's in turns. */
    private void time(String stage, Precision precision, Runnable ours, String otherName, Supplier<Sample> others) {
        if (!stages.contains(stage)) {
            return;
        }
        boolean both = others != null;
        List<Sample> own = new ArrayList<>();
        List<Sample> other = new ArrayList<>();
        for (int i = -WARM_UP; i < repeats; i++) {
            Sample sample = sample(ours);
            Sample theirs = both ? others.get() : null;
            if (i >= 0) {
                own.add(sample);
                if (both) {
                    other.add(theirs);
                }
            }
        }
        double[] ratios = new double[other.size()];
        double[] cpuRatios = new double[other.size()];
        for (int i = 0; i < ratios.length; i++) {
            ratios[i] = other.get(i).wallMs() / own.get(i).wallMs();
            cpuRatios[i] = other.get(i).cpuMs() / own.get(i).cpuMs();
        }
        results.accept(new Result(
                stage,
                precision,
                repeats,
                Sample.median(own, Sample::wallMs),
                Sample.least(own, Sample::wallMs),
                repeats < ENOUGH_FOR_P99 ? Double.NaN : Sample.quantile(own, Sample::wallMs, 0.99),
                Sample.median(own, Sample::cpuMs),
                otherName,
                both ? Sample.median(other, Sample::wallMs) : Double.NaN,
                both ? Sample.least(other, Sample::wallMs) : Double.NaN,
                both ? Sample.median(other, Sample::cpuMs) : Double.NaN,
                both ? Sample.median(ratios) : Double.NaN,
                both ? Sample.median(cpuRatios) : Double.NaN));
    }

    private static Sample sample(Runnable body) {
        long cpu = ProcessorTime.nanos();
        long start = System.nanoTime();
        body.run();
        long wall = System.nanoTime() - start;
        return new Sample(wall / 1e6, cpu < 0 ? Double.NaN : (ProcessorTime.nanos() - cpu) / 1e6);
    }

    private void decode(Run run, MemorySegment payload, RansEncoder.Encoded coded) {
        for (int i = 0; i < batch; i++) {
            run.payload(i, payload, coded.symbolChecksum());
        }
        run.execute();
        for (int i = 0; i < batch; i++) {
            DamagedDataException damage = run.damage(i);
            if (damage != null) {
                throw new InternalException("our own payload is damaged: " + damage.getMessage());
            }
        }
    }

    private double distance(float[] latents, int cells, int channels, float[] tokens) {
        try {
            Path folder = Files.createTempDirectory("comneck-bench");
            Path in = folder.resolve("latents.f32");
            Path out = folder.resolve("tokens.f32");
            try {
                float[] planes = new float[latents.length]; // the peer wants (M,h,w)
                for (int p = 0; p < cells * cells; p++) {
                    for (int c = 0; c < channels; c++) {
                        planes[c * cells * cells + p] = latents[p * channels + c];
                    }
                }
                Files.write(in, bytes(planes));
                Files.write(out, bytes(tokens));
                return peer.check(in, out);
            } finally {
                Files.deleteIfExists(in);
                Files.deleteIfExists(out);
                Files.deleteIfExists(folder);
            }
        } catch (IOException e) {
            throw new UsageException("no room for temporary files: " + e.getMessage(), e);
        }
    }

    private float[] first(float[] ofAll) {
        return Arrays.copyOf(ofAll, ofAll.length / batch);
    }

    private static byte[] bytes(float[] values) {
        byte[] bytes = new byte[4 * values.length];
        MemorySegment.copy(values, 0, MemorySegment.ofArray(bytes), ValueLayout.JAVA_FLOAT_UNALIGNED, 0, values.length);
        return bytes;
    }

    private static float[] floats(Run run, Activation view) {
        return run.memory(view).toArray(ValueLayout.JAVA_FLOAT);
    }

    /** Values of all pictures, or of one for each of them. Does nothing where there is no such port. */
    private static void fill(Run run, Activation port, float[] values) {
        if (port != null) {
            MemorySegment memory = run.memory(port);
            for (long at = 0; at < memory.byteSize(); at += 4L * values.length) {
                memory.asSlice(at, 4L * values.length).copyFrom(MemorySegment.ofArray(values));
            }
        }
    }

    /** An input for the codec's gains, or null when it has none. */
    private Activation factors(Codec codec, RunBuilder builder) {
        return codec.hasGains() ? builder.input(ElementType.F32, batch, 1, 1, codec.latentChannels()) : null;
    }

    /** Picture to payload: analysis, the causal loop, rANS. */
    private final class Encoding implements AutoCloseable {
        private final Run run;
        private final Codec.Coded coded;

        Encoding(Backend backend, Codec codec) {
            RunBuilder builder = backend.newRun();
            Activation pixels = builder.input(ElementType.U8, batch, size, size, 3);
            Activation image = builder.buffer(ElementType.F32, Grid.FULL, batch, size, size, 3);
            builder.normalize(pixels, new float[3], new float[] {1, 1, 1}, image);
            Activation factors = factors(codec, builder);
            coded = codec.encode(builder, codec.analysis(builder, image, factors));
            codec.encodePayloads(builder, coded, 0);
            run = builder.build();
            StageBenchmark.fill(run, factors, codec.gain(0));
            fill(run.memory(pixels), batch, size);
        }

        /** The same square picture of this side, images times. */
        static void fill(MemorySegment all, int images, int side) {
            for (int i = 0; i < images; i++) {
                paint(all.asSlice(3L * side * side * i, 3L * side * side), side);
            }
        }

        RansEncoder.Encoded encode() {
            run.execute();
            RansEncoder.Encoded first = run.encoded(0);
            for (int i = 1; i < batch; i++) {
                if (!Arrays.equals(first.payload(), run.encoded(i).payload())) {
                    throw new InternalException("picture " + i + " of the batch has another payload than the first");
                }
            }
            return first;
        }

        long symbols() {
            return count(coded.zSymbols())
                    + coded.passes().stream()
                            .mapToLong(pass -> count(pass.symbols()))
                            .sum();
        }

        private static long count(Activation symbols) {
            return (long) symbols.positions() * symbols.channels();
        }

        /** Smooth waves and a little grain, the same every time. */
        private static void paint(MemorySegment pixels, int size) {
            long grain = 1;
            for (int y = 0; y < size; y++) {
                for (int x = 0; x < size; x++) {
                    for (int c = 0; c < 3; c++) {
                        grain = grain * 6364136223846793005L + 1442695040888963407L;
                        double wave =
                                Math.sin((x * (c + 2) + y) * 6.3 / size) * Math.cos((y * (4 - c) - x) * 5.1 / size);
                        long value = Math.round(128 + 80 * wave + (grain >> 60));
                        pixels.set(ValueLayout.JAVA_BYTE, (y * size + x) * 3L + c, (byte) Math.clamp(value, 0, 255));
                    }
                }
            }
        }

        @Override
        public void close() {
            run.close();
        }
    }
}

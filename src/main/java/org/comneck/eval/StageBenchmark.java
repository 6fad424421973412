package org.comneck.eval;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;
import org.comneck.DamagedDataException;
import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Grid;
import org.comneck.backend.Precision;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.codec.Codec;
import org.comneck.model.ModelFile;
import org.comneck.neck.Neck;
import org.comneck.tensor.ElementType;
import org.comneck.vision.VisionEncoder;

/**
 * Times the stages of one picture, from its bytes to tokens, beside a peer: ours and the peer's repetitions take turns, so that both see the
 * same machine. Everything is checked before it is timed.
 */
public final class StageBenchmark {
    /**
     * What was measured of one stage.
     *
     * @param stage entropy, neck, blocks, tokens, encode, synthesis or decode
     * @param precision of what may be bf16 in this stage
     * @param repeats repetitions behind the medians
     * @param wallMs median
     * @param leastMs shortest
     * @param p99Ms 99 of a hundred took no longer; NaN with fewer than a hundred repetitions
     * @param cpuMs median processor time of all threads, negative when unknown
     * @param peer what stood beside it, or null
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
     * What was found equal before anything was timed.
     *
     * @param payloadBytes bytes that the test picture takes
     * @param symbols its symbols
     * @param tokenError largest relative L2 distance of our tokens from the peer's, in the order of {@link #PRECISIONS}; NaN without a peer
     */
    public record Checked(int payloadBytes, long symbols, double[] tokenError) {}

    /** Names of the stages. */
    public static final List<String> STAGES = List.of("encode", "entropy", "neck", "blocks", "tokens", "synthesis");

    /** What is measured, one after the other. */
    public static final List<Precision> PRECISIONS = List.of(Precision.F32, Precision.BF16);

    private static final int WARM_UP = 1;
    private static final int MOST_PICTURES = 1024;
    private static final int ENOUGH_FOR_P99 = 100;

    private final Backend backend;
    private final ModelFile model;
    private final int size;
    private final int batch;
    private final int repeats;
    private final Set<String> stages;
    private final Peer peer;
    private final Consumer<Result> results;

    /**
     * @param backend where our stages run
     * @param model with codec, neck and encoder
     * @param size side of the picture in pixels, a multiple of 64
     * @param batch pictures that are computed together, at least 1; all the same one
     * @param repeats timed repetitions of each stage
     * @param stages which of {@link #STAGES} to time; all are checked
     * @param peer or null; it must have been started on the same model, size, batch and threads
     * @param results is told every result as soon as it is there
     */
    public StageBenchmark(
            Backend backend,
            ModelFile model,
            int size,
            int batch,
            int repeats,
            Set<String> stages,
            Peer peer,
            Consumer<Result> results) {
        for (String stage : stages) {
            if (!STAGES.contains(stage)) {
                throw new UsageException("no stage '" + stage + "'; there are " + String.join(", ", STAGES));
            }
        }
        if (size < 64 || size % 64 != 0 || repeats < 1 || batch < 1 || batch > MOST_PICTURES) {
            throw new UsageException("size must be a multiple of 64, repeats at least 1 and a batch 1 to "
                    + MOST_PICTURES + " pictures");
        }
        this.backend = backend;
        this.model = model;
        this.size = size;
        this.batch = batch;
        this.repeats = repeats;
        this.stages = Set.copyOf(stages);
        this.peer = peer;
        this.results = results;
    }

    /** Measures all stages in both of {@link #PRECISIONS}. */
    public Checked run() {
        double[] errors = new double[PRECISIONS.size()];
        RansEncoder.Encoded coded = null;
        long symbols = 0;
        for (Precision precision : PRECISIONS) {
            try (Codec codec = Codec.load(backend, model, precision);
                    Neck neck = Neck.load(backend, model, precision);
                    VisionEncoder encoder = VisionEncoder.load(backend, model, precision)) {
                if (codec.hasGains() && peer != null) {
                    throw new UsageException("the peer knows no gains: name a model with one quality");
                }
                try (Encoding encoding = new Encoding(codec)) {
                    RansEncoder.Encoded own = encoding.encode();
                    time("encode", precision, encoding::encode, "encode");
                    if (coded == null) {
                        coded = own; // both precisions decode the same symbols: those of f32
                        symbols = encoding.symbols();
                    }
                }
                errors[PRECISIONS.indexOf(precision)] = decoding(precision, codec, neck, encoder, coded);
            }
        }
        return new Checked(coded.payload().length, symbols, errors);
    }

    /** Everything that starts from the payload. Returns the tokens' distance from the peer's. */
    private double decoding(
            Precision precision, Codec codec, Neck neck, VisionEncoder encoder, RansEncoder.Encoded coded) {
        int cells = size / codec.stride();
        int layer = model.manifest().tokens() == null
                ? -2
                : model.manifest().tokens().layer();
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
            if (precision == Precision.F32) { // the same arithmetic in both
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
            if (precision == Precision.BF16) {
                time("blocks", precision, run::execute, "blocks tuned-bf16");
            } else {
                time("blocks", precision, run::execute, "blocks tuned-f32");
            }
        }

        double error = Double.NaN;
        builder = backend.newRun();
        factors = factors(codec, builder);
        yHat = codec.ungain(builder, codec.decode(builder, batch, cells, cells).yHat(), factors);
        out = encoder.blocks(builder, neck.record(builder, yHat), neck.entry(), layer);
        builder.output(out);
        try (Run run = builder.build()) {
            fill(run, factors, codec.inverseGain(0));
            Runnable whole = () -> decode(run, payload, coded);
            whole.run();
            float[] got = floats(run, out);
            if (!Arrays.equals(got, expected)) {
                throw new InternalException("the whole run's tokens are not those of its parts");
            }
            if (peer != null) {
                error = distance(first(latents), cells, codec.latentChannels(), first(got));
            }
            time("tokens", precision, whole, "tokens");
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

    /** Ours and the peer's in turns. */
    private void time(String stage, Precision precision, Runnable ours, String peerStage) {
        boolean both = peer != null && peer.has(peerStage);
        if (!stages.contains(stage) || !both && !peerStage.equals(stage)) {
            return; // of a second comparison without peer nothing would be new
        }
        List<Sample> own = new ArrayList<>();
        List<Sample> other = new ArrayList<>();
        for (int i = -WARM_UP; i < repeats; i++) {
            Sample sample = sample(ours);
            Sample peers = both ? peer.run(peerStage) : null;
            if (i >= 0) {
                own.add(sample);
                if (both) {
                    other.add(peers);
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
                both
                        ? peer.name() + (peerStage.equals(stage) ? ", published" : peerStage.substring(stage.length()))
                        : null,
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

        Encoding(Codec codec) {
            RunBuilder builder = backend.newRun();
            Activation pixels = builder.input(ElementType.U8, batch, size, size, 3);
            Activation image = builder.buffer(ElementType.F32, Grid.FULL, batch, size, size, 3);
            builder.normalize(pixels, new float[3], new float[] {1, 1, 1}, image);
            Activation factors = factors(codec, builder);
            coded = codec.encode(builder, codec.analysis(builder, image, factors));
            codec.encodePayloads(builder, coded, 0);
            run = builder.build();
            fill(run, factors, codec.gain(0));
            MemorySegment all = run.memory(pixels);
            for (int i = 0; i < batch; i++) {
                paint(all.asSlice(3L * size * size * i, 3L * size * size));
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
        private void paint(MemorySegment pixels) {
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

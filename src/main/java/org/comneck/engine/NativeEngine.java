package org.comneck.engine;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.LongAdder;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.function.ToIntFunction;
import java.util.stream.IntStream;
import org.comneck.DamagedDataException;
import org.comneck.DeviceException;
import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Grid;
import org.comneck.backend.Precision;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.Taps;
import org.comneck.backend.cpu.CpuBackend;
import org.comneck.backend.cuda.CudaBackend;
import org.comneck.backend.cuda.CudaLibraries;
import org.comneck.backend.reference.ReferenceBackend;
import org.comneck.bitstream.ArithmeticProfile;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.bitstream.Limits;
import org.comneck.codec.Codec;
import org.comneck.engine.PreparedRun.Key;
import org.comneck.engine.PreparedRun.Kind;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.neck.Neck;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.comneck.vision.VisionEncoder;

/**
 * A model, ready to work: photos to bitstreams, bitstreams to tokens, latents, photos or classes.
 *
 * <pre>{@code
 * try (NativeEngine engine = NativeEngine.openDefault()) {
 *     byte[] bitstream = engine.encode(Photo.read(Path.of("photo.jpg")));
 *     Tensor tokens = engine.tokens(bitstream); // F32 [tokens, D]
 * }
 * }</pre>
 *
 * <p>Thread-safe. Results depend on the model, the input and the options alone: in f32 they are the same bits on every backend, for any
 * number of threads and whatever else is in a batch. Buffers for a size of picture are prepared when it is first seen and kept.
 *
 * <p>All methods throw {@link UsageException} when the request cannot be served as it was made (the model lacks a part, the bitstream is
 * another model's) and {@link DamagedDataException} when bytes are not what they claim to be.
 */
public final class NativeEngine implements AutoCloseable {
    /** Most pictures that are computed together. */
    private static final int MAX_BATCH = 4;

    /** Most padded pixels that are computed together. */
    private static final long MAX_BATCH_PIXELS = 1L << 19;

    /** A photo of more pixels is resized by the processor: on a device it would take too much of its memory. */
    private static final long MAX_PIXELS_ON_DEVICE = 1L << 26;

    /** The GPU that is used. */
    private static final int DEVICE = 0;

    private static final AtomicBoolean WARNED = new AtomicBoolean();
    private static final AtomicBoolean SLOW = new AtomicBoolean();
    private static final float[] NO_MEAN = {0, 0, 0};
    private static final float[] NO_DEVIATION = {1, 1, 1};
    private static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED;
    private static final ValueLayout.OfShort I16 = ValueLayout.JAVA_SHORT_UNALIGNED;

    private final ModelFile model;
    private final Manifest manifest;
    private final ArithmeticProfile profile;
    private final byte[] identity;
    private final Precision precision;
    /** Work on the networks shares it, their replacement takes it alone: no run is under way while they change. */
    private final ReadWriteLock exchange = new ReentrantReadWriteLock();

    private final List<Networks> retired = new ArrayList<>(); // of a device that failed
    private Supplier<Backend> fallback; // takes over where the device fails; null: nothing does
    private Backend backend;
    private Codec codec; // or null
    private Neck neck; // or null
    private VisionEncoder encoder; // or null
    private RunPool runs;
    private float[] labels; // [classes, P], unit length; read when first needed
    private final Map<String, LongAdder> timings = new ConcurrentHashMap<>();
    private boolean closed;

    /**
     * An engine on a backend, which it closes with itself.
     *
     * @param fallback what to work on where the backend is a device and fails, or null
     */
    NativeEngine(ModelFile model, Precision precision, Backend backend, Supplier<Backend> fallback) {
        this.model = model;
        this.manifest = model.manifest();
        this.profile = ArithmeticProfile.F32_FMA;
        this.identity = model.identity();
        this.precision = precision;
        this.fallback = fallback;
        try {
            load(backend);
        } catch (DeviceException e) {
            fallBack(e);
        }
    }

    /** What lies on one backend; parts may be null. */
    private record Networks(RunPool runs, VisionEncoder encoder, Neck neck, Codec codec, Backend backend) {
        void close() {
            runs.close();
            if (encoder != null) {
                encoder.close();
            }
            if (neck != null) {
                neck.close();
            }
            if (codec != null) {
                codec.close();
            }
            backend.close();
        }
    }

    private Networks networks() {
        return new Networks(runs, encoder, neck, codec, backend);
    }

    /** Puts the networks on a backend; closes what is half made, the backend included, where that fails. */
    private void load(Backend on) {
        backend = on;
        runs = new RunPool(this::record);
        codec = null;
        neck = null;
        encoder = null;
        // Only where a device with f16 failed does a backend without it come here.
        Precision here = on.computes(precision) ? precision : Precision.F32;
        try {
            codec = manifest.codec() == null ? null : Codec.load(on, model, here);
            neck = manifest.neck() == null ? null : Neck.load(on, model, here);
            encoder = manifest.encoder() == null ? null : VisionEncoder.load(on, model, here);
        } catch (RuntimeException e) {
            networks().close();
            throw e;
        }
    }

    /** Nobody else works on the networks. */
    private void fallBack(DeviceException e) {
        if (fallback == null) {
            throw e;
        }
        warn(e.getMessage());
        Supplier<Backend> next = fallback;
        fallback = null;
        load(next.get());
    }

    /** {@link #open(Path, EngineOptions)} with {@link EngineOptions#DEFAULT}. */
    public static NativeEngine open(Path model) {
        return open(model, EngineOptions.DEFAULT);
    }

    /** Opens a model file, which is mapped and stays open with the engine. */
    public static NativeEngine open(Path model, EngineOptions options) {
        return of(ModelFile.open(model), options);
    }

    /** {@link #openDefault(EngineOptions)} with {@link EngineOptions#DEFAULT}. */
    public static NativeEngine openDefault() {
        return openDefault(EngineOptions.DEFAULT);
    }

    /** Opens the model that comes with the program. */
    public static NativeEngine openDefault(EngineOptions options) {
        return of(ModelFile.openEmbedded(), options);
    }

    /** An engine on an open model, which it closes with itself. */
    public static NativeEngine of(ModelFile model, EngineOptions options) {
        try {
            boolean fallsBack = options.backend().equals("auto");
            return new NativeEngine(
                    model, options.precision(), backend(options), fallsBack ? () -> processor(threads(options)) : null);
        } catch (RuntimeException e) {
            model.close();
            throw e;
        }
    }

    /**
     * The backend that options name, for callers who record runs of their own. The caller closes it.
     *
     * @throws UsageException when this machine or build lacks it, or it lacks the precision
     */
    public static Backend backend(EngineOptions options) {
        int threads = threads(options);
        Backend backend = switch (options.backend()) {
            case "cpu" -> cpu(threads);
            case "reference" -> new ReferenceBackend(threads);
            case "cuda" -> cuda(options.cudaLibraries());
            default -> auto(threads, options.cudaLibraries());
        };
        if (!backend.computes(options.precision())) {
            backend.close();
            throw new UsageException(
                    "precision f16 is the cuda backend's alone, and this is " + backend.name() + "; use f32 or bf16");
        }
        return backend;
    }

    private static int threads(EngineOptions options) {
        return options.threads() > 0
                ? options.threads()
                : Math.min(Runtime.getRuntime().availableProcessors(), 256);
    }

    private static Backend processor(int threads) {
        if (CpuBackend.isAvailable()) {
            return CpuBackend.open(threads);
        }
        warn(
                SLOW,
                "the native library cannot be used, plain Java works instead, with the same bits in f32 but many times slower: {0}",
                CpuBackend.unavailabilityCause().getMessage());
        return new ReferenceBackend(threads);
    }

    private static Backend cuda(CudaLibraries libraries) {
        CudaBackend.Availability availability = CudaBackend.availability(DEVICE);
        if (!availability.isAvailable()) {
            throw new UsageException(
                    "backend cuda is not available here (" + availability.text() + "); use auto, cpu or reference");
        }
        return device(libraries);
    }

    /** Says what was opened where libraries were asked for, because nothing else shows that one was not found. */
    private static Backend device(CudaLibraries libraries) {
        CudaBackend opened = CudaBackend.open(DEVICE, libraries);
        if (libraries == CudaLibraries.VENDOR) {
            System.getLogger("org.comneck.engine").log(System.Logger.Level.INFO, opened.description());
        }
        return opened;
    }

    /**
     * A GPU where one answers, else the processor. A machine without a driver is nothing to talk about; a GPU that cannot be used is, once.
     */
    private static Backend auto(int threads, CudaLibraries libraries) {
        CudaBackend.Availability availability = CudaBackend.availability(DEVICE);
        if (availability.isAvailable()) {
            try {
                return device(libraries);
            } catch (InternalException e) {
                warn(e.getMessage());
            }
        } else if (availability.cause() != CudaBackend.Cause.NO_DRIVER) {
            warn(availability.text());
        }
        return processor(threads);
    }

    private static void warn(String cause) {
        warn(WARNED, "the GPU cannot be used, the processor works instead: {0}", cause);
    }

    private static void warn(AtomicBoolean once, String text, String cause) {
        if (once.compareAndSet(false, true)) {
            System.getLogger("org.comneck.engine").log(System.Logger.Level.WARNING, text, cause);
        }
    }

    private static Backend cpu(int threads) {
        if (!CpuBackend.isAvailable()) {
            Throwable cause = CpuBackend.unavailabilityCause();
            throw new UsageException(
                    "backend cpu is not available here (" + cause.getMessage() + "); use reference", cause);
        }
        return CpuBackend.open(threads);
    }

    /** What the model's file says of it. */
    public Manifest manifest() {
        return manifest;
    }

    /** The 16 bytes by which bitstreams name the model. */
    public byte[] identity() {
        return identity.clone();
    }

    /** One line for people: kernels chosen, instruction set, threads. */
    public String backend() {
        return backend.description();
    }

    /** The tokens that the model's manifest names: layer and selection. */
    public TokenOptions defaultTokens() {
        return TokenOptions.DEFAULT
                .withLayer(manifest.tokens().layer())
                .withSelect(
                        switch (manifest.tokens().select()) {
                            case "all" -> VisionEncoder.Tokens.ALL;
                            case "cls" -> VisionEncoder.Tokens.CLS;
                            default -> VisionEncoder.Tokens.PATCHES;
                        });
    }

    /** Nanoseconds spent in each stage since the engine was opened, by name. */
    public Map<String, Long> stageNanos() {
        Map<String, Long> nanos = new TreeMap<>();
        timings.forEach((stage, sum) -> nanos.put(stage, sum.sum()));
        return nanos;
    }

    // ---------------------------------------------------------------- photo -> bitstream

    /** {@link #encode(List, EncodeOptions)} of one photo. */
    public byte[] encode(Photo photo) {
        return encode(List.of(photo), EncodeOptions.DEFAULT);
    }

    /**
     * Encodes photos into one bitstream.
     *
     * @return the bytes of a file, docs/format.md
     */
    public byte[] encode(List<Photo> photos, EncodeOptions options) {
        require(codec, "codec");
        double quality = quality(options.quality());
        List<Photo> pictures = photos.stream()
                .map(photo -> options.full() ? photo : resize(photo, Kind.RESIZE))
                .toList();
        for (Photo picture : pictures) {
            if (picture.width() > CodedImage.MAX_SIZE || picture.height() > CodedImage.MAX_SIZE) {
                throw new UsageException(picture + " is larger than the format holds: " + CodedImage.MAX_SIZE
                        + " pixels a side; encode it without --full");
            }
        }
        CodedImage[] images = new CodedImage[pictures.size()];
        batches(
                images.length,
                i -> CodedImage.padded(pictures.get(i).width()),
                i -> CodedImage.padded(pictures.get(i).height()),
                Kind.ENCODE,
                null,
                (run, batch) -> {
                    for (int b = 0; b < batch.length; b++) {
                        byte[] rgb =
                                pictures.get(batch[b]).pad(CodedImage.PADDING).rgb();
                        run.memory(run.pixels(), b).copyFrom(MemorySegment.ofArray(rgb));
                        if (run.gains() != null) {
                            fill(run.memory(run.gains(), b), codec.gain(quality));
                        }
                    }
                    run.execute();
                    for (int b = 0; b < batch.length; b++) {
                        Photo picture = pictures.get(batch[b]);
                        RansEncoder.Encoded encoded = run.run().encoded(b);
                        images[batch[b]] = new CodedImage(
                                picture.width(),
                                picture.height(),
                                run.key().width(),
                                run.key().height(),
                                quality,
                                !options.full(),
                                encoded.symbolChecksum(),
                                MemorySegment.ofArray(encoded.payload()));
                    }
                });
        return new Container(profile, identity, List.of(images)).toByteArray();
    }

    /** Short side resized, then the centre square; on a device, where that is what works: the same bytes. */
    Photo resize(Photo photo, Kind kind) {
        int centre = centre(kind);
        long pixels = (long) photo.width() * photo.height();
        if (!(backend instanceof CudaBackend)
                || pixels > MAX_PIXELS_ON_DEVICE
                || photo.width() == centre && photo.height() == centre) {
            return photo.resizeShortSide(shortSide(kind), Resample.BICUBIC).centreCrop(centre);
        }
        Photo[] resized = new Photo[1];
        withRun(new Key(kind, 1, photo.height(), photo.width(), null), run -> {
            run.memory(run.pixels(), 0).copyFrom(MemorySegment.ofArray(photo.rgb()));
            run.execute();
            resized[0] = Photo.of(centre, centre, run.memory(run.result(), 0).toArray(ValueLayout.JAVA_BYTE));
        });
        return resized[0];
    }

    private int centre(Kind kind) {
        return kind == Kind.RESIZE ? prepared().size() : manifest.encoder().image();
    }

    /** A vision transformer alone names both sizes (short side 256, centre 224); with a codec the first is the codec's. */
    private int shortSide(Kind kind) {
        int centre = centre(kind);
        return kind == Kind.RESIZE_FOR_ENCODER && codec == null && manifest.preprocessing() != null
                ? Math.max(centre, manifest.preprocessing().size())
                : centre;
    }

    private double quality(double wanted) {
        int most = codec.qualities() - 1;
        double quality = Double.isNaN(wanted) ? most : CodedImage.quality(wanted);
        if (!(quality >= 0 && quality <= most)) {
            throw new UsageException("quality " + wanted + " is not one of this model's: 0 to " + most + " ("
                    + String.join(
                            ", ",
                            manifest.qualities().stream()
                                    .map(Manifest.Quality::name)
                                    .toList())
                    + ")");
        }
        return quality;
    }

    private Manifest.Preprocessing prepared() {
        if (manifest.preprocessing() == null) {
            throw new UsageException(model.file() + " does not say how pictures are prepared: encode with --full");
        }
        return manifest.preprocessing();
    }

    // ---------------------------------------------------------------- bitstream -> ...

    /**
     * Reads a bitstream and makes sure that it is this model's.
     *
     * @throws DamagedDataException when it is no bitstream, or a damaged one
     * @throws UsageException when another model made it; names both
     */
    public Container read(byte[] bitstream) {
        Container container = Container.read(bitstream, Limits.DEFAULT);
        requireModel(container);
        return container;
    }

    /**
     * Makes sure that a bitstream is this model's.
     *
     * @throws UsageException when another model made it; names both
     */
    public void requireModel(Container bitstream) {
        bitstream.requireModel(identity, profile);
    }

    /** Tokens of a bitstream of one image, as the model's manifest says: F32 [tokens, D]. */
    public Tensor tokens(byte[] bitstream) {
        return tokens(bitstream, defaultTokens());
    }

    /** Tokens of a bitstream of one image: F32 [tokens, D]. */
    public Tensor tokens(byte[] bitstream, TokenOptions options) {
        return tokens(single(read(bitstream)), options).getFirst();
    }

    /** Tokens of every image: F32 [tokens, D] each. */
    public List<Tensor> tokens(Container bitstream, TokenOptions options) {
        checkTokens(options);
        return decode(bitstream, Kind.TOKENS, options, (run, b) -> floats(run, run.result(), b));
    }

    /** True when tokens of this image need an interpolated position table, because its grid is not the model's. */
    public boolean interpolates(CodedImage image) {
        require(neck, "neck");
        return neck.interpolates(image.paddedHeight() / codec.stride(), image.paddedWidth() / codec.stride());
    }

    /**
     * Prepares a run from bitstream to tokens for pictures of one padded size, for callers who want no allocation per call.
     *
     * @param width padded pixels, a multiple of 64
     * @param height likewise
     */
    public PreparedTokens prepareTokens(int width, int height, TokenOptions options) {
        return prepareTokens(1, width, height, options);
    }

    /**
     * {@link #prepareTokens(int, int, TokenOptions)} for batches.
     *
     * @param images pictures that are computed together, at least 1
     */
    public PreparedTokens prepareTokens(int images, int width, int height, TokenOptions options) {
        checkTokens(options);
        Key key = new Key(Kind.TOKENS, images, height, width, options);
        return onNetworks(pool -> new PreparedTokens(this, pool, pool.take(key)));
    }

    /** Latents and symbols of a bitstream of one image. */
    public Latents latents(byte[] bitstream) {
        return latents(single(read(bitstream))).getFirst();
    }

    /** Latents and symbols of every image. */
    public List<Latents> latents(Container bitstream) {
        return decode(bitstream, Kind.LATENTS, null, (run, b) -> {
            Activation y = run.result();
            int area = y.height() * y.width();
            MemorySegment values = run.memory(y, b);
            float[] yHat = new float[area * y.channels()];
            for (int p = 0; p < area; p++) {
                for (int c = 0; c < y.channels(); c++) {
                    yHat[c * area + p] = values.getAtIndex(F32, (long) p * y.channels() + c);
                }
            }
            int[] symbols = new int[yHat.length];
            for (Codec.Pass pass : run.coded().passes()) {
                pass.scatter(run.memory(pass.symbols(), b), symbols);
            }
            Activation z = run.coded().zSymbols();
            int zArea = z.height() * z.width();
            MemorySegment zValues = run.memory(z, b);
            int[] zSymbols = new int[zArea * z.channels()];
            for (int p = 0; p < zArea; p++) {
                for (int c = 0; c < z.channels(); c++) {
                    zSymbols[c * zArea + p] = zValues.getAtIndex(I16, (long) p * z.channels() + c);
                }
            }
            return new Latents(
                    Tensor.of(yHat, y.channels(), y.height(), y.width()),
                    Tensor.of(symbols, y.channels(), y.height(), y.width()),
                    Tensor.of(zSymbols, z.channels(), z.height(), z.width()));
        });
    }

    /** The photo of a bitstream of one image, padding cut off. */
    public Photo decode(byte[] bitstream) {
        return decode(single(read(bitstream))).getFirst();
    }

    /** The photos of every image, padding cut off. */
    public List<Photo> decode(Container bitstream) {
        List<Photo> padded = decode(bitstream, Kind.PHOTO, null, (run, b) -> {
            byte[] rgb = run.memory(run.result(), b).toArray(ValueLayout.JAVA_BYTE);
            return Photo.of(run.key().width(), run.key().height(), rgb);
        });
        List<Photo> photos = new ArrayList<>();
        for (int i = 0; i < padded.size(); i++) {
            CodedImage image = bitstream.image(i);
            photos.add(padded.get(i).crop(0, 0, image.width(), image.height()));
        }
        return photos;
    }

    /**
     * The likeliest classes of every image, best first.
     *
     * @param most how many classes of each
     */
    public List<List<Classification>> classify(Container bitstream, int most) {
        checkClasses();
        require(neck, "neck");
        return decode(bitstream, Kind.CLASSES, null, (run, b) -> classes(floats(run, run.result(), b), most));
    }

    /** The likeliest classes of a photo whose pixels go to the encoder, without codec and neck. */
    public List<Classification> classifyPixels(Photo photo, int most) {
        checkClasses();
        int size = manifest.encoder().image();
        Photo picture = resize(photo, Kind.RESIZE_FOR_ENCODER);
        List<Classification> found = new ArrayList<>();
        withRun(new Key(Kind.CLASSES_OF_PIXELS, 1, size, size, null), run -> {
            run.memory(run.pixels(), 0).copyFrom(MemorySegment.ofArray(picture.rgb()));
            run.execute();
            found.addAll(classes(floats(run, run.result(), 0), most));
        });
        return found;
    }

    private static Container single(Container container) {
        if (container.size() != 1) {
            throw new UsageException("the bitstream holds " + container.size()
                    + " images; ask for all of them with the method that takes a Container");
        }
        return container;
    }

    private static Tensor floats(PreparedRun run, Activation port, int image) {
        float[] values = run.memory(port, image).toArray(F32);
        return Tensor.of(values, port.positions(), port.channels());
    }

    private List<Classification> classes(Tensor tensor, int most) {
        float[] values = tensor.toFloats();
        double[] scores;
        if (byCosine()) {
            float[] rows = labels();
            scores = new double[rows.length / values.length];
            double norm = 0;
            for (float value : values) {
                norm += (double) value * value;
            }
            norm = Math.sqrt(norm);
            for (int k = 0; k < scores.length; k++) {
                double sum = 0;
                for (int i = 0; i < values.length; i++) {
                    sum += (double) values[i] * rows[k * values.length + i];
                }
                scores[k] = norm == 0 ? 0 : sum / norm;
            }
        } else {
            scores = softmax(values);
        }
        return IntStream.range(0, Math.min(scores.length, manifest.labels().size()))
                .boxed()
                .sorted(Comparator.comparingDouble(k -> -scores[k]))
                .limit(most)
                .map(k -> new Classification(
                        manifest.labels().get(k).synset(),
                        manifest.labels().get(k).name(),
                        scores[k]))
                .toList();
    }

    private static double[] softmax(float[] logits) {
        double highest = IntStream.range(0, logits.length)
                .mapToDouble(i -> logits[i])
                .max()
                .orElse(0);
        double[] out = IntStream.range(0, logits.length)
                .mapToDouble(i -> Math.exp(logits[i] - highest))
                .toArray();
        double sum = IntStream.range(0, out.length).mapToDouble(i -> out[i]).sum();
        for (int i = 0; i < out.length; i++) {
            out[i] /= sum;
        }
        return out;
    }

    /** Whether classes are found by the cosine with label embeddings, rather than by the encoder's own head. */
    private boolean byCosine() {
        return model.has("labels.embeddings") && encoder.hasProjection();
    }

    private synchronized float[] labels() {
        if (labels == null) {
            labels = unitLength(model.tensor("labels.embeddings"));
        }
        return labels;
    }

    private static float[] unitLength(Tensor embeddings) {
        if (embeddings.shape().rank() != 2) {
            throw new DamagedDataException("tensor 'labels.embeddings' has shape " + embeddings.shape());
        }
        float[] values = embeddings.toFloats();
        int width = Math.toIntExact(embeddings.shape().size(1));
        for (int row = 0; row < values.length; row += width) {
            double sum = 0;
            for (int i = 0; i < width; i++) {
                sum += (double) values[row + i] * values[row + i];
            }
            double norm = Math.sqrt(sum);
            for (int i = 0; i < width && norm > 0; i++) {
                values[row + i] = (float) (values[row + i] / norm);
            }
        }
        return values;
    }

    private void checkClasses() {
        require(encoder, "visual encoder");
        if (!(byCosine() || encoder.hasClassHead()) || manifest.labels().isEmpty()) {
            throw new UsageException(
                    model.file() + " has no labels; give them to 'comneck import --labels' to classify with it");
        }
    }

    /**
     * Makes sure that the model can give such tokens.
     *
     * @throws UsageException when it cannot; says what it can
     */
    public void checkTokens(TokenOptions options) {
        require(codec, "codec");
        require(neck, "neck");
        require(encoder, "visual encoder");
        int depth = encoder.depth();
        int end = options.layer() < 0 ? depth + 1 + options.layer() : options.layer();
        int entry = entry(options);
        if (entry > depth) {
            throw new UsageException("entry " + entry + " is beyond the encoder's " + depth + " blocks");
        }
        if (end < entry || end > depth) {
            throw new UsageException("layer " + options.layer() + " is not possible: tokens enter block " + entry
                    + " of " + depth + ", so a layer is " + entry + " to " + depth + " or " + (entry - depth - 1)
                    + " to -1");
        }
        if (options.projected() && !encoder.hasProjection()) {
            throw new UsageException(model.file() + " has no projection; leave out --proj");
        }
    }

    private int entry(TokenOptions options) {
        return options.entry() == TokenOptions.MODEL_ENTRY ? neck.entry() : options.entry();
    }

    private void require(Object part, String name) {
        if (part == null) {
            throw new UsageException(model.file() + " has no " + name + "; import one with 'comneck import'");
        }
    }

    // ---------------------------------------------------------------- runs

    @FunctionalInterface
    private interface Batch {
        /** @param images numbers of the images in this batch */
        void compute(PreparedRun run, int[] images);
    }

    @FunctionalInterface
    private interface Extract<T> {
        T from(PreparedRun run, int image);
    }

    private <T> List<T> decode(Container container, Kind kind, TokenOptions options, Extract<T> extract) {
        require(codec, "codec");
        requireModel(container);
        List<CodedImage> images = new ArrayList<>();
        for (int i = 0; i < container.size(); i++) {
            images.add(container.image(i));
            checkQuality(images.get(i));
        }
        List<T> results = new ArrayList<>(java.util.Collections.nCopies(images.size(), null));
        batches(
                images.size(),
                i -> images.get(i).paddedWidth(),
                i -> images.get(i).paddedHeight(),
                kind,
                options,
                (run, batch) -> {
                    for (int b = 0; b < batch.length; b++) {
                        CodedImage image = images.get(batch[b]);
                        run.run().payload(b, image.payload(), image.symbolChecksum());
                        if (run.gains() != null) {
                            fillInverseGains(run.memory(run.gains(), b), image.quality());
                        }
                    }
                    run.execute();
                    for (int b = 0; b < batch.length; b++) {
                        DamagedDataException damage = run.run().damage(b);
                        if (damage != null) {
                            throw damage;
                        }
                        results.set(batch[b], extract.from(run, b));
                    }
                });
        return results;
    }

    /** Computes images 0 .. count-1 in batches of equal padded size. */
    private void batches(
            int count,
            ToIntFunction<Integer> width,
            ToIntFunction<Integer> height,
            Kind kind,
            TokenOptions options,
            Batch body) {
        Map<List<Integer>, List<Integer>> bySize = new LinkedHashMap<>();
        for (int i = 0; i < count; i++) {
            bySize.computeIfAbsent(List.of(width.applyAsInt(i), height.applyAsInt(i)), key -> new ArrayList<>())
                    .add(i);
        }
        bySize.forEach((size, all) -> {
            long pixels = (long) size.get(0) * size.get(1);
            int most = Math.clamp(MAX_BATCH_PIXELS / pixels, 1, MAX_BATCH);
            for (int from = 0; from < all.size(); from += most) {
                int[] batch = all.subList(from, Math.min(from + most, all.size())).stream()
                        .mapToInt(Integer::intValue)
                        .toArray();
                withRun(
                        new Key(kind, batch.length, size.get(1), size.get(0), options),
                        run -> body.compute(run, batch));
            }
        });
    }

    /** Work with a run of this key. */
    private void withRun(Key key, Consumer<PreparedRun> work) {
        onNetworks(pool -> {
            PreparedRun run = pool.take(key);
            try {
                work.accept(run);
                return run;
            } finally {
                pool.giveBack(run);
            }
        });
    }

    /** Work on the networks; once more on the processor where a device fails and this engine may fall back. */
    private <T> T onNetworks(Function<RunPool, T> work) {
        RunPool used = null;
        DeviceException failure;
        exchange.readLock().lock();
        try {
            used = runs;
            return work.apply(used);
        } catch (DeviceException e) {
            failure = e;
        } finally {
            exchange.readLock().unlock();
        }
        failed(used, failure);
        return onNetworks(work);
    }

    /**
     * Goes on without the device that failed.
     *
     * @param used where it failed
     * @throws DeviceException the failure, when there is nothing to fall back to
     */
    void failed(RunPool used, DeviceException failure) {
        exchange.writeLock().lock();
        try {
            if (used == runs) { // else another thread has been here
                if (fallback == null) {
                    throw failure;
                }
                retired.add(networks()); // prepared tokens may still hold a run of it: closed with the engine
                fallBack(failure);
            }
        } finally {
            exchange.writeLock().unlock();
        }
    }

    void checkQuality(CodedImage image) {
        if (image.quality() > codec.qualities() - 1) {
            throw new DamagedDataException("an image has quality " + image.quality() + ", but the model's highest is "
                    + (codec.qualities() - 1));
        }
    }

    void fillInverseGains(MemorySegment gains, double quality) {
        fill(gains, codec.inverseGain(quality));
    }

    private static void fill(MemorySegment memory, float[] values) {
        MemorySegment.copy(values, 0, memory, F32, 0, values.length);
    }

    /** Records a run. */
    private PreparedRun record(Key key) {
        RunBuilder run = backend.newRun();
        try {
            return switch (key.kind()) {
                case RESIZE, RESIZE_FOR_ENCODER -> recordResize(key, run);
                case ENCODE -> recordEncode(key, run);
                case CLASSES_OF_PIXELS -> recordPixels(key, run);
                default -> recordDecode(key, run);
            };
        } catch (OutOfMemoryError e) {
            throw new UsageException(
                    "a picture of " + key.width() + "x" + key.height() + " pixels needs more memory than there is", e);
        }
    }

    /** Photo to its centre square: only what the square is made of is computed along rows. */
    private PreparedRun recordResize(Key key, RunBuilder run) {
        run.stage("resize");
        int shortSide = shortSide(key.kind());
        int size = centre(key.kind());
        Activation photo = run.input(ElementType.U8, 1, key.height(), key.width(), 3);
        Activation wide = run.buffer(ElementType.U8, Grid.FULL, 1, key.height(), size, 3);
        run.resample(photo, Taps.Axis.WIDTH, centreTaps(key.width(), key.height(), shortSide, size), wide);
        Activation square = run.buffer(ElementType.U8, Grid.FULL, 1, size, size, 3);
        run.resample(wide, Taps.Axis.HEIGHT, centreTaps(key.height(), key.width(), shortSide, size), square);
        run.release(wide);
        run.output(square);
        return PreparedRun.of(key, run.build(), timings, photo, null, null, square);
    }

    private static Taps centreTaps(int side, int other, int shortSide, int size) {
        int resized = Photo.withShortSide(side, other, shortSide);
        return Resampler.taps(side, resized, Resample.BICUBIC).slice(Photo.middle(resized, size), size);
    }

    private PreparedRun recordEncode(Key key, RunBuilder run) {
        run.stage("analysis");
        Activation pixels = run.input(ElementType.U8, key.images(), key.height(), key.width(), 3);
        Activation gains = gainsInput(key, run);
        Activation image = run.buffer(ElementType.F32, Grid.FULL, key.images(), key.height(), key.width(), 3);
        run.normalize(pixels, NO_MEAN, NO_DEVIATION, image);
        Activation y = codec.analysis(run, image, gains);
        run.release(image);
        Codec.Coded coded = codec.encode(run, y);
        codec.encodePayloads(run, coded, 0);
        return PreparedRun.of(key, run.build(), timings, pixels, gains, coded, null);
    }

    private PreparedRun recordDecode(Key key, RunBuilder run) {
        Activation gains = gainsInput(key, run);
        Codec.Coded coded =
                codec.decode(run, key.images(), key.height() / codec.stride(), key.width() / codec.stride());
        Activation yHat = codec.ungain(run, coded.yHat(), gains);
        if (yHat != coded.yHat()) {
            run.release(coded.yHat());
        }
        Activation result = switch (key.kind()) {
            case LATENTS -> {
                coded.output(run);
                yield yHat;
            }
            case PHOTO -> photo(run, yHat);
            case CLASSES -> {
                Activation x = neck.record(run, yHat);
                yield classScores(run, encoder.blocks(run, x, neck.entry(), -1));
            }
            default -> tokens(run, yHat, key.options());
        };
        run.output(result);
        return PreparedRun.of(key, run.build(), timings, null, gains, coded, result);
    }

    private PreparedRun recordPixels(Key key, RunBuilder run) {
        run.stage("embedding");
        Activation pixels = run.input(ElementType.U8, key.images(), key.height(), key.width(), 3);
        Activation x = encoder.embed(run, pixels);
        Activation result = classScores(run, encoder.blocks(run, x, 0, -1));
        run.output(result);
        return PreparedRun.of(key, run.build(), timings, pixels, null, null, result);
    }

    private Activation gainsInput(Key key, RunBuilder run) {
        return codec.hasGains() ? run.input(ElementType.F32, key.images(), 1, 1, codec.latentChannels()) : null;
    }

    private Activation photo(RunBuilder run, Activation yHat) {
        Activation image = codec.synthesis(run, yHat);
        Activation pixels = run.buffer(ElementType.U8, Grid.FULL, image.images(), image.height(), image.width(), 3);
        run.toPixels(image, pixels);
        run.release(image);
        return pixels;
    }

    private Activation tokens(RunBuilder run, Activation yHat, TokenOptions options) {
        Activation x = encoder.blocks(run, neck.record(run, yHat), entry(options), options.layer());
        return encoder.head(run, x, options.select(), options.postNorm(), options.projected());
    }

    private Activation classScores(RunBuilder run, Activation x) {
        return byCosine()
                ? encoder.head(run, x, VisionEncoder.Tokens.CLS, VisionEncoder.PostNorm.ONCE, true)
                : encoder.classLogits(run, x);
    }

    /** Frees everything, once the calls under way have ended. Idempotent. */
    @Override
    public synchronized void close() {
        if (closed) {
            return;
        }
        closed = true;
        networks().close();
        retired.forEach(Networks::close);
        model.close();
    }
}

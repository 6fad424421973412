package org.comneck.train;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.comneck.UsageException;
import org.comneck.model.Manifest;
import org.comneck.model.SafetensorsFile;

/**
 * Trains the neck, and with it the codec, through a frozen encoder, by the {@link SurrogateLoss}; every photo at a random quality. The
 * published settings:
 *
 * <pre>
 *   d1   codec frozen      surrogate
 *   d2   codec trained     bits per pixel + lambda (weight.reconstruction 255^2 MSE + weight.surrogate surrogate)
 *   d3   codec trained     bits per pixel + lambda  weight.surrogate surrogate
 *   post codec frozen      surrogate, of a U-Net behind the decoder in place of the neck: the baseline
 * </pre>
 *
 * lambda is that of the photo's quality. A photo's loss in d2 and d3 is divided by the root of lambda (1 at the middle quality): that moves no
 * quality's optimum, and without it the finest quality would drown the others.
 */
final class SurrogateStage implements Stage {
    private static final double PEAK_SQUARED = 255 * 255;

    private static final String VISUAL = "visual.";

    /** Photos that a neck's first layer is fitted to. */
    private static final int START_PHOTOS = 64;

    private final Recipe recipe;
    private final Photos photos;
    private final PhotoBatches batches;
    private final int batch;
    private final long seed;
    private final int grid;
    private final Setting setting;
    private final Schedule schedule;
    private final Parameters parameters;
    private final CodecNetwork codec;
    private final List<Integer> trainedQualities;
    private final Front front;
    private final SurrogateLoss loss;
    private final PhotoLabels labels;
    private final SurrogateMeasure measure;

    /** What is trained besides the neck, or in its place. */
    enum Setting {
        D1(false, false),
        D2(true, true),
        D3(true, false),
        POST(false, false);

        private final boolean codec;
        private final boolean reconstruction;

        Setting(boolean codec, boolean reconstruction) {
            this.codec = codec;
            this.reconstruction = reconstruction;
        }

        static Setting of(Recipe recipe) {
            String word = recipe.has("setting") ? recipe.word("setting") : "d1";
            return switch (word) {
                case "d1" -> D1;
                case "d2" -> D2;
                case "d3" -> D3;
                case "post" -> POST;
                default ->
                    throw new UsageException(
                            "recipe " + recipe.name() + ": setting '" + word + "' is unknown; known: d1, d2, d3, post");
            };
        }
    }

    SurrogateStage(Recipe recipe, Path data, Path runFolder) {
        this.recipe = recipe;
        this.photos = Photos.training(recipe, data);
        this.batches = new PhotoBatches(recipe, photos, Photos.randomViews(recipe));
        this.batch = recipe.integer("batch");
        this.seed = recipe.integer("seed", 1);
        this.setting = Setting.of(recipe);
        ScalarType type = recipe.has("precision") && recipe.word("precision").equals("bf16") ? Ops.BF16 : Ops.F32;
        try (ModelParts parts = ModelParts.of(recipe, data, runFolder)) {
            Manifest manifest = parts.manifest();
            CodecNetwork.Size size = parts.codecSize(recipe);
            this.grid = grid(manifest);
            if (setting.codec && size.lambdas().stream().anyMatch(lambda -> lambda <= 0)) {
                throw new UsageException("recipe " + recipe.name() + ": " + parts.source()
                        + " does not say what its codec was trained for; set codec.lambdas");
            }
            this.parameters = parameters(recipe, parts);
            Parameters codecWeights = setting.codec ? parameters : parts.frozenCodec(size);
            this.codec = new CodecNetwork(size, codecWeights, type);
            this.trainedQualities = qualities(recipe, size.lambdas().size());
            FrozenEncoder encoder = new FrozenEncoder(parts.source(), manifest.encoder(), parts.tensors(), type);
            this.front = front(recipe, parts, encoder, type);
            if (setting != Setting.POST && fresh(recipe, parts) && recipe.has("neck.start")) {
                fitPatches(encoder);
            }
            Tensor texts = texts(recipe, data, parts, encoder);
            List<Manifest.Label> list = recipe.has("labels")
                    ? EncoderStage.labels(Photos.resolve(data, recipe.word("labels")))
                    : manifest.labels();
            boolean classes = !list.isEmpty() && (texts != null || encoder.hasHead() && !encoder.hasProjection());
            if (classes && texts != null && texts.size(0) != list.size()) {
                throw new UsageException("recipe " + recipe.name() + ": " + texts.size(0) + " label embeddings, but "
                        + list.size() + " labels");
            }
            this.labels = new PhotoLabels(classes ? list : List.of());
            Schedule wanted = Schedule.of(recipe, Set.copyOf(SurrogateLoss.TERMS));
            this.schedule = classes ? wanted : wanted.without("entropy").without("soft");
            this.loss = new SurrogateLoss(
                    encoder,
                    texts,
                    front.entry(),
                    layer(recipe, manifest, front.entry()),
                    recipe.integer("post.norms", 1));
            this.measure = new SurrogateMeasure(
                    Photos.heldOut(recipe, data),
                    classes ? labels : null,
                    new CodecNetwork(size, codecWeights, Ops.F32),
                    front,
                    loss,
                    grid);
        }
    }

    /**
     * Lets the neck's first layer begin as the linear map that brings latents closest to the encoder's embedded patches. Latents of little
     * variance, which are most, need large weights there, and Adam is long in making them.
     */
    private void fitPatches(FrozenEncoder encoder) {
        NoGradGuard guard = new NoGradGuard();
        try (var _ = new PointerScope()) {
            int columns = codec.size().m() + 1;
            Tensor squares =
                    Ops.of(new float[columns * columns], columns, columns).to(ScalarType.Double);
            Tensor products = Ops.of(new float[columns * encoder.width()], columns, encoder.width())
                    .to(ScalarType.Double);
            for (int i = 0; i * batch < START_PHOTOS; i++) {
                // What came of a batch goes with it, all but the sums.
                try (var _ = new PointerScope()) {
                    Tensor pixels = batches.get(i, batch, 16 * grid).tensor();
                    long[] qualities = new long[batch];
                    for (int k = 0; k < batch; k++) {
                        qualities[k] = trainedQualities.get((i * batch + k) % trainedQualities.size());
                    }
                    Tensor latents = codec.run(pixels, Ops.of(qualities, batch), false, false)
                            .yHat()
                            .flatten(2, 3)
                            .transpose(1, 2)
                            .flatten(0, 1)
                            .to(ScalarType.Double);
                    Tensor rows = Ops.cat(1, latents, torch.ones_like(latents.narrow(1, 0, 1)));
                    Tensor wanted = encoder.patches(pixels, grid).flatten(0, 1).to(ScalarType.Double);
                    squares.add_(torch.matmul(rows.t(), rows));
                    products.add_(torch.matmul(rows.t(), wanted));
                }
            }
            // A thousandth of a row's mean square keeps latents that are nearly always 0 from large weights.
            Tensor ridge = torch.diag(Ops.plus(Ops.scaled(torch.diag(squares), 1e-3), 1e-6));
            Tensor solved = Ops.solve(squares.add(ridge), products).to(Ops.F32);
            long channels = solved.size(0) - 1;
            parameters.set(
                    "trans_latent_dim.weight", solved.narrow(0, 0, channels).t());
            parameters.set("trans_latent_dim.bias", solved.select(0, channels));
        } finally {
            guard.close();
        }
    }

    private static List<Integer> qualities(Recipe recipe, int count) {
        List<Integer> all = IntStream.range(0, count).boxed().toList();
        List<Integer> chosen = recipe.has("qualities") ? recipe.integers("qualities") : all;
        if (!all.containsAll(chosen)) {
            throw new UsageException("recipe " + recipe.name() + ": qualities are 0 to " + (count - 1));
        }
        return chosen;
    }

    /** Latents on a side of the prepared photo, and patches of the encoder. */
    private static int grid(Manifest manifest) {
        return manifest.preprocessing().size() / 16;
    }

    /** Number of blocks before the patch tokens that count; {@code tokens.layer} is counted as on the command line, -2 by default. */
    private static int layer(Recipe recipe, Manifest manifest, int entry) {
        int layer = recipe.integer("tokens.layer", manifest.tokens().layer());
        int blocks = layer < 0 ? manifest.encoder().layers() + 1 + layer : layer;
        if (blocks < entry || blocks > manifest.encoder().layers()) {
            throw new UsageException("recipe " + recipe.name() + ": tokens.layer " + layer + " is not between entry "
                    + entry + " and the last of " + manifest.encoder().layers() + " blocks");
        }
        return blocks;
    }

    private Front front(Recipe recipe, ModelParts parts, FrozenEncoder encoder, ScalarType type) {
        if (setting == Setting.POST) {
            return Front.of(
                    new PostNetwork(parameters, recipe.integers("post.widths").size(), type), encoder);
        }
        Manifest.Neck shape = neck(recipe, parts);
        return Front.of(new NeckNetwork(parameters, shape.heads(), blocks(recipe, parts), type), shape.entry());
    }

    /**
     * The neck's place and heads: those of the model's neck, or the recipe's for a fresh one. The model's, which may be null, where no neck is
     * trained.
     */
    static Manifest.Neck neck(Recipe recipe, ModelParts parts) {
        return Setting.of(recipe) != Setting.POST && fresh(recipe, parts)
                ? new Manifest.Neck(recipe.integer("neck.entry"), recipe.integer("neck.heads"))
                : parts.manifest().neck();
    }

    private static boolean fresh(Recipe recipe, ModelParts parts) {
        return parts.manifest().neck() == null
                || recipe.has("neck") && recipe.word("neck").equals("fresh");
    }

    private static int blocks(Recipe recipe, ModelParts parts) {
        if (fresh(recipe, parts)) {
            return recipe.integer("neck.blocks", 1);
        }
        int blocks = 0;
        while (parts.tensors().containsKey("transformer.resblocks." + blocks + ".ln_1.weight")) {
            blocks++;
        }
        return blocks;
    }

    /** Whether a recipe trains a tensor of the model anew, or leaves it without use. */
    static boolean replaces(Recipe recipe, String name) {
        return switch (Setting.of(recipe)) {
            case POST -> PostNetwork.owns(name);
            case D1 -> NeckNetwork.owns(name);
            case D2, D3 -> NeckNetwork.owns(name) || PostNetwork.owns(name); // for pictures of another codec
        };
    }

    /** What a recipe trains, as it is before the first step. */
    static Parameters parameters(Recipe recipe, ModelParts parts) {
        Parameters w = new Parameters(recipe.integer("seed", 1));
        if (Setting.of(recipe) == Setting.POST) {
            return PostNetwork.declare(recipe.integers("post.widths"), w).build();
        }
        CodecNetwork.Size size = parts.codecSize(recipe);
        if (Setting.of(recipe).codec) {
            parts.declareCodec(size, w);
            double rate = recipe.number("rate.codec", 1);
            w.slots().keySet().forEach(name -> w.rate(name, rate));
            CodecNetwork.rates(recipe, w);
        }
        int side = grid(parts.manifest());
        int width = parts.manifest().encoder().width();
        NeckNetwork.declare(size.m(), width, side * side + 1, blocks(recipe, parts), w);
        for (int i = 0; i < blocks(recipe, parts); i++) {
            Transformer.optimizer(recipe, w, NeckNetwork.BLOCK + i);
        }
        if (!fresh(recipe, parts)) {
            parts.neck().forEach(w::start);
        } else if (recipe.has("neck.start")) {
            encodersOwn(recipe, parts).forEach(w::start);
        }
        return w.build();
    }

    /**
     * What a fresh neck stands for, of the encoder: embeddings, first norm, and the blocks right before the entry. Blocks that it has in
     * excess come first and add nothing at first: their branches end in zeros.
     */
    private static Map<String, float[]> encodersOwn(Recipe recipe, ModelParts parts) {
        int blocks = blocks(recipe, parts);
        int entry = recipe.integer("neck.entry");
        if (!recipe.word("neck.start").equals("encoder")) {
            throw new UsageException(
                    "recipe " + recipe.name() + ": neck.start is '" + recipe.word("neck.start") + "'; known: encoder");
        }
        Map<String, float[]> own = new LinkedHashMap<>();
        parts.tensors().forEach((name, tensor) -> {
            String plain = name.startsWith(VISUAL) ? name.substring(VISUAL.length()) : "";
            for (int i = 0; i < blocks; i++) {
                String block = NeckNetwork.BLOCK + (entry - blocks + i) + ".";
                if (plain.startsWith(block)) {
                    own.put(NeckNetwork.BLOCK + i + "." + plain.substring(block.length()), tensor.toFloats());
                }
            }
            if (plain.startsWith("ln_pre.") || plain.endsWith("_embedding")) {
                own.put(plain, tensor.toFloats());
            }
        });
        int width = parts.manifest().encoder().width();
        for (int i = 0; i < blocks - entry; i++) {
            own.put(NeckNetwork.BLOCK + i + ".attn.out_proj.weight", new float[width * width]);
            own.put(NeckNetwork.BLOCK + i + ".mlp.c_proj.weight", new float[4 * width * width]);
        }
        return own;
    }

    /** Label embeddings of unit length: of a file, or the model's own. */
    private static Tensor texts(Recipe recipe, Path data, ModelParts parts, FrozenEncoder encoder) {
        if (!encoder.hasProjection() && !recipe.has("texts")) {
            return null;
        }
        int projection = Math.max(parts.manifest().encoder().projection(), 0);
        if (!recipe.has("texts")) {
            org.comneck.tensor.Tensor own = parts.tensors().get("labels.embeddings");
            return own == null
                    ? null
                    : Ops.unit(Ops.of(own.toFloats(), own.shape().toArray()));
        }
        Path file = Photos.resolve(data, recipe.word("texts"));
        int width = projection > 0 ? projection : encoder.width();
        try (SafetensorsFile source = SafetensorsFile.open(file)) {
            for (org.comneck.tensor.Tensor tensor : source.tensors().values()) {
                if (tensor.shape().rank() == 2 && tensor.shape().size(1) == width) {
                    return Ops.unit(Ops.of(tensor.toFloats(), tensor.shape().toArray()));
                }
            }
        }
        throw new UsageException(file + ": has no tensor [labels," + width + "]");
    }

    @Override
    public Parameters parameters() {
        return parameters;
    }

    @Override
    public Photos photos() {
        return photos;
    }

    @Override
    public int batch() {
        return batch;
    }

    @Override
    public void close() {
        batches.close();
    }

    /** A tenth after the milestone, as published, or along a cosine. */
    @Override
    public double rate(double progress) {
        return recipe.has("milestone")
                ? progress < Schedule.fraction(recipe.word("milestone")) ? 1 : 0.1
                : Stage.cosine(progress, recipe.number("rate.final", 0.01));
    }

    @Override
    public Map<String, Double> step(long index, double progress) {
        SplittableRandom random = new SplittableRandom(seed * 0x632BE59BD9B4E019L + index);
        boolean small = recipe.has("small.image") && progress < recipe.number("small.until", 0.8);
        int count = small ? recipe.integer("small.batch") : batch;
        int side = small ? recipe.integer("small.image") : 16 * grid;
        PhotoBatches.Batch chosen = batches.get(index, count, side);
        long[] qualities = new long[count];
        long[] rows = new long[count];
        for (int i = 0; i < count; i++) {
            qualities[i] = trainedQualities.get(random.nextInt(trainedQualities.size()));
            rows[i] = labels.row(photos.file(chosen.photos()[i]));
        }
        Tensor pixels = chosen.tensor();
        Tensor quality = Ops.of(qualities, count);
        Schedule.Phase phase = schedule.at(progress);
        Set<String> terms = phase.weights().keySet();
        SurrogateLoss.Seen wanted;
        CodecNetwork.Result coded = null;
        NoGradGuard guard = new NoGradGuard();
        try {
            wanted = loss.uncompressed(pixels, side / 16, terms);
            if (!setting.codec) {
                coded = codec.run(pixels, quality, false, front.readsPictures());
            }
        } finally {
            guard.close();
        }
        if (setting.codec) {
            coded = codec.run(pixels, quality, true, setting.reconstruction);
        }
        float[] importance = new float[count];
        float[] lambdas = new float[count];
        double middle = CodecNetwork.middle(codec.size());
        for (int i = 0; i < count; i++) {
            double lambda = codec.size().lambdas().get((int) qualities[i]);
            lambdas[i] = (float) lambda;
            importance[i] = setting.codec ? (float) Math.sqrt(middle / lambda) : 1f;
        }
        Tensor weight = Ops.scaled(Ops.of(importance, count), 1.0 / count);
        Tensor lambda = Ops.of(lambdas, count);
        double factor = recipe.number("weight.surrogate", 1);
        Tensor each = Ops.scaled(setting.codec ? weight.mul(lambda) : weight, factor);

        Map<String, Double> values = new LinkedHashMap<>();
        Tensor tokens = front.tokens(coded, side / 16);
        SurrogateLoss.Weighted weighted = seen -> {
            Tensor sum = null;
            for (Map.Entry<String, Tensor> term :
                    loss.terms(seen, wanted, Ops.of(rows, count), terms).entrySet()) {
                values.put(term.getKey(), Ops.value(term.getValue().mean()));
                Tensor part = Ops.scaled(
                        term.getValue().mul(each).sum(), phase.weights().get(term.getKey()));
                sum = sum == null ? part : sum.add(part);
            }
            return sum;
        };
        Tensor total = recipe.flag("recompute", false)
                ? loss.recomputed(tokens, terms, weighted)
                : weighted.of(loss.compressed(tokens, terms));
        if (setting.codec) {
            Tensor rate = Ops.scaled(coded.bits(), 1.0 / (side * side));
            values.put("bpp", Ops.value(rate.mean()));
            total = total.add(rate.mul(weight).sum());
            if (setting.reconstruction) {
                Tensor error = Ops.meanOver(coded.xHat().sub(pixels).square(), false, 1, 2, 3);
                values.put("psnr", -10 * Math.log10(Ops.value(error.mean())));
                values.put("reconstruction", Ops.value(error.mean()) * PEAK_SQUARED);
                total = total.add(Ops.scaled(
                        error.mul(lambda).mul(weight).sum(), PEAK_SQUARED * recipe.number("weight.reconstruction", 1)));
            }
        }
        double value = Ops.value(total);
        if (setting.codec) {
            Tensor auxiliary = codec.auxiliaryLoss();
            values.put("auxiliary", Ops.value(auxiliary));
            total = total.add(auxiliary);
        }
        total.backward();
        Map<String, Double> out = new LinkedHashMap<>();
        out.put("loss", value);
        out.putAll(values);
        return out;
    }

    @Override
    public Map<String, Double> evaluate(boolean thorough) {
        NoGradGuard guard = new NoGradGuard();
        parameters.useAverage(true);
        try {
            return measure.figures(thorough);
        } finally {
            parameters.useAverage(false);
            guard.close();
        }
    }
}

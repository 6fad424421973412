package org.comneck.train;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.comneck.UsageException;
import org.comneck.engine.Photo;

/** Trains the codec: bits per pixel + lambda * 255^2 * mean squared error, the lambda of a random quality for each photo. */
final class CodecStage implements Stage {
    /** Pictures of a measurement; 256 pixels square, centre crops. */
    private static final int EVALUATED = 24;

    /** Crops whose principal components transforms start as. */
    private static final int START_CROPS = 400;

    private final Recipe recipe;
    private final Path data;
    private final Photos photos;
    private final Photos heldOut;
    private final PhotoBatches batches;
    private final int batch;
    private final int crop;
    private final long seed;
    private final double balance;
    private final boolean fixed;
    private final CodecNetwork.Size size;
    private final Parameters parameters;
    private final CodecNetwork network;
    private final CodecNetwork exact;

    CodecStage(Recipe recipe, Path data) {
        this.recipe = recipe;
        this.data = data;
        this.photos = Photos.training(recipe, data);
        this.heldOut = Photos.heldOut(recipe, data);
        this.batches = new PhotoBatches(recipe, photos, Photos::randomSquare);
        this.batch = recipe.integer("batch");
        this.crop = recipe.integer("crop");
        this.seed = recipe.integer("seed", 1);
        this.balance = recipe.number("codec.balance", 0);
        this.fixed = recipe.flag("codec.fixed", false);
        this.size = size(recipe);
        this.parameters = parameters(recipe);
        this.network = new CodecNetwork(size, parameters, Ops.precision(recipe));
        this.exact = new CodecNetwork(size, parameters, Ops.F32);
        if (recipe.has("codec.start")) {
            start();
        }
    }

    private void start() {
        if (!recipe.word("codec.start").equals("components")) {
            throw new UsageException("recipe " + recipe.name() + ": codec.start is '" + recipe.word("codec.start")
                    + "'; known: components");
        }
        try (var _ = new PointerScope()) {
            List<Tensor> pictures = new ArrayList<>();
            for (int i = 0; i * batch < START_CROPS; i++) {
                pictures.add(batches.get(i, batch, crop).tensor());
            }
            ComponentStart.set(size, parameters, pictures);
        }
    }

    static CodecNetwork.Size size(Recipe recipe) {
        List<Integer> aggregation = recipe.integers("codec.aggregation");
        List<Integer> context = recipe.integers("codec.context");
        return new CodecNetwork.Size(
                recipe.integer("codec.n"),
                recipe.integer("codec.m"),
                recipe.integers("codec.slices"),
                aggregation.get(0),
                aggregation.get(1),
                context.get(0),
                context.get(1),
                recipe.numbers("codec.lambdas"));
    }

    static Parameters parameters(Recipe recipe) {
        Parameters parameters = CodecNetwork.declare(size(recipe), new Parameters(recipe.integer("seed", 1)));
        CodecNetwork.rates(recipe, parameters);
        return parameters.build();
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
    public void close() {
        batches.close();
    }

    @Override
    public int batch() {
        return batch;
    }

    @Override
    public double rate(double progress) {
        return Stage.cosine(progress, recipe.number("rate.final", 0.02));
    }

    @Override
    public Map<String, Double> step(long step, double progress) {
        SplittableRandom random = new SplittableRandom(seed * 0x632BE59BD9B4E019L + step);
        long[] qualities = new long[batch];
        float[] lambdas = new float[batch];
        float[] weights = new float[batch];
        for (int i = 0; i < batch; i++) {
            qualities[i] = random.nextInt(size.lambdas().size());
            double lambda = size.lambdas().get((int) qualities[i]);
            lambdas[i] = (float) (lambda * 255 * 255);
            weights[i] = (float) Math.pow(lambda / CodecNetwork.middle(size), -balance);
        }
        Tensor x = batches.get(step, batch, crop).tensor();
        Tensor chosen = Ops.of(qualities, batch);
        CodecNetwork.Result result = network.runLatents(latents(x, chosen), chosen, true, true);
        Tensor error = Ops.meanOver(result.xHat().sub(x).square(), false, 1, 2, 3);
        Tensor rate = Ops.scaled(result.bits(), 1.0 / (crop * crop));
        Tensor distortion = error.mul(Ops.of(lambdas, batch));
        Tensor auxiliary = network.auxiliaryLoss();
        Tensor loss = rate.add(distortion).mul(Ops.of(weights, batch)).mean();
        loss.add(auxiliary).backward();
        Map<String, Double> terms = new LinkedHashMap<>();
        terms.put("loss", Ops.value(loss));
        terms.put("bpp", Ops.value(rate.mean()));
        terms.put("bpp.side", Ops.value(result.sideBits().mean()) / (crop * crop));
        terms.put("distortion", Ops.value(distortion.mean()));
        terms.put("psnr", -10 * Math.log10(Ops.value(error.mean())));
        terms.put("auxiliary", Ops.value(auxiliary));
        return terms;
    }

    private Tensor latents(Tensor x, Tensor qualities) {
        if (!fixed) {
            return network.latents(x, qualities);
        }
        NoGradGuard guard = new NoGradGuard();
        try {
            return network.latents(x, qualities);
        } finally {
            guard.close();
        }
    }

    /** Estimated rate and PSNR of each quality, of centre crops and, thoroughly, of whole photos of another folder. */
    @Override
    public Map<String, Double> evaluate(boolean thorough) {
        Map<String, Double> figures = new LinkedHashMap<>();
        NoGradGuard guard = new NoGradGuard();
        parameters.useAverage(true);
        try {
            int count = Math.min(EVALUATED, heldOut.count());
            List<Photo> crops = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                crops.add(heldOut.get(i * heldOut.count() / count));
            }
            measure(figures, "", crops, false);
            if (thorough && recipe.has("evaluate.photos")) {
                Photos whole = Photos.of(Photos.list(Photos.resolve(data, recipe.word("evaluate.photos"))));
                List<Photo> all = new ArrayList<>();
                for (int i = 0; i < whole.count(); i++) {
                    all.add(whole.get(i));
                }
                measure(figures, "whole.", all, true);
            }
        } finally {
            parameters.useAverage(false);
            guard.close();
        }
        return figures;
    }

    private void measure(Map<String, Double> figures, String prefix, List<Photo> list, boolean whole) {
        for (int q = 0; q < size.lambdas().size(); q++) {
            double bits = 0;
            double psnr = 0;
            for (Photo photo : list) {
                try (var _ = new PointerScope()) {
                    Tensor x = whole ? pixels(photo) : EncoderStage.centre(photo, 256);
                    CodecNetwork.Result result = exact.run(x, Ops.of(new long[] {q}, 1), false, true);
                    bits += Ops.value(result.bits()) / (x.size(2) * x.size(3)) / list.size();
                    psnr += -10 * Math.log10(Ops.value(Ops.mse(Ops.clamp01(result.xHat()), x))) / list.size();
                }
            }
            figures.put(prefix + "bpp." + q, bits);
            figures.put(prefix + "psnr." + q, psnr);
        }
    }

    /** A photo's own pixels, from its top left corner on, sizes cut to multiples of 64. */
    private static Tensor pixels(Photo photo) {
        return Photos.pixels(photo.crop(0, 0, photo.width() / 64 * 64, photo.height() / 64 * 64));
    }
}

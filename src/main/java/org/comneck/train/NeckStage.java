package org.comneck.train;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.comneck.model.Manifest;

/**
 * Trains the neck between a frozen codec and a frozen encoder: from the latents of a photo at a random quality, the encoder's states at the
 * entry, at the last but one block and at the last are to be those that it has of the photo's pixels, and so are its class probabilities.
 */
final class NeckStage implements Stage {
    private final Recipe recipe;
    private final Photos photos;
    private final Photos heldOut;
    private final PhotoBatches batches;
    private final int batch;
    private final long seed;
    private final int entry;
    private final Parameters codecParameters;
    private final Parameters encoderParameters;
    private final CodecNetwork codec;
    private final CodecNetwork exactCodec;
    private final EncoderNetwork encoder;
    private final Parameters parameters;
    private final NeckNetwork network;
    private final List<Manifest.Label> labels;
    private final DeitTeacher teacher;

    NeckStage(Recipe recipe, Path data, Path runFolder) {
        this.recipe = recipe;
        this.photos = Photos.training(recipe, data);
        this.heldOut = Photos.heldOut(recipe, data);
        this.batches = new PhotoBatches(recipe, photos, Photos.randomViews(recipe));
        this.batch = recipe.integer("batch");
        this.seed = recipe.integer("seed", 1);
        this.entry = recipe.integer("neck.entry");
        ScalarType precision = Ops.precision(recipe);
        Frozen frozenCodec = Frozen.load(runFolder, recipe.word("codec"));
        Frozen frozenEncoder = Frozen.load(runFolder, recipe.word("encoder"));
        this.codecParameters = frozenCodec.parameters;
        this.encoderParameters = frozenEncoder.parameters;
        CodecNetwork.Size codecSize = CodecStage.size(frozenCodec.recipe);
        EncoderNetwork.Size size = EncoderStage.size(frozenEncoder.recipe);
        this.codec = new CodecNetwork(codecSize, codecParameters, precision);
        this.exactCodec = new CodecNetwork(codecSize, codecParameters, Ops.F32);
        this.encoder = new EncoderNetwork(size, encoderParameters, precision);
        this.parameters = parameters(recipe, codecSize, size);
        this.network = new NeckNetwork(parameters, recipe.integer("neck.heads"), precision);
        this.teacher = recipe.has("teacher")
                ? new DeitTeacher(Photos.resolve(data, recipe.word("teacher")), size.heads(), precision)
                : null;
        this.labels = EncoderStage.labels(Photos.resolve(data, frozenEncoder.recipe.word("labels")));
    }

    /** A finished stage: its recipe, and its parameters set to their averages. */
    record Frozen(Recipe recipe, Parameters parameters) {
        static Frozen load(Path runFolder, String stage) {
            Path file = Trainer.checkpoint(runFolder, stage);
            Recipe recipe = Checkpoint.recipe(file, stage);
            Parameters parameters = switch (recipe.word("stage")) {
                case "codec" -> CodecStage.parameters(recipe);
                default -> EncoderStage.parameters(recipe);
            };
            Checkpoint.read(file).restore(file, parameters);
            parameters.useAverage(true);
            return new Frozen(recipe, parameters);
        }
    }

    static Parameters parameters(Recipe recipe, CodecNetwork.Size codec, EncoderNetwork.Size encoder) {
        return NeckNetwork.declare(
                        codec.m(), encoder.width(), encoder.tokens(), new Parameters(recipe.integer("seed", 1)))
                .build();
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
        return Stage.cosine(progress, recipe.number("rate.final", 0.01));
    }

    private static Tensor relative(Tensor actual, Tensor wanted) {
        Tensor mean = Ops.meanOver(wanted, true, 0, 1);
        return Ops.mse(actual, wanted).div(Ops.mse(mean, wanted));
    }

    @Override
    public Map<String, Double> step(long step, double progress) {
        SplittableRandom random = new SplittableRandom(seed * 0x632BE59BD9B4E019L + step);
        EncoderNetwork.Size size = encoder.size();
        boolean small = recipe.has("small.image") && progress < recipe.number("small.until", 0.8);
        int count = small ? recipe.integer("small.batch") : batch;
        int side = small ? recipe.integer("small.image") : size.image();
        boolean alone = progress < recipe.number("entry.alone", 0.4);
        Tensor pixels = batches.get(step, count, side).tensor();
        long[] qualities = new long[count];
        for (int i = 0; i < count; i++) {
            qualities[i] = random.nextInt(codec.size().lambdas().size());
        }
        Tensor yHat;
        Tensor[] wanted;
        NoGradGuard guard = new NoGradGuard();
        try {
            yHat = codec.run(pixels, Ops.of(qualities, count), false, false).yHat();
            Tensor normalized = EncoderNetwork.normalize(pixels);
            wanted = alone && teacher != null
                    ? teacher.run(normalized, entry).states()
                    : encoder.states(encoder.embed(normalized), 0, alone ? entry : size.layers());
        } finally {
            guard.close();
        }
        return alone ? entryAlone(yHat, wanted) : throughTheEncoder(yHat, wanted);
    }

    /** First the neck alone learns the state that it stands in for: the encoder's own or, with a teacher, what the encoder is to have. */
    private Map<String, Double> entryAlone(Tensor yHat, Tensor[] wanted) {
        Tensor loss = relative(network.run(yHat), wanted[entry]);
        loss.backward();
        Map<String, Double> terms = new LinkedHashMap<>();
        terms.put("loss", Ops.value(loss));
        terms.put("entry", Ops.value(loss));
        return terms;
    }

    /** Then what the encoder makes of it. */
    private Map<String, Double> throughTheEncoder(Tensor yHat, Tensor[] wanted) {
        EncoderNetwork.Size size = encoder.size();
        Tensor target;
        NoGradGuard guard = new NoGradGuard();
        try {
            target = torch.softmax(encoder.logits(wanted[size.layers()]), 1);
        } finally {
            guard.close();
        }
        Tensor[] states = encoder.states(network.run(yHat), entry);
        int last = states.length - 1;
        Tensor atEntry = relative(states[0], wanted[entry]);
        Tensor tokens = relative(states[last - 1], wanted[size.layers() - 1]);
        Tensor everything = relative(states[last], wanted[size.layers()]);
        Tensor cls = Ops.mse(states[last].select(1, 0), wanted[size.layers()].select(1, 0))
                .div(Ops.mse(
                        Ops.meanOver(wanted[size.layers()].select(1, 0), true, 0), wanted[size.layers()].select(1, 0)));
        Tensor entropy = Ops.crossEntropy(encoder.logits(states[last]), target);
        Tensor loss = Ops.scaled(atEntry, recipe.number("weight.entry", 1))
                .add(Ops.scaled(tokens.add(everything), recipe.number("weight.tokens", 1)))
                .add(Ops.scaled(cls, recipe.number("weight.class", 1)))
                .add(Ops.scaled(entropy, recipe.number("weight.entropy", 0.3)));
        loss.backward();
        Map<String, Double> terms = new LinkedHashMap<>();
        terms.put("loss", Ops.value(loss));
        terms.put("entry", Ops.value(atEntry));
        terms.put("tokens", Ops.value(tokens));
        terms.put("last", Ops.value(everything));
        terms.put("class", Ops.value(cls));
        terms.put("entropy", Ops.value(entropy));
        return terms;
    }

    /** Top-1 on held-out photos through the codec at each quality, with its estimated rate, and from pixels. */
    @Override
    public Map<String, Double> evaluate(boolean thorough) {
        Map<String, Double> figures = new LinkedHashMap<>();
        int side = encoder.size().image();
        int layers = encoder.size().layers();
        int levels = codec.size().lambdas().size();
        double count = Math.max(1, heldOut.count());
        double fromPixels = 0;
        double[] right = new double[levels];
        double[] bits = new double[levels];
        NoGradGuard guard = new NoGradGuard();
        parameters.useAverage(true);
        try {
            for (int i = 0; i < heldOut.count(); i++) {
                int truth = EncoderStage.truth(heldOut.file(i), labels);
                for (int q = 0; q < levels; q++) {
                    try (var _ = new PointerScope()) {
                        Tensor pixels = EncoderStage.centre(heldOut.get(i), side);
                        if (q == 0) {
                            Tensor[] states = encoder.states(encoder.embed(EncoderNetwork.normalize(pixels)), 0);
                            fromPixels += EncoderStage.rank(encoder.logits(states[layers]), truth) == 0 ? 1 : 0;
                        }
                        CodecNetwork.Result result = exactCodec.run(pixels, Ops.of(new long[] {q}, 1), false, false);
                        Tensor[] states = encoder.states(network.run(result.yHat()), entry);
                        right[q] += EncoderStage.rank(encoder.logits(states[states.length - 1]), truth) == 0 ? 1 : 0;
                        bits[q] += Ops.value(result.bits()) / (side * side);
                    }
                }
            }
        } finally {
            parameters.useAverage(false);
            guard.close();
        }
        figures.put("photos", count);
        figures.put("pixels.top1", fromPixels / count);
        for (int q = 0; q < levels; q++) {
            figures.put("bpp." + q, bits[q] / count);
            figures.put("top1." + q, right[q] / count);
        }
        return figures;
    }
}

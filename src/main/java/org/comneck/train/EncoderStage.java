package org.comneck.train;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.comneck.UsageException;
import org.comneck.engine.Photo;
import org.comneck.engine.Resample;
import org.comneck.model.Manifest;
import org.comneck.model.SafetensorsFile;

/**
 * Trains the encoder from random weights. First each half of a block alone learns the teacher's: it gets the teacher's state before and is
 * asked for the one after. Then all run end to end, with the teacher's states as hints and its class probabilities as labels. The label
 * embeddings are learned beside: towards those probabilities, and towards the directions of a text encoder's embeddings. Where
 * {@code degraded} says so, the encoder sees some photos as a codec leaves them and is asked for what the teacher makes of the photo as it is.
 */
final class EncoderStage implements Stage {
    /** Patch tokens of each photo that the label embeddings learn from. */
    private static final int HEAD_PATCHES = 15;

    private final Recipe recipe;
    private final Path data;
    private final Photos photos;
    private final Photos heldOut;
    private final PhotoBatches batches;
    private final int batch;
    private final long seed;
    private final double alone;
    private final double chained;
    private final EncoderNetwork.Size size;
    private final Parameters parameters;
    private final EncoderNetwork network;
    private final DeitTeacher teacher;
    private final CodecNetwork codec; // or null
    private final int degraded;
    private final Tensor texts;
    private final List<Manifest.Label> labels;

    EncoderStage(Recipe recipe, Path data, Path runFolder) {
        this.recipe = recipe;
        this.data = data;
        this.photos = Photos.training(recipe, data);
        this.heldOut = Photos.heldOut(recipe, data);
        this.batches = new PhotoBatches(recipe, photos, Photos.randomViews(recipe));
        this.batch = recipe.integer("batch");
        this.seed = recipe.integer("seed", 1);
        this.alone = recipe.number("blocks.alone", 0.35);
        this.chained = recipe.number("blocks.chained", alone);
        this.size = size(recipe);
        this.parameters = parameters(recipe);
        ScalarType precision = Ops.precision(recipe);
        this.network = new EncoderNetwork(size, parameters, precision);
        this.teacher = new DeitTeacher(Photos.resolve(data, recipe.word("teacher")), size.heads(), precision);
        if (teacher.layers() != size.layers()) {
            throw new UsageException("recipe " + recipe.name() + ": the teacher has " + teacher.layers()
                    + " blocks, the encoder " + size.layers());
        }
        double share = recipe.number("degraded", 0);
        if (share < 0 || share > 1) {
            throw new UsageException("recipe " + recipe.name() + ": degraded is " + share + ", not 0 to 1");
        }
        this.degraded = (int) Math.round(share * batch);
        this.codec = degraded == 0 ? null : ModelParts.codec(recipe.word("degraded.codec"), data, runFolder, precision);
        this.labels = labels(Photos.resolve(data, recipe.word("labels")));
        this.texts = texts(Photos.resolve(data, recipe.word("texts")));
    }

    static EncoderNetwork.Size size(Recipe recipe) {
        return new EncoderNetwork.Size(
                recipe.integer("encoder.width"),
                recipe.integer("encoder.layers"),
                recipe.integer("encoder.heads"),
                recipe.integer("encoder.patch"),
                recipe.integer("encoder.image"),
                recipe.integer("encoder.projection"),
                recipe.integer("encoder.labels"));
    }

    static Parameters parameters(Recipe recipe) {
        EncoderNetwork.Size size = size(recipe);
        Parameters parameters = EncoderNetwork.declare(size, new Parameters(recipe.integer("seed", 1)))
                .rate("labels.embeddings", 3);
        for (int i = 0; i < size.layers(); i++) {
            Transformer.optimizer(recipe, parameters, "visual.transformer.resblocks." + i);
        }
        return parameters.build();
    }

    /** Lines of {@code synset names}. */
    static List<Manifest.Label> labels(Path file) {
        try {
            List<Manifest.Label> labels = new ArrayList<>();
            for (String line : Files.readAllLines(file)) {
                int space = line.indexOf(' ');
                if (space > 0) {
                    labels.add(new Manifest.Label(
                            line.substring(0, space), line.substring(space + 1).trim()));
                }
            }
            return labels;
        } catch (IOException e) {
            throw new UsageException(file + " cannot be read: " + e.getMessage(), e);
        }
    }

    private Tensor texts(Path file) {
        try (SafetensorsFile source = SafetensorsFile.open(file)) {
            for (org.comneck.tensor.Tensor tensor : source.tensors().values()) {
                if (tensor.shape().rank() == 2
                        && tensor.shape().size(0) == size.labels()
                        && tensor.shape().size(1) == size.projection()) {
                    return Ops.unit(Ops.of(tensor.toFloats(), size.labels(), size.projection()));
                }
            }
        }
        throw new UsageException(file + ": has no tensor [" + size.labels() + "," + size.projection() + "]");
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
        if (progress < alone) {
            return Stage.cosine(progress / alone, 0.3);
        }
        if (progress < chained) {
            double part = (progress - alone) / (chained - alone);
            return recipe.number("rate.chained", 0.6) * gently(part) * Stage.cosine(part, 0.3);
        }
        double part = (progress - chained) / (1 - chained);
        return recipe.number("rate.together", 0.1)
                * gently(part)
                * Stage.cosine(part, recipe.number("rate.final", 0.01));
    }

    /** A new phase asks for other gradients than the optimiser remembers. */
    private static double gently(double part) {
        return Math.min(1, 0.05 + part / 0.06);
    }

    @Override
    public Map<String, Double> step(long step, double progress) {
        SplittableRandom random = new SplittableRandom(seed * 0x632BE59BD9B4E019L + step);
        Tensor seen = batches.get(step, batch, size.image()).tensor();
        DeitTeacher.Answer answer;
        NoGradGuard guard = new NoGradGuard();
        try {
            answer = teacher.run(EncoderNetwork.normalize(seen));
            if (degraded > 0) {
                Tensor first = decoded(seen.narrow(0, 0, degraded), random);
                seen = Ops.cat(0, first, seen.narrow(0, degraded, (long) batch - degraded));
            }
        } finally {
            guard.close();
        }
        Tensor pixels = EncoderNetwork.normalize(seen);
        Tensor target = torch.softmax(answer.logits(), 1);
        Tensor head = headLoss(answer, random);
        if (progress < alone) {
            return blocksAlone(pixels, answer, head);
        }
        return progress < chained
                ? blocksChained(pixels, answer, target, head)
                : endToEnd(pixels, answer, target, head);
    }

    /** Photos of 8 bits as the codec leaves them, each coded at a random quality. */
    private Tensor decoded(Tensor pixels, SplittableRandom random) {
        long[] qualities = new long[Math.toIntExact(pixels.size(0))];
        for (int i = 0; i < qualities.length; i++) {
            qualities[i] = random.nextInt(codec.size().lambdas().size());
        }
        return decoded(pixels, qualities);
    }

    private Tensor decoded(Tensor pixels, long... qualities) {
        Tensor decoded = codec.run(pixels, Ops.of(qualities, qualities.length), false, true)
                .xHat();
        return Ops.scaled(Ops.scaled(Ops.clamp01(decoded), 255).round(), 1.0 / 255);
    }

    /** Squared error as a part of what a state that says nothing would have. */
    private static Tensor relative(Tensor actual, Tensor wanted, Tensor nothing) {
        return Ops.mse(actual, wanted).div(Ops.constant(Ops.mse(nothing, wanted)));
    }

    /**
     * What half a block leaves unlearned: of all tokens, and once more of the class token, which is one of many but all that classes are read
     * from. The class token's error is measured by how much photos differ there, or by a part of what the half block adds where they hardly do.
     */
    private static Tensor half(Tensor actual, Tensor wanted, Tensor before) {
        Tensor cls = wanted.select(1, 0);
        Tensor spread =
                Ops.mse(Ops.meanOver(cls, true, 0), cls).add(Ops.scaled(Ops.mse(before.select(1, 0), cls), 0.2));
        Tensor error = Ops.mse(actual.select(1, 0), cls).div(Ops.constant(spread));
        return relative(actual, wanted, before).add(Ops.scaled(error, 0.5));
    }

    private Map<String, Double> blocksAlone(Tensor pixels, DeitTeacher.Answer answer, Tensor head) {
        Tensor[] states = answer.states();
        Map<String, Double> terms = new LinkedHashMap<>();
        // Everything is fitted on its own, the teacher's state before it being its input; attention and MLP too.
        Tensor mean = Ops.meanOver(answer.middles()[0], true, 0, 1);
        Tensor first = relative(network.attention(0, network.embed(pixels)), answer.middles()[0], mean);
        double embedding = Ops.value(first);
        first.backward();
        double attention = 0;
        double mlp = 0;
        for (int i = 0; i < size.layers(); i++) {
            Tensor middle = answer.middles()[i];
            if (i > 0) {
                Tensor loss = half(network.attention(i, states[i]), middle, states[i]);
                attention += Ops.value(loss) / (size.layers() - 1);
                loss.backward();
            }
            Tensor loss = half(network.mlp(i, middle), states[i + 1], middle);
            mlp += Ops.value(loss) / size.layers();
            loss.backward();
        }
        Tensor text = textLoss();
        double weight = recipe.number("weight.head", 0.3);
        Ops.scaled(head, weight).add(text).backward();
        terms.put("loss", embedding + attention + mlp + weight * Ops.value(head) + Ops.value(text));
        terms.put("embedding", embedding);
        terms.put("attention", attention);
        terms.put("mlp", mlp);
        terms.put("head", Ops.value(head));
        terms.put("text", Ops.value(text));
        return terms;
    }

    /**
     * Each half block gets what the student's own blocks made of the photo, and is asked for the teacher's state all the same: it learns to
     * mend what those before it got wrong. No gradient passes from one to the next.
     */
    private Map<String, Double> blocksChained(Tensor pixels, DeitTeacher.Answer answer, Tensor target, Tensor head) {
        double hints = 0;
        double cls = 0;
        Tensor x = network.embed(pixels);
        for (int i = 0; i < size.layers(); i++) {
            for (int part = 0; part < 2; part++) {
                Tensor before = i == 0 && part == 0 ? x : Ops.constant(x);
                Tensor wanted = part == 0 ? answer.middles()[i] : answer.states()[i + 1];
                x = part == 0 ? network.attention(i, before) : network.mlp(i, before);
                Tensor hint = relative(x, wanted, Ops.meanOver(wanted, true, 0, 1));
                Tensor token = wanted.select(1, 0);
                Tensor mean = Ops.meanOver(token, true, 0);
                Tensor spread =
                        Ops.mse(mean, token).add(Ops.scaled(token.square().mean(), 0.05));
                Tensor error = Ops.mse(x.select(1, 0), token).div(spread);
                hints += Ops.value(hint) / (2 * size.layers());
                cls = Ops.value(error);
                // In the first half photos hardly differ in their class token: its error would drown everything else.
                Tensor loss = 2 * i < size.layers() ? hint : hint.add(Ops.scaled(error, 0.2));
                if (i == size.layers() - 1 && part == 1) {
                    Tensor entropy = Ops.crossEntropy(network.logits(x), target);
                    Tensor text = textLoss();
                    loss = loss.add(Ops.scaled(entropy, recipe.number("weight.entropy", 0.3)))
                            .add(Ops.scaled(head, recipe.number("weight.head", 0.3)))
                            .add(text);
                    loss.backward();
                    Map<String, Double> terms = new LinkedHashMap<>();
                    terms.put("loss", Ops.value(loss));
                    terms.put("hints", hints);
                    terms.put("class", cls);
                    terms.put("entropy", Ops.value(entropy));
                    terms.put("head", Ops.value(head));
                    terms.put("text", Ops.value(text));
                    return terms;
                }
                loss.backward();
            }
        }
        throw new IllegalStateException("an encoder without blocks");
    }

    private Map<String, Double> endToEnd(Tensor pixels, DeitTeacher.Answer answer, Tensor target, Tensor head) {
        Tensor[] wanted = answer.states();
        Tensor[] states = network.states(network.embed(pixels), 0);
        Tensor hints = null;
        for (int i = 1; i <= size.layers(); i++) {
            Tensor hint = relative(states[i], wanted[i], Ops.meanOver(wanted[i], true, 0, 1));
            hints = hints == null ? hint : hints.add(hint);
        }
        hints = Ops.scaled(hints, 1.0 / size.layers());
        Tensor last = states[size.layers()].select(1, 0);
        Tensor wantedLast = wanted[size.layers()].select(1, 0);
        Tensor cls = relative(last, wantedLast, Ops.meanOver(wantedLast, true, 0));
        Tensor entropy = Ops.crossEntropy(network.logits(states[size.layers()]), target);
        Tensor text = textLoss();
        Tensor loss = Ops.scaled(hints, recipe.number("weight.hints", 2))
                .add(Ops.scaled(cls, recipe.number("weight.class", 2)))
                .add(Ops.scaled(entropy, recipe.number("weight.entropy", 0.3)))
                .add(Ops.scaled(head, recipe.number("weight.head", 0.3)))
                .add(text);
        loss.backward();
        Map<String, Double> terms = new LinkedHashMap<>();
        terms.put("loss", Ops.value(loss));
        terms.put("hints", Ops.value(hints));
        terms.put("class", Ops.value(cls));
        terms.put("entropy", Ops.value(entropy));
        terms.put("head", Ops.value(head));
        terms.put("text", Ops.value(text));
        return terms;
    }

    /**
     * Cross-entropy of norm, projection and label embeddings against the teacher's head, on the teacher's own tokens: all class tokens and
     * some patches. It teaches classes that no photo shows, at the price of one linear layer.
     */
    private Tensor headLoss(DeitTeacher.Answer answer, SplittableRandom random) {
        Tensor last = answer.states()[size.layers()];
        long tokens = last.size(1);
        int photosSeen = (int) last.size(0);
        long[] rows = new long[(1 + HEAD_PATCHES) * photosSeen];
        for (int i = 0; i < photosSeen; i++) {
            for (int k = 0; k <= HEAD_PATCHES; k++) {
                long token = k == 0 ? 0 : random.nextLong(1, tokens);
                rows[i * (1 + HEAD_PATCHES) + k] = i * tokens + token;
            }
        }
        Tensor chosen = last.reshape(photosSeen * tokens, -1).index_select(0, Ops.of(rows, rows.length));
        Tensor target = torch.softmax(teacher.head(chosen), 1);
        return Ops.crossEntropy(network.tokenLogits(chosen), target);
    }

    /** One minus the mean cosine of learned and text embeddings. */
    private Tensor textLoss() {
        Tensor cosine =
                Ops.sumOver(Ops.unit(parameters.get("labels.embeddings")).mul(texts), false, 1);
        return Ops.plus(cosine.mean().neg(), 1);
    }

    /**
     * Top-1 on held-out photos, from pixels, of the encoder and of the teacher, and, with a codec, of the encoder from photos coded at the
     * middle quality. Thoroughly: also how often the nearest centroid of a folder of
     * class folders names the class of photos in another, by the projected class token and by the teacher's class token behind its last norm.
     */
    @Override
    public Map<String, Double> evaluate(boolean thorough) {
        int right = 0;
        int teacherRight = 0;
        int five = 0;
        int decodedRight = 0;
        NoGradGuard guard = new NoGradGuard();
        parameters.useAverage(true);
        try {
            for (int i = 0; i < heldOut.count(); i++) {
                try (var _ = new PointerScope()) {
                    Tensor photo = centre(heldOut.get(i), size.image());
                    Tensor pixels = EncoderNetwork.normalize(photo);
                    Tensor[] states = network.states(network.embed(pixels), 0);
                    int truth = truth(heldOut.file(i), labels);
                    int rank = rank(network.logits(states[size.layers()]), truth);
                    right += rank == 0 ? 1 : 0;
                    five += rank < 5 ? 1 : 0;
                    teacherRight += rank(teacher.run(pixels).logits(), truth) == 0 ? 1 : 0;
                    if (codec != null) {
                        int middle = codec.size().lambdas().size() / 2;
                        Tensor decoded = EncoderNetwork.normalize(decoded(photo, middle));
                        Tensor last = network.states(network.embed(decoded), 0)[size.layers()];
                        decodedRight += rank(network.logits(last), truth) == 0 ? 1 : 0;
                    }
                }
            }
        } finally {
            parameters.useAverage(false);
            guard.close();
        }
        double count = Math.max(1, heldOut.count());
        Map<String, Double> figures = new LinkedHashMap<>();
        figures.put("photos", count);
        figures.put("top1", right / count);
        figures.put("top5", five / count);
        figures.put("teacher.top1", teacherRight / count);
        if (codec != null) {
            figures.put("decoded.top1", decodedRight / count);
        }
        if (thorough && recipe.has("evaluate.centroids")) {
            centroids(figures);
        }
        return figures;
    }

    private void centroids(Map<String, Double> figures) {
        List<String> folders = recipe.words("evaluate.centroids");
        NearestCentroid[] classes = {new NearestCentroid(), new NearestCentroid()};
        Photos examples = Photos.of(Photos.list(Photos.resolve(data, folders.getFirst())));
        for (int i = 0; i < examples.count(); i++) {
            String label = folder(examples.file(i));
            float[][] features = features(examples, i);
            classes[0].add(label, features[0]);
            classes[1].add(label, features[1]);
        }
        Photos asked = Photos.of(Photos.list(Photos.resolve(data, folders.get(1))));
        double[] right = new double[2];
        for (int i = 0; i < asked.count(); i++) {
            float[][] features = features(asked, i);
            for (int k = 0; k < 2; k++) {
                right[k] += classes[k].nearest(features[k]).equals(folder(asked.file(i))) ? 1 : 0;
            }
        }
        figures.put("centroid.photos", (double) asked.count());
        figures.put("centroid", right[0] / asked.count());
        figures.put("teacher.centroid", right[1] / asked.count());
    }

    private static String folder(Path file) {
        return file.getParent().getFileName().toString();
    }

    /** Projected class token of the encoder, class token of the teacher. */
    private float[][] features(Photos from, int photo) {
        NoGradGuard guard = new NoGradGuard();
        parameters.useAverage(true);
        try (var _ = new PointerScope()) {
            Tensor pixels = EncoderNetwork.normalize(centre(from.get(photo), size.image()));
            Tensor last = network.states(network.embed(pixels), 0)[size.layers()];
            DeitTeacher.Answer answer = teacher.run(pixels);
            return new float[][] {
                Ops.floats(Ops.unit(network.project(last))),
                Ops.floats(Ops.unit(teacher.classToken(answer.states()[size.layers()])))
            };
        } finally {
            parameters.useAverage(false);
            guard.close();
        }
    }

    /** What the engine shows an encoder of a photo, (1,3,side,side) in [0,1]. */
    static Tensor centre(Photo photo, int side) {
        return Photos.pixels(photo.prepare(side, Resample.BICUBIC));
    }

    /** How many classes have a higher logit than the true one. */
    static int rank(Tensor logits, int truth) {
        float[] values = Ops.floats(logits);
        int higher = 0;
        for (float value : values) {
            higher += truth >= 0 && value > values[truth] ? 1 : 0;
        }
        return truth < 0 ? values.length : higher;
    }

    /** Row of the label whose synset begins the file's name, or -1. */
    static int truth(Path file, List<Manifest.Label> labels) {
        String name = file.getFileName().toString();
        for (int i = 0; i < labels.size(); i++) {
            if (name.startsWith(labels.get(i).synset())) {
                return i;
            }
        }
        return -1;
    }
}

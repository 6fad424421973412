package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.comneck.UsageException;
import org.comneck.backend.CodingTables;
import org.comneck.entropy.CodingTablesBuilder;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.Progress;
import org.comneck.model.SeededModel;
import org.comneck.model.TensorSource;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The three settings, from a seeded model file: runs of a few seconds that must lower every term. */
class SurrogateStageTest {
    private static final String MODEL = "seeded.safetensors";
    private static final String START = "model = " + MODEL + "\ntexts = texts.safetensors\nlabels = labels.txt\n";

    @TempDir
    Path folder;

    private SmallRun small;

    @BeforeEach
    void model() throws IOException {
        Ops.start(1);
        small = new SmallRun(Files.createDirectories(folder.resolve("data")));
        SeededModel.named(SeededModel.TINY).write(folder.resolve(MODEL), Progress.NONE);
    }

    private List<JsonNode> train(Recipe recipe) throws IOException {
        Trainer.run(recipe, small.data(), folder, false, Trainer.Listener.NONE);
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(folder.resolve(recipe.name()).resolve("metrics.jsonl"))) {
            lines.add(new ObjectMapper().readTree(line));
        }
        return lines;
    }

    private static void falls(List<JsonNode> lines, String... terms) {
        List<JsonNode> steps = lines.stream()
                .filter(line -> line.get("kind").asText().equals("step"))
                .toList();
        for (String term : terms) {
            // What the log shows is smoothed over some thirty steps; the auxiliary loss begins far away and moves
            // evenly.
            double factor = term.equals("auxiliary") ? 0.995 : 0.98;
            double before = steps.getFirst().get(term).asDouble();
            double after = steps.getLast().get(term).asDouble();
            assertTrue(after < factor * before, term + " went from " + before + " to " + after);
        }
    }

    private Map<String, float[]> exported(Recipe recipe) {
        Path file = folder.resolve(recipe.word("export"));
        TrainedForward.agrees(ModelFile.open(file));
        Map<String, float[]> values = new LinkedHashMap<>();
        try (ModelFile model = ModelFile.open(file)) {
            model.names().forEach(name -> {
                if (model.tensor(name).type().isFloat()) {
                    values.put(name, model.tensor(name).toFloats());
                }
            });
            assertEquals(recipe.name(), model.manifest().name());
        }
        return values;
    }

    private Map<String, float[]> before() {
        Map<String, float[]> values = new LinkedHashMap<>();
        SeededModel.named(SeededModel.TINY).tensors().forEach((name, source) -> {
            if (source.type().isFloat()) {
                values.put(name, source.toTensor().toFloats());
            }
        });
        return values;
    }

    @Test
    void d1TrainsTheNeckAlone() throws IOException {
        Recipe recipe = SmallRun.surrogate("d1", 40, START + """
                setting = d1
                export = d1.safetensors
                rate = 1e-2
                schedule = until 1: entry + tokens + last + class + class.relative + 0.1 soft + 0.1 entropy
                """);
        List<JsonNode> lines = train(recipe);
        falls(lines, "loss", "entry", "tokens", "last", "class", "class.relative", "soft", "entropy");
        JsonNode figures = lines.getLast();
        assertEquals("evaluation", figures.get("kind").asText());
        for (String name : List.of("bpp.0", "top1.1", "top5.0", "class.cosine.1", "class.error.0", "tokens.error.1")) {
            assertTrue(figures.has(name), name);
        }
        assertTrue(figures.get("bpp.1").asDouble() > figures.get("bpp.0").asDouble());
        assertTrue(Math.abs(figures.get("class.cosine.0").asDouble()) <= 1);
        Map<String, float[]> after = exported(recipe);
        before().forEach((name, values) -> {
            boolean same = java.util.Arrays.equals(values, after.get(name));
            assertEquals(!NeckNetwork.owns(name), same, name);
        });
    }

    @Test
    void aNeckThatStartsAsTheEncodersOwnBeginsNearer() throws IOException {
        String fresh = START + "neck = fresh\nneck.entry = 1\nneck.heads = 2\nschedule = until 1: entry\n";
        double random = train(SmallRun.surrogate("random", 1, fresh))
                .getFirst()
                .get("entry")
                .asDouble();
        double own = train(SmallRun.surrogate("own", 1, fresh + "neck.start = encoder\n"))
                .getFirst()
                .get("entry")
                .asDouble();
        assertTrue(own < 0.7 * random, "entry: " + own + ", from random values " + random);
        double deeper = train(SmallRun.surrogate("deeper", 1, fresh + "neck.start = encoder\nneck.blocks = 3\n"))
                .getFirst()
                .get("entry")
                .asDouble();
        assertEquals(own, deeper, 1e-6 * own, "two blocks that add nothing");
        assertThrows(UsageException.class, () -> train(SmallRun.surrogate("wrong", 1, fresh + "neck.start = codec\n")));
    }

    @Test
    void d2LowersRateAndErrorsOfPictureAndTokens() throws IOException {
        Recipe recipe = SmallRun.surrogate("d2", 40, START + """
                setting = d2
                export = d2.safetensors
                codec.lambdas = 0.02 0.08
                weight.surrogate = 200
                weight.reconstruction = 0.02
                batch = 4
                rate = 1e-2
                rate.codec = 0.05
                schedule = until 1: 10 tokens + 3 class.relative + 0.1 entropy
                """);
        falls(train(recipe), "loss", "reconstruction", "tokens", "class.relative", "entropy", "auxiliary");
        Map<String, float[]> after = exported(recipe);
        assertFalse(java.util.Arrays.equals(before().get("g_s.14.weight"), after.get("g_s.14.weight")));
        assertArrayEquals(before().get("visual.proj"), after.get("visual.proj"));
    }

    @Test
    void d3LowersRateAndErrorOfTokens() throws IOException {
        Recipe recipe = SmallRun.surrogate("d3", 40, START + """
                setting = d3
                export = d3.safetensors
                codec.lambdas = 0.002 0.008
                weight.surrogate = 30
                batch = 4
                rate = 1e-2
                rate.codec = 0.05
                recompute = true
                schedule = until 1: 10 tokens + 3 class.relative + 0.1 soft
                """);
        falls(train(recipe), "loss", "bpp", "tokens", "class.relative", "soft", "auxiliary");
        Map<String, float[]> after = exported(recipe);
        assertFalse(java.util.Arrays.equals(before().get("h_s.0.weight"), after.get("h_s.0.weight")));
    }

    @Test
    void postTrainsAUNetBehindTheDecoder() throws IOException {
        Recipe recipe = SmallRun.surrogate("post", 40, START + """
                setting = post
                export = post.safetensors
                post.widths = 6 8 10
                rate = 1e-2
                qualities = 1
                schedule = until 1: entry + tokens + last + class.relative + 0.1 soft
                """);
        List<JsonNode> lines = train(recipe);
        falls(lines, "loss", "entry", "tokens", "last", "class.relative");
        assertTrue(lines.getLast().has("tokens.cosine.0"));
        Map<String, float[]> after = exported(recipe);
        before().forEach((name, values) -> assertArrayEquals(values, after.get(name), name));
        assertTrue(after.keySet().stream().filter(PostNetwork::owns).count() == 2 * (3 * 2 + 2 * 3 + 1));
    }

    @Test
    void ablationsRunOnceAndMakeATable() {
        List<String> notes = new ArrayList<>();
        Trainer.Listener listener = new Trainer.Listener() {
            @Override
            public void note(String text) {
                notes.add(text);
            }
        };
        Recipe base = SmallRun.surrogate("base", 99, START + """
                neck = fresh
                neck.entry = 1
                neck.heads = 2
                schedule = until 1: tokens + class.relative + 0.1 entropy
                """);
        List<String> settings = List.of("budget.steps=2", "neck.heads=4");
        Ablations ablations = new Ablations(base, settings, List.of("depth"), folder);
        ablations.run(small.data(), listener);
        List<String> rows = ablations.table().lines().toList();
        assertEquals(2 + 4 + 1, rows.size(), rows.toString()); // and an empty line
        assertTrue(rows.getFirst().startsWith("| depth | minutes | steps | photos | class token, quality 0 |"));
        assertTrue(rows.get(5).matches("\\| neck.blocks = 3 \\| 0\\.\\d \\| 2 \\| 3 \\|.*"), rows.get(5));
        ablations.run(small.data(), listener);
        assertEquals(
                4,
                notes.stream()
                        .filter(note -> note.contains("is finished already"))
                        .count());
        assertThrows(UsageException.class, () -> new Ablations(base, settings, List.of("depths"), folder));
        assertEquals("", new Ablations(base, settings, List.of("loss"), folder).table());
        new Ablations(Recipe.load("ablation"), List.of(), List.of("all"), folder); // every recipe is in order
    }

    @Test
    void stagesOfARunFolderGoOnInAJointOne() throws IOException {
        Trainer.run(SmallRun.codec(2, "0.01 0.04", ""), small.data(), folder, false, Trainer.Listener.NONE);
        Trainer.run(SmallRun.encoder(2, ""), small.data(), folder, false, Trainer.Listener.NONE);
        Trainer.run(SmallRun.neck(2), small.data(), folder, false, Trainer.Listener.NONE);
        Recipe recipe = SmallRun.surrogate("joint", 2, """
                setting = d2
                codec = small-codec
                encoder = small-encoder
                neck = small-neck
                export = joint.safetensors
                schedule = until 1: tokens
                """);
        train(recipe);
        exported(recipe);
    }

    @Test
    void anEncoderOfTimmsTypeComputesWhatTheEngineComputes() {
        SeededModel seeded = SeededModel.named(SeededModel.TINY);
        TrainedForward.agrees(ModelFile.inMemory(seeded.manifest(), seeded.tensors()));
        Map<String, TensorSource> tensors = new LinkedHashMap<>();
        seeded.tensors().forEach((name, source) -> {
            if (!name.startsWith("visual.ln_pre")) {
                tensors.put(timmName(name), source);
            }
        });
        tensors.put("visual.trunk.patch_embed.proj.bias", seeded.tensors().get("visual.ln_pre.bias"));
        Manifest m = seeded.manifest();
        Manifest.Encoder e = m.encoder();
        Manifest timm = new Manifest(
                "timm",
                m.profile(),
                m.codec(),
                m.preprocessing(),
                m.neck(),
                new Manifest.Encoder(
                        "timm",
                        e.width(),
                        e.layers(),
                        e.heads(),
                        e.patch(),
                        e.image(),
                        "gelu",
                        1e-6,
                        List.of(0.485, 0.456, 0.406),
                        List.of(0.229, 0.224, 0.225),
                        e.projection()),
                m.qualities(),
                m.labels(),
                m.tokens());
        TrainedForward.agrees(ModelFile.inMemory(timm, tensors));
    }

    private static String timmName(String name) {
        return switch (name) {
            case "visual.class_embedding" -> "visual.trunk.cls_token";
            case "visual.positional_embedding" -> "visual.trunk.pos_embed";
            default ->
                name.replace("visual.conv1.", "visual.trunk.patch_embed.proj.")
                        .replace("visual.ln_post.", "visual.trunk.norm.")
                        .replace("visual.transformer.resblocks.", "visual.trunk.blocks.")
                        .replaceAll("^(visual.trunk.*)ln_([12])", "$1norm$2")
                        .replaceAll("^(visual.trunk.*)attn.in_proj_", "$1attn.qkv.")
                        .replaceAll("^(visual.trunk.*)attn.out_proj", "$1attn.proj")
                        .replaceAll("^(visual.trunk.*)mlp.c_fc", "$1mlp.fc1")
                        .replaceAll("^(visual.trunk.*)mlp.c_proj", "$1mlp.fc2");
        };
    }

    /** Symbols drawn from the tables cost what the tables say, within a hundredth. */
    @Test
    void aPriorIsFittedToTheTablesOfAModelFile() {
        NoGradGuard guard = new NoGradGuard();
        try (var _ = new PointerScope();
                ModelParts parts = ModelParts.of(ModelFile.open(folder.resolve(MODEL)))) {
            CodecNetwork.Size size = parts.codecSize(Recipe.parse("none", ""));
            Parameters w = parts.frozenCodec(size);
            CodingTables tables = CodingTablesBuilder.fromTensors("entropy.factorized", parts.tensors()::get);
            float[] medians = parts.tensors().get("entropy.factorized.medians").toFloats();
            double ours = 0;
            double theirs = 0;
            for (int c = 0; c < tables.tables(); c++) {
                for (int k = 0; k < tables.count()[c]; k++) {
                    double p = tables.frequency()[c][k] / 4096.0;
                    int width = 1 << tables.shift()[c];
                    float[] edges = new float[2 * size.n()];
                    java.util.Arrays.fill(edges, medians[c] - 0.5f + (tables.first()[c] + k) * width);
                    edges[2 * c + 1] += width;
                    Tensor probability = CodecNetwork.binProbabilities(w, Ops.of(edges, size.n(), 1, 2));
                    ours -= p * Math.log(Ops.floats(probability)[c]);
                    theirs -= p * Math.log(p);
                }
            }
            assertEquals(theirs, ours, 0.01 * theirs);
        } finally {
            guard.close();
        }
    }

    @Test
    void whatIsMissingIsNamed() {
        assertThrows(UsageException.class, () -> train(SmallRun.surrogate("x", 1, "model = none.safetensors")));
        assertThrows(UsageException.class, () -> train(SmallRun.surrogate("x", 1, START + "setting = d4")));
        assertThrows(UsageException.class, () -> train(SmallRun.surrogate("x", 1, START + "tokens.layer = -9\n")));
        assertThrows(UsageException.class, () -> train(SmallRun.surrogate("x", 1, START + "qualities = 2\n")));
        assertThrows(UsageException.class, () -> train(SmallRun.surrogate("x", 1, START + "setting = post\n")));
    }
}

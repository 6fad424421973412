package org.comneck.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ImporterTest {
    private static final Manifest TINY = SeededModel.named(SeededModel.TINY).manifest();

    @TempDir
    Path folder;

    // The tiny networks as somebody's training would save them.

    private static Map<String, TensorSource> codec() {
        Declarations declarations = new Declarations();
        declarations.elic(TINY.codec(), new int[] {24, 16, 32, 24});
        return declarations.tensors;
    }

    private static Map<String, TensorSource> neck() {
        Declarations declarations = new Declarations();
        declarations.neck(32, 32, 17, 1);
        return declarations.tensors;
    }

    private static Map<String, TensorSource> clip() {
        Declarations declarations = new Declarations();
        declarations.clip(32, 3, 17, 16, 24);
        return declarations.tensors;
    }

    private static Map<String, TensorSource> renamed(Map<String, TensorSource> tensors, UnaryOperator<String> rename) {
        Map<String, TensorSource> result = new LinkedHashMap<>();
        tensors.forEach((name, tensor) -> result.put(rename.apply(name), tensor));
        return result;
    }

    private static TensorSource part(TensorSource source, int index, int of) {
        Tensor tensor = source.toTensor();
        long rows = tensor.shape().size(0) / of;
        long[] sizes = tensor.shape().toArray();
        sizes[0] = rows;
        long bytes = tensor.data().byteSize() / of;
        return TensorSource.of(
                new Tensor(tensor.type(), Shape.of(sizes), tensor.data().asSlice(index * bytes, bytes)));
    }

    /** The names of Hugging Face's CLIPVisionModelWithProjection. */
    private static Map<String, TensorSource> huggingFace(String prefix) {
        Map<String, TensorSource> result = new LinkedHashMap<>();
        clip().forEach((name, tensor) -> {
            String inner = name.substring("visual.".length())
                    .replace("transformer.resblocks", "encoder.layers")
                    .replace("attn.out_proj", "self_attn.out_proj")
                    .replace("ln_1", "layer_norm1")
                    .replace("ln_2", "layer_norm2")
                    .replace("mlp.c_fc", "mlp.fc1")
                    .replace("mlp.c_proj", "mlp.fc2")
                    .replace("ln_pre", "pre_layrnorm")
                    .replace("ln_post", "post_layernorm")
                    .replace("conv1", "embeddings.patch_embedding")
                    .replace("class_embedding", "embeddings.class_embedding")
                    .replace("positional_embedding", "embeddings.position_embedding.weight");
            String vision = prefix + "vision_model.";
            if (inner.contains("in_proj_")) {
                for (int i = 0; i < 3; i++) {
                    String one = inner.replace("attn.in_proj_", "self_attn." + "qkv".charAt(i) + "_proj.");
                    result.put(vision + one, part(tensor, i, 3));
                }
            } else if (inner.equals("proj")) {
                result.put(prefix + "visual_projection.weight", Reshaped.transpose(tensor));
            } else {
                result.put(vision + inner, tensor);
            }
        });
        result.put(vision(prefix) + "embeddings.position_ids", TensorSource.of(Tensor.of(new int[17], 1, 17)));
        return result;
    }

    private static String vision(String prefix) {
        return prefix + "vision_model.";
    }

    private Path safetensors(String name, Map<String, TensorSource> tensors) {
        Path file = folder.resolve(name);
        ModelWriter writer = ModelWriter.plain();
        tensors.forEach(writer::add);
        writer.write(file);
        return file;
    }

    private static void assertTensors(Map<String, TensorSource> expected, ModelFile actual) {
        expected.forEach((name, tensor) -> {
            assertEquals(tensor.shape(), actual.tensor(name).shape(), name);
            assertArrayEquals(tensor.toTensor().toFloats(), actual.tensor(name).toFloats(), name);
        });
    }

    private List<String> filesLeft() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }

    @Test
    void publishedCheckpointAndOpenAiClip() throws IOException {
        Map<String, TensorSource> state = new LinkedHashMap<>(codec());
        state.put("context_prediction.0.mask", state.get("context_prediction.0.weight"));
        state.put("gaussian_conditional._offset", TensorSource.of(Tensor.of(new float[64], 64)));
        Map<String, Object> published = new LinkedHashMap<>();
        published.put("epoch", 59);
        published.put("state_dict", renamed(state, name -> "module." + name));
        published.put("adapter", renamed(neck(), name -> "module." + name));
        published.put(
                "optimizer",
                Map.of(
                        "state",
                        Map.of(0, Map.of("exp_avg", neck().get("trans_latent_dim.weight"))),
                        "param_groups",
                        "-"));
        Path codec = folder.resolve("d1_1.pth.tar");
        TorchZip.write(codec, published);
        Map<String, TensorSource> whole = new LinkedHashMap<>(clip());
        whole.put("transformer.resblocks.0.ln_1.weight", whole.get("visual.ln_pre.weight"));
        whole.put("logit_scale", TensorSource.of(Tensor.of(new float[] {4.6f})));
        Path encoder = folder.resolve("ViT-tiny.pt");
        TorchZip.write(encoder, whole);
        Path target = folder.resolve("model.safetensors");
        List<Long> done = new ArrayList<>();
        long[] last = {0};
        Importer.Result result = new Importer()
                .codec(codec)
                .encoder(encoder)
                .heads(2)
                .entry(1)
                .write(target, (what, bytes, total) -> {
                    assertTrue(bytes >= last[0] && bytes <= total, what);
                    last[0] = bytes;
                    done.add(total);
                });
        assertEquals(last[0], done.getLast());
        assertEquals(1, result.notes().size(), result.notes().toString());
        assertEquals("d1_1+ViT-tiny", result.manifest().name());
        assertEquals(TINY.codec(), result.manifest().codec());
        assertEquals(TINY.neck(), result.manifest().neck());
        assertEquals(TINY.encoder(), result.manifest().encoder());
        assertEquals(
                new Manifest.Preprocessing(64, "bicubic"), result.manifest().preprocessing());
        assertEquals(List.of(new Manifest.Quality("d1_1", 0)), result.manifest().qualities());
        Map<String, TensorSource> expected =
                new LinkedHashMap<>(SeededModel.named(SeededModel.TINY).tensors());
        expected.keySet().removeIf(name -> name.startsWith("gain.") || name.startsWith("labels."));
        try (ModelFile model = ModelFile.open(target)) {
            assertEquals(new TreeSet<>(expected.keySet()), new TreeSet<>(model.names()));
            assertTensors(expected, model);
            assertArrayEquals(result.identity(), model.computeIdentity());
            assertEquals("d1_1.pth.tar", model.metadata().get("comneck.source.codec"));
            assertEquals(64, model.metadata().get("comneck.source.codec.sha256").length());
            // 64-byte alignment of whatever has a size that allows it.
            for (String name : model.names()) {
                Tensor tensor = model.tensor(name);
                if (tensor.data().byteSize() % 64 == 0) {
                    assertEquals(0, tensor.data().address() % 64, name);
                }
            }
        }
        assertEquals(List.of("ViT-tiny.pt", "d1_1.pth.tar", "model.safetensors"), filesLeft());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "model."})
    void huggingFaceNames(String prefix) {
        Path target = folder.resolve("model.safetensors");
        Importer.Result result = new Importer()
                .encoder(safetensors("clip.safetensors", huggingFace(prefix)))
                .heads(2)
                .write(target, Progress.NONE);
        try (ModelFile model = ModelFile.open(target)) {
            assertEquals(clip().keySet(), new LinkedHashMap<>(clip()).keySet());
            assertTensors(clip(), model);
            assertEquals(clip().size(), model.names().size());
        }
        assertEquals(TINY.encoder(), result.manifest().encoder());
        assertEquals(1, result.notes().size());
        assertTrue(result.notes().getFirst().contains("quick_gelu"));
    }

    /** A folder as on the hub: shards, an index, a config; the language model is left out and the projector taken along. */
    @Test
    void llavaFolderWithShards() throws IOException {
        Map<String, TensorSource> tower = huggingFace("model.vision_tower.");
        tower.remove("model.vision_tower.visual_projection.weight");
        Declarations projector = new Declarations();
        projector.linear("model.multi_modal_projector.linear_1", 40, 32);
        projector.linear("model.multi_modal_projector.linear_2", 40, 40);
        Map<String, TensorSource> second = new LinkedHashMap<>(projector.tensors);
        second.put("language_model.model.norm.weight", TensorSource.of(Tensor.of(new float[8], 8)));
        StringBuilder map = new StringBuilder();
        tower.keySet().forEach(name -> map.append("\"" + name + "\":\"a-1.safetensors\","));
        second.keySet().forEach(name -> map.append("\"" + name + "\":\"a-2.safetensors\","));
        safetensors("a-1.safetensors", tower);
        safetensors("a-2.safetensors", second);
        Files.writeString(
                folder.resolve("model.safetensors.index.json"),
                "{\"weight_map\":{" + map.substring(0, map.length() - 1) + "}}");
        Files.writeString(
                folder.resolve("config.json"),
                "{\"vision_config\":{\"hidden_act\":\"gelu\",\"layer_norm_eps\":1e-6,\"num_attention_heads\":4}}");
        Files.writeString(folder.resolve("preprocessor_config.json"), "{\"image_mean\":[0.5,0.25,0.125]}");
        Path target = folder.resolve("model.out");
        Manifest.Encoder encoder = new Importer()
                .encoder(folder)
                .write(target, Progress.NONE)
                .manifest()
                .encoder();
        assertEquals(4, encoder.heads());
        assertEquals("gelu", encoder.activation());
        assertEquals(1e-6, encoder.epsilon());
        assertEquals(List.of(0.5, 0.25, 0.125), encoder.mean());
        assertEquals(0, encoder.projection());
        try (ModelFile model = ModelFile.open(target)) {
            Map<String, TensorSource> expected = new LinkedHashMap<>(clip());
            expected.remove("visual.proj");
            expected.putAll(renamed(projector.tensors, name -> name.substring("model.".length())));
            assertTensors(expected, model);
            assertEquals(expected.size(), model.names().size());
        }
    }

    @Test
    void originalLlavaProjector() {
        Declarations projector = new Declarations();
        projector.linear("model.mm_projector.0", 40, 32);
        projector.linear("model.mm_projector.2", 48, 40);
        Path file = folder.resolve("mm_projector.bin");
        TorchZip.write(file, projector.tensors);
        Path target = folder.resolve("model.safetensors");
        new Importer()
                .encoder(safetensors("clip.safetensors", clip()))
                .projector(file)
                .write(target, Progress.NONE);
        try (ModelFile model = ModelFile.open(target)) {
            assertEquals(
                    Shape.of(48, 40),
                    model.tensor("multi_modal_projector.linear_2.weight").shape());
            assertEquals(
                    Shape.of(40),
                    model.tensor("multi_modal_projector.linear_1.bias").shape());
        }
    }

    @Test
    void openClipWithTimmTrunk() {
        Declarations declarations = new Declarations();
        declarations.timm(64, 2, 5, 8, true, 0, 24);
        Map<String, TensorSource> tensors = new LinkedHashMap<>(declarations.tensors);
        tensors.put("visual.head.proj.weight", Reshaped.transpose(tensors.remove("visual.proj")));
        tensors.put("text.ln_final.weight", TensorSource.of(Tensor.of(new float[8], 8)));
        Path target = folder.resolve("model.safetensors");
        Manifest.Encoder encoder = new Importer()
                .encoder(safetensors("open_clip.safetensors", tensors))
                .write(target, Progress.NONE)
                .manifest()
                .encoder();
        assertEquals("timm", encoder.type());
        assertEquals(16, encoder.image());
        assertEquals(24, encoder.projection());
        try (ModelFile model = ModelFile.open(target)) {
            assertTensors(declarations.tensors, model);
        }
    }

    @Test
    void deitFromTheSharedFolder() {
        Path deit = SharedFolder.path("data/vision/deit-tiny-patch16-224.safetensors");
        Path classes = SharedFolder.path("data/vision/imagenet-classes.txt");
        Path target = folder.resolve("deit.safetensors");
        Importer.Result result =
                new Importer().encoder(deit).labels(null, classes).write(target, Progress.NONE);
        assertEquals(
                new Manifest.Encoder(
                        "timm",
                        192,
                        12,
                        3,
                        16,
                        224,
                        "gelu",
                        1e-6,
                        EncoderKeys.IMAGENET_MEAN,
                        EncoderKeys.IMAGENET_STD,
                        0),
                result.manifest().encoder());
        assertEquals(
                new Manifest.Label("n01440764", "tench, Tinca tinca"),
                result.manifest().labels().getFirst());
        try (ModelFile model = ModelFile.open(target)) {
            assertEquals(
                    ElementType.F16,
                    model.tensor("visual.trunk.head.weight", 1000, 192).type());
            assertEquals(224, model.manifest().preprocessing().size());
        }
    }

    @Test
    void labelsFromTextEmbeddings() throws IOException {
        Path text =
                safetensors("text.safetensors", Map.of("text", SeededWeights.tensor("text", 0, Shape.of(3, 24), 0, 1)));
        Path classes = folder.resolve("classes.txt");
        Files.writeString(classes, "n1 cat\nn2 dog, hound\n\nn3 cow\n");
        Path target = folder.resolve("model.safetensors");
        Path encoder = safetensors("clip.safetensors", clip());
        Importer.Result result =
                new Importer().encoder(encoder).labels(text, classes).write(target, Progress.NONE);
        assertEquals(
                new Manifest.Label("n2", "dog, hound"),
                result.manifest().labels().get(1));
        try (ModelFile model = ModelFile.open(target)) {
            assertEquals(
                    ElementType.F16, model.tensor("labels.embeddings", 3, 24).type());
        }
        Files.writeString(classes, "n1 cat\n");
        String message = assertThrows(
                        UsageException.class,
                        () -> new Importer()
                                .encoder(encoder)
                                .labels(text, classes)
                                .write(target, Progress.NONE))
                .getMessage();
        assertTrue(message.contains("1 classes") && message.contains("3"), message);
    }

    /** A model file of ours is as good a source as any checkpoint: its qualities and gains come along. */
    @Test
    void ownModelFileAsSource() {
        Path own = folder.resolve("tiny.safetensors");
        SeededModel tiny = SeededModel.named(SeededModel.TINY);
        tiny.write(own, Progress.NONE);
        Path target = folder.resolve("again.safetensors");
        Importer.Result result = new Importer().codec(own).encoder(own).write(target, Progress.NONE);
        assertEquals(tiny.manifest().qualities(), result.manifest().qualities());
        assertEquals(tiny.manifest().encoder(), result.manifest().encoder());
        assertEquals(tiny.manifest().neck(), result.manifest().neck());
        try (ModelFile before = ModelFile.open(own);
                ModelFile after = ModelFile.open(target)) {
            assertArrayEquals(before.identity(), after.identity());
        }
    }

    @Test
    void missingAndMisshapenTensorsAreNamedWithBothShapes() throws IOException {
        Map<String, TensorSource> broken = new LinkedHashMap<>(codec());
        broken.remove("h_s.2.bias");
        broken.put("g_s.5.weight", codec().get("g_s.14.weight"));
        broken.put("h_a.0.weight", TensorSource.of(Tensor.of(new int[16 * 32 * 9], 16, 32, 3, 3)));
        Path file = safetensors("broken.safetensors", broken);
        Path target = folder.resolve("model.safetensors");
        DamagedDataException e = assertThrows(
                DamagedDataException.class, () -> new Importer().codec(file).write(target, Progress.NONE));
        String message = e.getMessage();
        assertTrue(message.contains(file.toString()), message);
        assertTrue(message.contains("'h_s.2.bias' is missing, expected [24]"), message);
        assertTrue(message.contains("'g_s.5.weight' has shape [16,3,5,5] instead of [16,16,5,5]"), message);
        assertTrue(message.contains("'h_a.0.weight' holds I32"), message);
        assertFalse(message.contains("\n"), message);
        assertEquals(List.of("broken.safetensors"), filesLeft());
    }

    @Test
    void tensorsThatWouldChangeTheResultAreRefused() {
        Map<String, TensorSource> surplus = new LinkedHashMap<>(clip());
        surplus.put("visual.transformer.resblocks.1.ls_1.gamma", surplus.get("visual.ln_pre.bias"));
        Path file = safetensors("layer-scale.safetensors", surplus);
        Path target = folder.resolve("model.safetensors");
        // The OpenAI family takes all of a block's names; what it does not declare must not pass either.
        DamagedDataException e = assertThrows(
                DamagedDataException.class, () -> new Importer().encoder(file).write(target, Progress.NONE));
        assertTrue(e.getMessage().contains("ls_1.gamma"), e.getMessage());
    }

    @Test
    void partsThatDoNotFitEachOther() {
        Declarations other = new Declarations();
        other.neck(48, 32, 17, 1);
        Path codec = safetensors("codec.safetensors", codec());
        Path neck = safetensors("neck.safetensors", other.tensors);
        Path target = folder.resolve("model.safetensors");
        String message = assertThrows(
                        DamagedDataException.class,
                        () -> new Importer().codec(codec).neck(neck).write(target, Progress.NONE))
                .getMessage();
        assertTrue(message.contains("48") && message.contains("32"), message);
    }

    @Test
    void wrongInputsSayWhatIsMissing() {
        Path target = folder.resolve("model.safetensors");
        assertThrows(UsageException.class, () -> new Importer().write(target, Progress.NONE));
        Path clip = safetensors("clip.safetensors", clip());
        String codec = assertThrows(
                        UsageException.class, () -> new Importer().codec(clip).write(target, Progress.NONE))
                .getMessage();
        assertTrue(codec.contains("g_a.0.weight") && codec.contains("visual."), codec);
        Path elic = safetensors("elic.safetensors", codec());
        String encoder = assertThrows(
                        UsageException.class, () -> new Importer().encoder(elic).write(target, Progress.NONE))
                .getMessage();
        assertTrue(encoder.contains("no visual encoder"), encoder);
        assertThrows(
                UsageException.class,
                () -> new Importer().encoder(clip).write(folder.resolve("no/such/model"), Progress.NONE));
        assertFalse(Files.exists(target));
    }

    /** Priors that training has ruined: an import that says so or tables that are sound, never anything else. */
    @ParameterizedTest
    @ValueSource(floats = {Float.NaN, Float.POSITIVE_INFINITY, 1e30f, -1e30f, 0f})
    void ruinedPriors(float value) {
        Path target = folder.resolve("model.safetensors");
        for (String name : List.of("_matrix0", "_bias4", "_factor2", "quantiles")) {
            Map<String, TensorSource> tensors = new LinkedHashMap<>(codec());
            Shape shape = tensors.get("entropy_bottleneck." + name).shape();
            float[] values = new float[(int) shape.elements()];
            Arrays.fill(values, value);
            tensors.put("entropy_bottleneck." + name, TensorSource.of(Tensor.of(values, shape.toArray())));
            Path file = safetensors("ruined.safetensors", tensors);
            try {
                new Importer().codec(file).write(target, Progress.NONE);
            } catch (DamagedDataException e) {
                assertTrue(
                        e.getMessage().contains(file.toString())
                                && e.getMessage().contains(name),
                        e.getMessage());
            }
        }
    }

    /** However large a tensor, it is asked for a few megabytes at a time. */
    @Test
    void writingTakesBoundedPieces() throws IOException {
        Shape shape = Shape.of(3, 1 << 21);
        TensorSource seeded = SeededWeights.tensor("large", 0, shape, 0, 1);
        long[] largest = {0};
        TensorSource watched = new TensorSource() {
            @Override
            public ElementType type() {
                return ElementType.F32;
            }

            @Override
            public Shape shape() {
                return shape;
            }

            @Override
            public void read(long first, MemorySegment destination) {
                largest[0] = Math.max(largest[0], destination.byteSize());
                seeded.read(first, destination);
            }
        };
        Path file = folder.resolve("large.safetensors");
        ModelWriter.plain()
                .add("a", Reshaped.concatenate(List.of(watched, watched)))
                .write(file);
        assertTrue(largest[0] <= 4 << 20, "" + largest[0]);
        assertEquals(2 * 4 * shape.elements() + 128, Files.size(file));
        try (SafetensorsFile read = SafetensorsFile.open(file)) {
            Tensor tensor = read.tensors().get("a");
            byte[] one = new byte[4];
            for (long i : new long[] {0, 1, shape.elements() - 1, shape.elements() / 3}) {
                seeded.read(i, MemorySegment.ofArray(one));
                float expected =
                        ByteBuffer.wrap(one).order(ByteOrder.LITTLE_ENDIAN).getFloat();
                assertEquals(expected, (float) tensor.at(i));
                assertEquals(expected, (float) tensor.at(shape.elements() + i));
            }
        }
    }

    @Test
    void progressMayCancelAndLeavesNothingBehind() throws IOException {
        Path clip = safetensors("clip.safetensors", clip());
        Path target = folder.resolve("model.safetensors");
        Files.writeString(target, "before");
        assertThrows(
                IllegalStateException.class,
                () -> new Importer().encoder(clip).write(target, (what, done, total) -> {
                    if (done * 2 > total) {
                        throw new IllegalStateException("cancelled");
                    }
                }));
        assertEquals("before", Files.readString(target));
        assertEquals(List.of("clip.safetensors", "model.safetensors"), filesLeft());
    }
}

package org.comneck.model;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.List;
import org.comneck.DamagedDataException;

/**
 * What a model file is: the JSON under {@value #KEY} in its metadata. docs/models.md describes every field.
 *
 * <p>Unknown fields are ignored, so that a newer writer can add some; a missing or impossible one is an error that names it.
 *
 * @param name for people: {@code elic-192-320+clip-vit-l-14}
 * @param profile canonical arithmetic of everything that a symbol depends on: {@value #PROFILE}
 * @param codec the image codec, or null when the file holds none
 * @param preprocessing how a picture is prepared for the encoder, or null when the file holds no encoder
 * @param neck latents to encoder, or null when the file holds none
 * @param encoder the visual encoder, or null when the file holds none
 * @param qualities quality levels, worst first; at least one when there is a codec
 * @param labels class list of labels.embeddings or of the encoder's head, in row order; may be empty
 * @param tokens which tokens the model's users want by default
 */
public record Manifest(
        String name,
        String profile,
        Codec codec,
        Preprocessing preprocessing,
        Neck neck,
        Encoder encoder,
        List<Quality> qualities,
        List<Label> labels,
        Tokens tokens) {
    /** Key of the manifest in the file's metadata. */
    public static final String KEY = "comneck.manifest";

    /** Version of the manifest and of the tensor names. */
    public static final int FORMAT = 1;

    /** The one arithmetic profile so far: IEEE binary32, fused multiply-adds in ascending order. */
    public static final String PROFILE = "f32-fma";

    private static final int MAX_LABELS = 1_000_000;
    private static final int MAX_QUALITIES = 64;
    private static final JsonMapper JSON = JsonMapper.builder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .build();

    public Manifest {
        qualities = List.copyOf(qualities);
        labels = List.copyOf(labels);
    }

    /**
     * @param type {@code elic}
     * @param n channels of the transforms and of z
     * @param m channels of y, the sum of the slices
     * @param slices channels of each slice, in coding order
     */
    public record Codec(String type, int n, int m, List<Integer> slices) {
        public Codec {
            slices = List.copyOf(slices);
        }
    }

    /**
     * @param size the short side is resized to this many pixels, then the centre square is cut out
     * @param resample {@code bicubic}
     */
    public record Preprocessing(int size, String resample) {}

    /**
     * @param entry number of encoder blocks that the neck stands in for: its output enters this block, counted from 0
     * @param heads attention heads of its block
     */
    public record Neck(int entry, int heads) {}

    /**
     * @param type {@code clip} (names {@code visual.*}) or {@code timm} (names {@code visual.trunk.*})
     * @param width D, channels of a token
     * @param layers number of blocks
     * @param heads attention heads of a block
     * @param patch side of a patch in pixels
     * @param image side of the picture in pixels
     * @param activation {@code quick_gelu} or {@code gelu}
     * @param epsilon of LayerNorm
     * @param mean of the RGB channels in [0,1]
     * @param std of the RGB channels
     * @param projection width of the projected tokens, 0 without projection
     */
    public record Encoder(
            String type,
            int width,
            int layers,
            int heads,
            int patch,
            int image,
            String activation,
            double epsilon,
            List<Double> mean,
            List<Double> std,
            int projection) {
        public Encoder {
            mean = List.copyOf(mean);
            std = List.copyOf(std);
        }

        /** Patches on one side of the picture. */
        public int grid() {
            return image / patch;
        }
    }

    /**
     * @param name for people and for {@code --quality}
     * @param lambda weight of the distortion in training; 0 when unknown
     */
    public record Quality(String name, double lambda) {}

    /**
     * @param synset WordNet id, or any other stable id
     * @param name for people
     */
    public record Label(String synset, String name) {}

    /**
     * @param layer output of which block, negative from the end: -2 is the last but one
     * @param select {@code all}, {@code patches} or {@code cls}
     */
    public record Tokens(int layer, String select) {}

    /** The JSON text, fields in a fixed order. */
    public String toJson() {
        ObjectNode root = JSON.createObjectNode();
        root.put("format", FORMAT).put("name", name).put("profile", profile);
        if (codec != null) {
            ObjectNode node = root.putObject("codec")
                    .put("type", codec.type)
                    .put("n", codec.n)
                    .put("m", codec.m);
            ArrayNode slices = node.putArray("slices");
            codec.slices.forEach(slices::add);
        }
        if (preprocessing != null) {
            root.putObject("preprocessing").put("size", preprocessing.size).put("resample", preprocessing.resample);
        }
        if (neck != null) {
            root.putObject("neck").put("entry", neck.entry).put("heads", neck.heads);
        }
        if (encoder != null) {
            ObjectNode node = root.putObject("encoder");
            node.put("type", encoder.type).put("width", encoder.width).put("layers", encoder.layers);
            node.put("heads", encoder.heads).put("patch", encoder.patch).put("image", encoder.image);
            node.put("activation", encoder.activation).put("epsilon", encoder.epsilon);
            ArrayNode mean = node.putArray("mean");
            encoder.mean.forEach(mean::add);
            ArrayNode std = node.putArray("std");
            encoder.std.forEach(std::add);
            node.put("projection", encoder.projection);
        }
        ArrayNode levels = root.putArray("qualities");
        for (Quality quality : qualities) {
            levels.addObject().put("name", quality.name).put("lambda", quality.lambda);
        }
        ArrayNode classes = root.putArray("labels");
        for (Label label : labels) {
            classes.addArray().add(label.synset).add(label.name);
        }
        root.putObject("tokens").put("layer", tokens.layer).put("select", tokens.select);
        return root.toString();
    }

    /**
     * Reads and checks a manifest.
     *
     * @param file named in errors
     * @throws DamagedDataException when a field is missing or impossible, or the format is newer than this program
     */
    public static Manifest parse(String file, String json) {
        JsonNode root;
        try {
            root = JSON.readTree(json);
        } catch (JsonProcessingException e) {
            throw new DamagedDataException(file + ": manifest is not valid JSON: " + e.getOriginalMessage(), -1, e);
        }
        Field top = new Field(file, "", root);
        if (!root.isObject()) {
            throw top.wrong("is not an object");
        }
        int format = top.integer("format", 1, Integer.MAX_VALUE);
        if (format > FORMAT) {
            throw new DamagedDataException(file + ": model format " + format
                    + " is newer than this program, which reads " + FORMAT + "; update ComNeck");
        }
        String profile = top.text("profile");
        if (!profile.equals(PROFILE)) {
            throw new DamagedDataException(file + ": arithmetic profile '" + SafetensorsFile.printable(profile)
                    + "' is unknown to this program; it knows " + PROFILE);
        }
        Codec codec = top.has("codec") ? codec(top.object("codec")) : null;
        Preprocessing preprocessing = null;
        if (top.has("preprocessing")) {
            Field node = top.object("preprocessing");
            preprocessing = new Preprocessing(node.integer("size", 16, 1 << 14), node.choice("resample", "bicubic"));
        }
        Encoder encoder = top.has("encoder") ? encoder(top.object("encoder")) : null;
        Neck neck = null;
        if (top.has("neck")) {
            Field node = top.object("neck");
            neck = new Neck(node.integer("entry", 0, 1024), node.integer("heads", 1, 1024));
            if (encoder != null && neck.entry > encoder.layers) {
                throw node.wrong("enters block " + neck.entry + " of an encoder with " + encoder.layers);
            }
        }
        Tokens tokens = new Tokens(-2, "patches");
        if (top.has("tokens")) {
            Field node = top.object("tokens");
            tokens = new Tokens(node.integer("layer", -1024, 1024), node.choice("select", "all", "patches", "cls"));
        }
        List<Quality> qualities = new ArrayList<>();
        for (Field node : top.list("qualities", MAX_QUALITIES)) {
            qualities.add(new Quality(node.text("name"), node.number("lambda", 0, 1e9)));
        }
        if (codec != null && qualities.isEmpty()) {
            throw top.wrong("has a codec but no qualities");
        }
        List<Label> labels = new ArrayList<>();
        for (Field node : top.list("labels", MAX_LABELS)) {
            if (!node.node.isArray()
                    || node.node.size() != 2
                    || !node.node.get(0).isTextual()
                    || !node.node.get(1).isTextual()) {
                throw node.wrong("is not a pair of texts");
            }
            labels.add(new Label(node.node.get(0).textValue(), node.node.get(1).textValue()));
        }
        return new Manifest(top.text("name"), profile, codec, preprocessing, neck, encoder, qualities, labels, tokens);
    }

    private static Codec codec(Field node) {
        List<Integer> slices = new ArrayList<>();
        int sum = 0;
        for (Field slice : node.list("slices", 64)) {
            slices.add(slice.integer(1, 1 << 14));
            sum += slices.getLast();
        }
        Codec codec = new Codec(
                node.choice("type", "elic"), node.integer("n", 1, 1 << 14), node.integer("m", 1, 1 << 14), slices);
        if (sum != codec.m) {
            throw node.wrong("has slices that sum to " + sum + " instead of m = " + codec.m);
        }
        return codec;
    }

    private static Encoder encoder(Field node) {
        Encoder encoder = new Encoder(
                node.choice("type", "clip", "timm"),
                node.integer("width", 1, 1 << 14),
                node.integer("layers", 1, 1024),
                node.integer("heads", 1, 1024),
                node.integer("patch", 1, 1 << 10),
                node.integer("image", 1, 1 << 14),
                node.choice("activation", "quick_gelu", "gelu"),
                node.number("epsilon", 0, 1),
                node.numbers("mean", 3, -1e6, 1e6),
                node.numbers("std", 3, 1e-9, 1e6),
                node.integer("projection", 0, 1 << 16));
        if (encoder.width % encoder.heads != 0) {
            throw node.wrong("has a width of " + encoder.width + " that " + encoder.heads + " heads do not divide");
        }
        if (encoder.patch > encoder.image) {
            throw node.wrong("has patches larger than its image");
        }
        return encoder;
    }

    /** One node of the JSON tree with its path, for errors. */
    private record Field(String file, String path, JsonNode node) {
        boolean has(String name) {
            return node.hasNonNull(name);
        }

        Field child(String name) {
            Field child = new Field(file, path.isEmpty() ? name : path + "." + name, node.path(name));
            if (!node.has(name)) {
                throw child.wrong("is missing");
            }
            return child;
        }

        Field object(String name) {
            Field child = child(name);
            if (!child.node.isObject()) {
                throw child.wrong("is not an object");
            }
            return child;
        }

        /** Entries of a list; an absent list is empty. */
        List<Field> list(String name, int limit) {
            if (!has(name)) {
                return List.of();
            }
            Field child = child(name);
            if (!child.node.isArray() || child.node.size() > limit) {
                throw child.wrong("is not a list of at most " + limit + " entries");
            }
            List<Field> entries = new ArrayList<>(child.node.size());
            for (JsonNode entry : child.node) {
                entries.add(new Field(file, child.path + "[" + entries.size() + "]", entry));
            }
            return entries;
        }

        String text(String name) {
            Field child = child(name);
            if (!child.node.isTextual()) {
                throw child.wrong("is not text");
            }
            return child.node.textValue();
        }

        String choice(String name, String... choices) {
            String text = text(name);
            if (!List.of(choices).contains(text)) {
                throw child(name)
                        .wrong("is '" + SafetensorsFile.printable(text) + "'; known: " + String.join(", ", choices));
            }
            return text;
        }

        int integer(String name, int least, int most) {
            return child(name).integer(least, most);
        }

        int integer(int least, int most) {
            if (!node.isIntegralNumber()
                    || !node.canConvertToInt()
                    || node.intValue() < least
                    || node.intValue() > most) {
                throw wrong("is not a whole number from " + least + " to " + most);
            }
            return node.intValue();
        }

        double number(String name, double least, double most) {
            return child(name).number(least, most);
        }

        double number(double least, double most) {
            if (!node.isNumber() || !(node.doubleValue() >= least && node.doubleValue() <= most)) {
                throw wrong("is not a number from " + least + " to " + most);
            }
            return node.doubleValue();
        }

        List<Double> numbers(String name, int count, double least, double most) {
            List<Field> entries = list(name, count);
            if (entries.size() != count) {
                throw new Field(file, path + "." + name, node.path(name)).wrong("does not have " + count + " entries");
            }
            return entries.stream().map(entry -> entry.number(least, most)).toList();
        }

        DamagedDataException wrong(String what) {
            return new DamagedDataException(
                    file + ": manifest " + (path.isEmpty() ? "" : "field '" + path + "' ") + what);
        }
    }
}

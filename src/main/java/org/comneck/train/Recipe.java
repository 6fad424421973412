package org.comneck.train;

import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.StringReader;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Function;
import java.util.stream.Stream;
import org.comneck.InternalException;
import org.comneck.UsageException;

/**
 * What to train and how: {@code key = value} lines, as docs/training.md lists them. A recipe describes one stage ({@code stage = codec},
 * {@code encoder} or {@code neck}) or names several recipes to run in order ({@code stages = tiny-codec tiny-encoder tiny-neck}).
 */
public final class Recipe {
    private static final String FOLDER = "/recipes/";
    private static final String EXTENSION = ".properties";

    private final String name;
    private final String text;
    private final Path folder;
    private final List<Setting> settings;
    private final Properties values = new Properties();

    /**
     * A value that stands above what recipes say.
     *
     * @param stage the recipe it is meant for, or null for all that know the key
     */
    private record Setting(String stage, String key, String value) {
        String line() {
            return key + " = " + value + "\n";
        }
    }

    private Recipe(String name, String text, Path folder, List<Setting> settings) {
        this.name = name;
        this.text = text;
        this.folder = folder;
        this.settings = settings;
        try {
            values.load(new StringReader(text));
        } catch (IOException | IllegalArgumentException e) {
            throw new UsageException("recipe " + name + " cannot be read: " + e.getMessage(), e);
        }
    }

    /**
     * A recipe that comes with ComNeck, or a file.
     *
     * @param nameOrFile {@code tiny}, or the path of a file
     * @throws UsageException when there is neither
     */
    public static Recipe load(String nameOrFile) {
        return load(nameOrFile, null);
    }

    private static Recipe load(String nameOrFile, Path beside) {
        Path file = beside == null ? Path.of(nameOrFile) : beside.resolve(nameOrFile + EXTENSION);
        try {
            if (Files.isRegularFile(file)) {
                String base = file.getFileName().toString();
                base = base.endsWith(EXTENSION) ? base.substring(0, base.length() - EXTENSION.length()) : base;
                return new Recipe(
                        base, Files.readString(file), file.toAbsolutePath().getParent(), List.of());
            }
            try (InputStream in = Recipe.class.getResourceAsStream(FOLDER + nameOrFile + EXTENSION)) {
                if (in != null) {
                    Reader reader = new InputStreamReader(in, StandardCharsets.UTF_8);
                    return new Recipe(nameOrFile, reader.readAllAsString(), null, List.of());
                }
            }
        } catch (IOException e) {
            throw new UsageException("recipe " + nameOrFile + " cannot be read: " + e.getMessage(), e);
        }
        throw new UsageException("there is no recipe '" + nameOrFile + "', neither as a file nor among those built in: "
                + String.join(", ", builtIn().keySet()));
    }

    /** A recipe from its text. */
    public static Recipe parse(String name, String text) {
        return new Recipe(name, text, null, List.of());
    }

    /** Name of the recipe, and of its stage's folder in the run folder. */
    public String name() {
        return name;
    }

    /** The text as it was read. */
    public String text() {
        return text;
    }

    /** Names of the recipes that come with ComNeck, and the first comment line of each. */
    public static Map<String, String> builtIn() {
        Map<String, String> recipes = new TreeMap<>();
        try {
            URI folder = Recipe.class.getResource(FOLDER + "keys.txt").toURI();
            if (folder.getScheme().equals("jar")) {
                try (FileSystem jar = FileSystems.newFileSystem(folder, Map.of())) {
                    describe(jar.getPath(FOLDER), recipes);
                }
            } else {
                describe(Path.of(folder).getParent(), recipes);
            }
        } catch (URISyntaxException | IOException e) {
            throw new InternalException("the recipes that come with ComNeck cannot be listed", e);
        }
        return recipes;
    }

    private static void describe(Path folder, Map<String, String> recipes) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            for (Path file :
                    files.filter(file -> file.toString().endsWith(EXTENSION)).toList()) {
                String base = file.getFileName().toString();
                String first = Files.readString(file).lines().findFirst().orElse("");
                recipes.put(
                        base.substring(0, base.length() - EXTENSION.length()),
                        first.startsWith("#") ? first.substring(1).trim() : "");
            }
        }
    }

    /**
     * This recipe with other values.
     *
     * @param assignments {@code key=value}, for every stage that knows the key, or {@code stage.key=value} for one
     * @throws UsageException when a key is unknown
     */
    public Recipe with(List<String> assignments) {
        List<Setting> all = new ArrayList<>(settings);
        StringBuilder lines = new StringBuilder(text).append('\n');
        List<Recipe> stages = has("stages") ? stages() : List.of();
        for (String assignment : assignments) {
            int equals = assignment.indexOf('=');
            if (equals < 1) {
                throw new UsageException("'" + assignment + "' is not key=value");
            }
            String key = assignment.substring(0, equals).trim();
            String value = assignment.substring(equals + 1).trim();
            Recipe stage = stages.stream()
                    .filter(one -> key.startsWith(one.name + "."))
                    .findFirst()
                    .orElse(null);
            Setting setting = stage == null
                    ? new Setting(null, key, value)
                    : new Setting(stage.name, key.substring(stage.name.length() + 1), value);
            RecipeKey known = RecipeKey.find(setting.key);
            List<Recipe> meant = stage != null ? List.of(stage) : stages.isEmpty() ? List.of(this) : stages;
            boolean own = stage == null && known != null && known.fits(kind());
            if (known == null || !own && meant.stream().noneMatch(one -> known.fits(one.kind()))) {
                throw unknown(setting.key, meant.getFirst().kind());
            }
            if (own) {
                lines.append(setting.line());
            }
            all.add(setting);
        }
        return new Recipe(name, lines.toString(), folder, List.copyOf(all));
    }

    /** The recipes to run in order: those that {@code stages} names, or this one. */
    public List<Recipe> stages() {
        if (!has("stages")) {
            return List.of(this);
        }
        return words("stages").stream()
                .map(stage -> load(stage, folder))
                .map(stage -> {
                    StringBuilder own = new StringBuilder(stage.text).append('\n');
                    for (Setting setting : settings) {
                        boolean meant = setting.stage == null
                                ? RecipeKey.find(setting.key).fits(stage.kind())
                                : setting.stage.equals(stage.name);
                        own.append(meant ? setting.line() : "");
                    }
                    return new Recipe(stage.name, own.toString(), stage.folder, List.of());
                })
                .toList();
    }

    /** What it trains, or {@link RecipeKey#MODEL}. */
    String kind() {
        return values.getProperty("stage", RecipeKey.MODEL).trim();
    }

    /**
     * Checks every key and value, of the stages too.
     *
     * @throws UsageException about the first that is wrong; a key's nearest relative is named
     */
    public void check() {
        for (String key : new TreeSet<>(values.stringPropertyNames())) {
            RecipeKey known = RecipeKey.find(key);
            if (known == null || !known.fits(kind())) {
                throw unknown(key, kind());
            }
            String complaint = known.complaint(values.getProperty(key));
            if (complaint != null) {
                throw new UsageException("recipe " + name + ": '" + key + "' " + complaint);
            }
        }
        if (has("stages")) {
            stages().forEach(Recipe::check);
        }
    }

    private UsageException unknown(String key, String stage) {
        String nearest = RecipeKey.nearest(key, stage);
        return new UsageException("recipe " + name + ": "
                + (RecipeKey.find(key) == null
                        ? "there is no key '" + key + "'"
                        : "'" + key + "' is no key of stage " + stage)
                + (nearest == null || nearest.equals(key) ? "" : "; did you mean '" + nearest + "'?")
                + " (comneck train --keys lists them)");
    }

    /** Keys whose values differ in another recipe. */
    List<String> differences(Recipe other) {
        TreeSet<String> keys = new TreeSet<>(values.stringPropertyNames());
        keys.addAll(other.values.stringPropertyNames());
        keys.removeIf(key -> Objects.equals(values.getProperty(key), other.values.getProperty(key)));
        return List.copyOf(keys);
    }

    /** The value of a key as it is written, or {@code -}. */
    String written(String key) {
        return values.getProperty(key, "-");
    }

    boolean has(String key) {
        return value(key) != null;
    }

    private String value(String key) {
        if (RecipeKey.find(key) == null) {
            throw new InternalException("key '" + key + "' is not in recipes/keys.txt: it has to be listed there");
        }
        return values.getProperty(key);
    }

    String word(String key) {
        String value = value(key);
        if (value == null || value.isBlank()) {
            throw new UsageException("recipe " + name + " lacks '" + key + "'");
        }
        return value.trim();
    }

    List<String> words(String key) {
        return Arrays.asList(word(key).split("[\\s,]+"));
    }

    int integer(String key) {
        return parsed(key, word(key), Integer::parseInt);
    }

    int integer(String key, int otherwise) {
        return has(key) ? integer(key) : otherwise;
    }

    double number(String key) {
        return parsed(key, word(key), Double::parseDouble);
    }

    double number(String key, double otherwise) {
        return has(key) ? number(key) : otherwise;
    }

    boolean flag(String key, boolean otherwise) {
        if (!has(key)) {
            return otherwise;
        }
        return switch (word(key)) {
            case "true" -> true;
            case "false" -> false;
            default ->
                throw new UsageException(
                        "recipe " + name + ": '" + key + "' is true or false, not '" + word(key) + "'");
        };
    }

    List<Integer> integers(String key) {
        return words(key).stream()
                .map(word -> parsed(key, word, Integer::parseInt))
                .toList();
    }

    List<Double> numbers(String key) {
        return words(key).stream()
                .map(word -> parsed(key, word, Double::parseDouble))
                .toList();
    }

    private <T> T parsed(String key, String word, Function<String, T> parser) {
        try {
            return parser.apply(word);
        } catch (NumberFormatException e) {
            throw new UsageException("recipe " + name + ": '" + key + "' has '" + word + "', which is no number", e);
        }
    }
}

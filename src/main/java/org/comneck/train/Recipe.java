package org.comneck.train;

import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.function.Function;
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
    private final Properties values = new Properties();

    private Recipe(String name, String text, Path folder) {
        this.name = name;
        this.text = text;
        this.folder = folder;
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
                        base, Files.readString(file), file.toAbsolutePath().getParent());
            }
            try (InputStream in = Recipe.class.getResourceAsStream(FOLDER + nameOrFile + EXTENSION)) {
                if (in != null) {
                    Reader reader = new InputStreamReader(in, StandardCharsets.UTF_8);
                    return new Recipe(nameOrFile, reader.readAllAsString(), null);
                }
            }
        } catch (IOException e) {
            throw new UsageException("recipe " + nameOrFile + " cannot be read: " + e.getMessage(), e);
        }
        throw new UsageException("there is no recipe '" + nameOrFile + "', neither built in nor as a file");
    }

    /** A recipe from its text. */
    public static Recipe parse(String name, String text) {
        return new Recipe(name, text, null);
    }

    /** Name of the recipe, and of its stage's folder in the run folder. */
    public String name() {
        return name;
    }

    /** The text as it was read. */
    public String text() {
        return text;
    }

    /** The recipes to run in order: those that {@code stages} names, or this one. */
    public List<Recipe> stages() {
        if (!has("stages")) {
            return List.of(this);
        }
        return words("stages").stream().map(stage -> load(stage, folder)).toList();
    }

    boolean has(String key) {
        return values.containsKey(key);
    }

    String word(String key) {
        String value = values.getProperty(key);
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
            case "true", "yes", "on" -> true;
            case "false", "no", "off" -> false;
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

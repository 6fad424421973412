package org.comneck.train;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.comneck.InternalException;

/**
 * A key that recipes may have, as {@code recipes/keys.txt} lists them.
 *
 * @param stages {@code codec}, {@code encoder}, {@code neck}, {@code model} (a recipe that names stages) or {@code all} (but {@code model})
 * @param kind {@code word}, {@code integer}, {@code number} or {@code flag}, or several of the first three: {@code words} and so on
 * @param otherwise what it is when a recipe lacks it; empty when it has no value then
 */
public record RecipeKey(String key, List<String> stages, String kind, String otherwise, String meaning) {
    /** Stage of a recipe that names others. */
    static final String MODEL = "model";

    private static final String FILE = "/recipes/keys.txt";
    private static final Map<String, RecipeKey> ALL = read();

    private static Map<String, RecipeKey> read() {
        Map<String, RecipeKey> keys = new LinkedHashMap<>();
        try (InputStream in = RecipeKey.class.getResourceAsStream(FILE)) {
            for (String line : new String(in.readAllBytes(), StandardCharsets.UTF_8).split("\n")) {
                if (line.isBlank() || line.startsWith("#")) {
                    continue;
                }
                List<String> cells =
                        Arrays.stream(line.split("\\|", -1)).map(String::trim).toList();
                if (cells.size() != 5 || keys.containsKey(cells.getFirst())) {
                    throw new InternalException(FILE + ": wrong or twice: " + line);
                }
                List<String> stages = List.of(cells.get(1).split("\\s+"));
                keys.put(cells.get(0), new RecipeKey(cells.get(0), stages, cells.get(2), cells.get(3), cells.get(4)));
            }
        } catch (IOException e) {
            throw new InternalException(FILE + " cannot be read", e);
        }
        return Collections.unmodifiableMap(keys);
    }

    /** All of them, in the order of the file. */
    public static Collection<RecipeKey> all() {
        return ALL.values();
    }

    /** The key of this name, or null. */
    static RecipeKey find(String key) {
        return ALL.get(key);
    }

    /** Its row of a Markdown table: key, stages, kind of value, default, meaning. */
    public String row() {
        return "| `" + key + "` | " + String.join(", ", stages) + " | " + kind + " | " + otherwise + " | " + meaning
                + " |";
    }

    /** Whether recipes of this stage may have it. */
    boolean fits(String stage) {
        return stages.contains(stage) || !stage.equals(MODEL) && stages.contains("all");
    }

    /** What is wrong with a value, or null. */
    String complaint(String value) {
        String one = kind.endsWith("s") ? kind.substring(0, kind.length() - 1) : kind;
        if (value.isBlank()) {
            return "has no value";
        }
        for (String word : kind.endsWith("s") ? value.trim().split("[\\s,]+") : new String[] {value.trim()}) {
            try {
                switch (one) {
                    case "integer" -> Integer.parseInt(word);
                    case "number" -> Double.parseDouble(word);
                    case "flag" -> {
                        if (!word.equals("true") && !word.equals("false")) {
                            return "is true or false, not '" + word + "'";
                        }
                    }
                    default -> {}
                }
            } catch (NumberFormatException e) {
                return "has '" + word + "', which is no " + (one.equals("integer") ? "whole number" : "number");
            }
        }
        return null;
    }

    /** The key that a mistyped one was probably meant to be, or null when none is near. */
    static String nearest(String typed, String stage) {
        String best = null;
        int least = Math.max(2, typed.length() / 3) + 1;
        for (RecipeKey key : ALL.values()) {
            int distance = distance(typed, key.key);
            if (key.fits(stage) && distance < least) {
                least = distance;
                best = key.key;
            }
        }
        return best;
    }

    /** Characters to insert, remove or replace. */
    private static int distance(String a, String b) {
        int[] above = new int[b.length() + 1];
        Arrays.setAll(above, j -> j);
        for (int i = 1; i <= a.length(); i++) {
            int[] row = new int[b.length() + 1];
            row[0] = i;
            for (int j = 1; j <= b.length(); j++) {
                int replace = above[j - 1] + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
                row[j] = Math.min(replace, 1 + Math.min(above[j], row[j - 1]));
            }
            above = row;
        }
        return above[b.length()];
    }
}

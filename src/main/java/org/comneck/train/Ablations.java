package org.comneck.train;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.comneck.InternalException;
import org.comneck.UsageException;

/**
 * Necks that differ from a common recipe in one thing each, as {@code recipes/ablations.txt} lists them, trained one after the other into one
 * folder, and the table of what they are worth. A run that is finished is not made again; one that was broken off goes on.
 */
public final class Ablations {
    private static final String FILE = "/recipes/ablations.txt";
    private static final JsonMapper JSON = new JsonMapper();

    /**
     * One of them.
     *
     * @param settings what differs, {@code key = value}
     */
    private record Variant(String group, String name, List<String> settings) {}

    private final Recipe base;
    private final List<String> settings;
    private final List<Variant> variants;
    private final Path folder;

    /**
     * Chooses what to run.
     *
     * @param base recipe of stage {@code neck} that they have in common
     * @param settings {@code key=value} for all of them, above what they say themselves
     * @param groups names of groups, or {@code all}
     * @param folder a folder for each run is made in it
     * @throws UsageException when there is no such group, or a recipe is wrong
     */
    public Ablations(Recipe base, List<String> settings, List<String> groups, Path folder) {
        this.base = base;
        this.settings = settings;
        this.folder = folder;
        List<Variant> all = read();
        Set<String> known = new LinkedHashSet<>();
        all.forEach(variant -> known.add(variant.group));
        if (!groups.equals(List.of("all")) && !known.containsAll(groups)) {
            throw new UsageException("groups of ablations are all, or some of " + String.join(",", known));
        }
        this.variants = all.stream()
                .filter(variant -> groups.equals(List.of("all")) || groups.contains(variant.group))
                .toList();
        variants.forEach(variant -> recipe(variant).check());
    }

    private static List<Variant> read() {
        List<Variant> out = new ArrayList<>();
        try (InputStream in = Ablations.class.getResourceAsStream(FILE)) {
            for (String line : new String(in.readAllBytes(), StandardCharsets.UTF_8).split("\n")) {
                if (!line.isBlank() && !line.startsWith("#")) {
                    List<String> cells =
                            Arrays.stream(line.split("\\|")).map(String::trim).toList();
                    out.add(new Variant(cells.get(0), cells.get(1), cells.subList(2, cells.size())));
                }
            }
            return out;
        } catch (IOException e) {
            throw new InternalException(FILE + " cannot be read", e);
        }
    }

    private Recipe recipe(Variant variant) {
        return Recipe.parse(
                variant.name, base.with(variant.settings).with(settings).text());
    }

    /** Trains what is not finished; an interrupt ends it at a checkpoint. */
    public void run(Path data, Trainer.Listener listener) {
        for (Variant variant : variants) {
            listener.note(variant.name + ": " + String.join(", ", variant.settings));
            Trainer.run(recipe(variant), data, folder, true, listener);
        }
    }

    /**
     * Markdown tables, one a group, of the last measurement of every run that has one: what it cost, and for the lowest, a middle and the
     * highest quality the cosines of class token and patch tokens and the top-5 accuracy.
     */
    public String table() {
        StringBuilder out = new StringBuilder();
        Map<String, List<Variant>> groups = new LinkedHashMap<>();
        variants.forEach(variant ->
                groups.computeIfAbsent(variant.group, _ -> new ArrayList<>()).add(variant));
        groups.forEach((group, members) -> {
            StringBuilder rows = new StringBuilder();
            String head = "";
            for (Variant variant : members) {
                JsonNode last = last(variant);
                if (last != null) {
                    List<Integer> qualities = qualities(last);
                    head = head(group, qualities);
                    rows.append(row(variant, last, qualities));
                }
            }
            if (!rows.isEmpty()) {
                out.append(head).append(rows).append('\n');
            }
        });
        return out.toString();
    }

    private static List<Integer> qualities(JsonNode figures) {
        int count = 0;
        while (figures.has("bpp." + count)) {
            count++;
        }
        return List.copyOf(new LinkedHashSet<>(List.of(0, (count - 1) / 2, count - 1)));
    }

    private static String head(String group, List<Integer> qualities) {
        StringBuilder names = new StringBuilder("| " + group + " | minutes | steps | photos |");
        StringBuilder lines = new StringBuilder("| --- | --- | --- | --- |");
        for (int q : qualities) {
            names.append(" class token, quality ").append(q).append(" | patch tokens | top-5, % |");
            lines.append(" --- | --- | --- |");
        }
        return names + "\n" + lines + "\n";
    }

    private static String row(Variant variant, JsonNode last, List<Integer> qualities) {
        StringBuilder out = new StringBuilder(String.format(
                Locale.ROOT,
                "| %s | %.1f | %d | %d |",
                String.join(", ", variant.settings),
                last.get("seconds").asDouble() / 60,
                last.get("step").asLong(),
                last.get("photos").asLong()));
        for (int q : qualities) {
            out.append(String.format(
                    Locale.ROOT,
                    " %.4f | %.4f | %s |",
                    last.get("class.cosine." + q).asDouble(),
                    last.get("tokens.cosine." + q).asDouble(),
                    last.has("top5." + q)
                            ? String.format(
                                    Locale.ROOT,
                                    "%.1f",
                                    100 * last.get("top5." + q).asDouble())
                            : ""));
        }
        return out.append('\n').toString();
    }

    /** The last measurement, or null. */
    private JsonNode last(Variant variant) {
        Path metrics = folder.resolve(variant.name).resolve(RunFolder.METRICS);
        if (!Files.exists(metrics)) {
            return null;
        }
        try {
            JsonNode last = null;
            for (String line : Files.readAllLines(metrics)) {
                JsonNode node = JSON.readTree(line);
                last = node.path("kind").asText().equals("evaluation") ? node : last;
            }
            return last;
        } catch (IOException e) {
            throw new UsageException(metrics + " cannot be read: " + e.getMessage(), e);
        }
    }
}

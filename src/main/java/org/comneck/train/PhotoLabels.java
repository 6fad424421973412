package org.comneck.train;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.comneck.model.Manifest;

/**
 * Labels of photos by their names, rows of a label list: a file whose name starts with a label's id ({@code n01440764_tench.jpg}), or a
 * folder that is called like an id or one of a label's names ({@code accordion}; case, blanks and underscores do not matter)
 * that no other label has.
 */
final class PhotoLabels {
    static final int UNKNOWN = -1;

    private final Map<String, Integer> rows = new HashMap<>();
    private final List<Manifest.Label> labels;

    PhotoLabels(List<Manifest.Label> labels) {
        this.labels = labels;
        for (int i = 0; i < labels.size(); i++) {
            for (String name : labels.get(i).name().split(",")) {
                rows.merge(plain(name), i, (a, b) -> UNKNOWN);
            }
        }
        for (int i = 0; i < labels.size(); i++) {
            rows.put(plain(labels.get(i).synset()), i);
        }
    }

    private static String plain(String name) {
        return name.toLowerCase(Locale.ROOT).replaceAll("[\\s_-]+", " ").trim();
    }

    /** Row of a photo's label, or {@link #UNKNOWN}. */
    int row(Path file) {
        String name = file.getFileName().toString();
        for (int i = 0; i < labels.size(); i++) {
            if (name.startsWith(labels.get(i).synset())) {
                return i;
            }
        }
        Path folder = file.toAbsolutePath().normalize().getParent();
        return folder == null || folder.getFileName() == null
                ? UNKNOWN
                : rows.getOrDefault(plain(folder.getFileName().toString()), UNKNOWN);
    }
}

package org.comneck.eval;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.comneck.UsageException;
import org.comneck.model.Manifest;

/** Where the right answers come from. */
public enum Labels {
    /** {@link #NAMES} when the first file's name begins like a WordNet id, else {@link #GROUPS}. */
    AUTO,
    /** The file's name up to the first underscore, which must be an id of the model's labels: {@code n01443537_goldfish.jpg}. */
    NAMES,
    /** The folder's name, which must be an id or a name of the model's labels. */
    FOLDERS,
    /** The folder's name is a class of its own: for neighbours and episodes, without the model's labels. */
    GROUPS,
    /** None. */
    NONE;

    private static final String SYNSET = "n\\d{8}_.*";

    /** What {@link #AUTO} means for these photos. */
    Labels resolve(List<Path> photos) {
        if (this != AUTO) {
            return this;
        }
        if (photos.isEmpty()) {
            return NONE;
        }
        return photos.getFirst().getFileName().toString().matches(SYNSET) ? NAMES : GROUPS;
    }

    /** A photo's class, or null. */
    String of(Path photo) {
        return switch (this) {
            case NAMES -> photo.getFileName().toString().replaceFirst("[_.].*", "");
            case FOLDERS, GROUPS ->
                photo.toAbsolutePath().getParent() == null
                        ? null
                        : String.valueOf(photo.toAbsolutePath().getParent().getFileName());
            default -> null;
        };
    }

    /**
     * Number of each photo's class among a model's labels, or null when these labels are none of the model's.
     *
     * @throws UsageException when a photo's label is not among them; names the photo
     */
    Map<Path, Integer> numbers(List<Path> photos, Manifest model) {
        if (this != NAMES && this != FOLDERS) {
            return null;
        }
        Map<String, Integer> known = new HashMap<>();
        for (int i = model.labels().size() - 1; i >= 0; i--) {
            Manifest.Label label = model.labels().get(i);
            for (String name : label.name().split(",")) {
                known.put(plain(name), i);
            }
            known.put(plain(label.synset()), i);
        }
        Map<Path, Integer> numbers = new HashMap<>();
        for (Path photo : photos) {
            Integer number = known.get(plain(of(photo)));
            if (number == null) {
                throw new UsageException(photo + ": its label '" + of(photo) + "' is not one of the "
                        + model.labels().size() + " labels of model " + model.name()
                        + "; --labels groups takes folders as classes of their own, --labels none does without");
            }
            numbers.put(photo, number);
        }
        return numbers;
    }

    private static String plain(String name) {
        return name.strip().toLowerCase(Locale.ROOT).replaceAll("[\\s_-]+", " ");
    }
}

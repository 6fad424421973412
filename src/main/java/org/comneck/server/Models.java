package org.comneck.server;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.TreeMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.comneck.UsageException;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The models of a server by name and version. Loading, unloading and swapping replace the whole table at once: a request sees the one or the
 * other, keeps the model it began with, and the last request that uses an unloaded model closes it. Thread-safe.
 *
 * <p>A folder of models holds {@code name/version/anything.safetensors}, {@code name/version.safetensors} or {@code name.safetensors}
 * (version 1).
 */
public final class Models implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(Models.class);
    private static final Pattern NAME = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._+-]{0,127}");
    private static final String SUFFIX = ".safetensors";
    private static final int MAX_MODELS = 1000;

    /** Versions as people count: numbers by value and before words. */
    private static final Comparator<String> VERSIONS = Comparator.<String>comparingInt(
                    text -> text.matches("\\d{1,18}") ? 0 : 1)
            .thenComparingLong(text -> text.matches("\\d{1,18}") ? Long.parseLong(text) : 0)
            .thenComparing(Comparator.naturalOrder());

    private final Path folder; // or null
    private final EngineOptions options;
    private final ExecutorService closer = Executors.newSingleThreadExecutor(
            Thread.ofPlatform().name("comneck-close-models").daemon().factory());
    private final Map<Model, Origin> origins = new java.util.HashMap<>(); // guarded by this
    private volatile Map<String, NavigableMap<String, Model>> table = Map.of();
    private volatile String defaultName;

    /** Which file a model was read from, to see whether it has changed. */
    private record Origin(Path file, FileTime modified, long bytes) {
        static Origin of(Path file) throws IOException {
            return new Origin(file, Files.getLastModifiedTime(file), Files.size(file));
        }
    }

    /**
     * A model of the table or of the folder.
     *
     * @param ready false when its file is in the folder and it is not loaded
     */
    public record Entry(String name, String version, boolean ready) {}

    private Models(Path folder, EngineOptions options) {
        this.folder = folder;
        this.options = options;
    }

    /** The model that comes with the program. */
    public static Models embedded(EngineOptions options) {
        return of(NativeEngine.openDefault(options), options);
    }

    /** One model file, named as its manifest says. */
    public static Models file(Path file, EngineOptions options) {
        return of(NativeEngine.open(file, options), options);
    }

    private static Models of(NativeEngine engine, EngineOptions options) {
        Models models = new Models(null, options);
        models.replace(List.of(new Model(nameOf(engine.manifest().name()), "1", engine)));
        return models;
    }

    private static String nameOf(String manifestName) {
        String name = manifestName.replaceAll("[^A-Za-z0-9._+-]", "-");
        return NAME.matcher(name).matches() ? name : "model";
    }

    /** Models that are there already, for tests. */
    static Models of(Model... models) {
        Models out = new Models(null, EngineOptions.DEFAULT);
        out.replace(List.of(models));
        return out;
    }

    /**
     * All models of a folder.
     *
     * @throws UsageException when there is none, or one cannot be loaded
     */
    public static Models folder(Path folder, EngineOptions options) {
        Models models = new Models(folder, options);
        try {
            TreeMap<String, Map<String, Path>> found = models.scan();
            if (found.isEmpty()) {
                throw new UsageException(folder + " holds no models: put name/version/model.safetensors there");
            }
            for (String name : found.keySet()) {
                models.load(name);
            }
            return models;
        } catch (RuntimeException e) {
            models.close();
            throw e;
        }
    }

    // ---------------------------------------------------------------- use

    /**
     * The model of a name and version, with one user more: give it back with {@link #release}.
     *
     * @param name or null for the default
     * @param version or null for the highest
     * @return null when there is none
     */
    Model use(String name, String version) {
        while (true) {
            Model model = find(name, version);
            if (model == null || model.use()) {
                return model;
            }
            // It was swapped between finding and using: the table has the new one.
        }
    }

    private Model find(String name, String version) {
        String wanted = name == null ? defaultName : name;
        NavigableMap<String, Model> versions = wanted == null ? null : table.get(wanted);
        if (versions == null) {
            return null;
        }
        return version == null ? versions.lastEntry().getValue() : versions.get(version);
    }

    void release(Model model) {
        model.release(closer);
    }

    /** What to say about a model that is not there. */
    String unknown(String name, String version) {
        return "model '" + printable(name) + "'" + (version == null ? "" : " version '" + printable(version) + "'")
                + " is not loaded; there are: " + String.join(", ", table.keySet());
    }

    private static String printable(String text) {
        String shown = text == null ? "(default)" : text.replaceAll("[^ -~]", "?");
        return shown.length() > 64 ? shown.substring(0, 64) + "..." : shown;
    }

    /** Name of the model that requests without a name mean. */
    public String defaultName() {
        return defaultName;
    }

    /** Whether a GPU computes one of the loaded models. */
    public boolean onDevice() {
        return table.values().stream()
                .flatMap(versions -> versions.values().stream())
                .anyMatch(model -> model.engine().backend().startsWith("cuda: "));
    }

    /** Versions of a loaded model, lowest first; empty when there is none. */
    public List<String> versions(String name) {
        NavigableMap<String, Model> versions = table.get(name);
        return versions == null ? List.of() : List.copyOf(versions.keySet());
    }

    /** All loaded models. */
    public List<Entry> loaded() {
        List<Entry> out = new ArrayList<>();
        table.forEach(
                (name, versions) -> versions.keySet().forEach(version -> out.add(new Entry(name, version, true))));
        return out;
    }

    /** The loaded models themselves; they may be unloaded at any time. */
    List<Model> current() {
        return table.values().stream()
                .flatMap(versions -> versions.values().stream())
                .toList();
    }

    /** All loaded models, and those of the folder that are not. */
    public List<Entry> entries() {
        List<Entry> out = new ArrayList<>(loaded());
        Map<String, NavigableMap<String, Model>> loaded = table;
        if (folder != null) {
            scan().forEach((name, versions) -> versions.keySet().stream()
                    .filter(version ->
                            !loaded.containsKey(name) || !loaded.get(name).containsKey(version))
                    .forEach(version -> out.add(new Entry(name, version, false))));
        }
        return out;
    }

    // ---------------------------------------------------------------- loading

    /**
     * Brings the versions of a model to what the folder holds: new and changed files are loaded before anything is taken away, then all
     * change at once. Blocks while files are read.
     *
     * @throws UsageException when the folder holds no such model, or one cannot be loaded; nothing has changed then
     */
    public synchronized void load(String name) {
        Map<String, Path> files = folder == null ? null : scan().get(name);
        if (files == null) {
            if (folder == null && table.containsKey(name)) {
                return; // it is loaded and cannot have changed
            }
            throw new UsageException("there is no model '" + printable(name) + "' to load");
        }
        NavigableMap<String, Model> before = table.getOrDefault(name, new TreeMap<>(VERSIONS));
        NavigableMap<String, Model> after = new TreeMap<>(VERSIONS);
        List<Model> opened = new ArrayList<>();
        try {
            for (Map.Entry<String, Path> file : files.entrySet()) {
                Origin origin = Origin.of(file.getValue());
                Model old = before.get(file.getKey());
                if (old != null && origin.equals(origins.get(old))) {
                    after.put(file.getKey(), old);
                    continue;
                }
                Model model = new Model(name, file.getKey(), NativeEngine.open(file.getValue(), options));
                opened.add(model);
                origins.put(model, origin);
                after.put(file.getKey(), model);
            }
        } catch (IOException | RuntimeException e) {
            opened.forEach(model -> {
                origins.remove(model);
                model.unload(closer);
            });
            if (e instanceof IOException) {
                throw new UsageException("model '" + name + "' cannot be read: " + e.getMessage(), e);
            }
            throw (RuntimeException) e;
        }
        swap(name, after);
        opened.forEach(model -> LOG.info("loaded model {} version {}", model.name(), model.version()));
    }

    /**
     * Takes a model away, all its versions. Requests that use it are answered; later ones are refused.
     *
     * @throws UsageException when it is not loaded
     */
    public synchronized void unload(String name) {
        if (!table.containsKey(name)) {
            throw new UsageException("model '" + printable(name) + "' is not loaded");
        }
        swap(name, null);
        LOG.info("unloaded model {}", name);
    }

    private void swap(String name, NavigableMap<String, Model> after) {
        TreeMap<String, NavigableMap<String, Model>> next = new TreeMap<>(table);
        NavigableMap<String, Model> before = after == null ? next.remove(name) : next.put(name, after);
        publish(next);
        if (before != null) {
            before.values().stream()
                    .filter(model -> after == null || !after.containsValue(model))
                    .forEach(model -> {
                        origins.remove(model);
                        model.unload(closer);
                    });
        }
    }

    private synchronized void replace(List<Model> models) {
        TreeMap<String, NavigableMap<String, Model>> next = new TreeMap<>();
        for (Model model : models) {
            next.computeIfAbsent(model.name(), key -> new TreeMap<>(VERSIONS)).put(model.version(), model);
        }
        publish(next);
    }

    private void publish(TreeMap<String, NavigableMap<String, Model>> next) {
        table = next;
        if (!next.isEmpty() && (defaultName == null || !next.containsKey(defaultName))) {
            defaultName = next.firstKey();
        }
    }

    /** Files of the folder by name and version. What is not named as models are is left alone. */
    private TreeMap<String, Map<String, Path>> scan() {
        TreeMap<String, Map<String, Path>> found = new TreeMap<>();
        for (Path entry : list(folder)) {
            String name = entry.getFileName().toString();
            if (Files.isRegularFile(entry)) {
                add(found, withoutSuffix(name), "1", entry);
            } else if (Files.isDirectory(entry) && NAME.matcher(name).matches()) {
                for (Path version : list(entry)) {
                    String number = version.getFileName().toString();
                    if (Files.isRegularFile(version)) {
                        add(found, name, withoutSuffix(number), version);
                    } else if (Files.isDirectory(version)) {
                        for (Path file : list(version)) {
                            if (withoutSuffix(file.getFileName().toString()) != null) {
                                add(found, name, number, file);
                                break;
                            }
                        }
                    }
                }
            }
        }
        return found;
    }

    private static void add(TreeMap<String, Map<String, Path>> found, String name, String version, Path file) {
        if (name != null
                && version != null
                && NAME.matcher(name).matches()
                && NAME.matcher(version).matches()
                && found.size() < MAX_MODELS) {
            found.computeIfAbsent(name, key -> new TreeMap<>(VERSIONS)).putIfAbsent(version, file);
        }
    }

    private static String withoutSuffix(String name) {
        return name.endsWith(SUFFIX) ? name.substring(0, name.length() - SUFFIX.length()) : null;
    }

    private static List<Path> list(Path directory) {
        try (Stream<Path> files = Files.list(directory)) {
            return files.sorted().limit(MAX_MODELS).toList();
        } catch (IOException e) {
            throw new UsageException(directory + ": cannot be read: " + e.getMessage(), e);
        }
    }

    /** Unloads everything and waits until no engine is left open. */
    @Override
    public void close() {
        synchronized (this) {
            for (String name : List.copyOf(table.keySet())) {
                swap(name, null);
            }
        }
        closer.shutdown();
        try {
            if (!closer.awaitTermination(10, TimeUnit.SECONDS)) {
                LOG.warn("a model is still in use");
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}

package org.comneck.cli;

import java.io.IOException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.PathMatcher;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.comneck.UsageException;

/** Turns the files, folders, patterns and {@code -} of a command line into files to work on, and names their outputs. */
final class Inputs {
    /** Standard input or output. */
    static final String DASH = "-";

    private static final Set<String> PHOTOS = Set.of("jpg", "jpeg", "png", "webp");
    private static final long MAX_BYTES = 1L << 30;

    private Inputs() {}

    /**
     * One file to work on.
     *
     * @param path of the file, or null for standard input
     * @param name for people
     * @param relative where its output goes below an output folder, with the input's extension
     */
    record Input(Path path, String name, Path relative) {
        /** The bytes; {@code streams} has standard input. */
        byte[] read(Main.Streams streams) {
            try {
                if (path == null) {
                    byte[] bytes = streams.in().readNBytes((int) MAX_BYTES + 1);
                    if (bytes.length > MAX_BYTES) {
                        throw new UsageException("standard input has more than " + MAX_BYTES + " bytes");
                    }
                    return bytes;
                }
                if (Files.isDirectory(path)) {
                    throw new IOException("it is a folder");
                }
                if (Files.size(path) > MAX_BYTES) {
                    throw new UsageException(
                            name + ": " + Files.size(path) + " bytes are more than the limit of " + MAX_BYTES);
                }
                return Files.readAllBytes(path);
            } catch (java.nio.file.NoSuchFileException e) {
                throw new UsageException(name + ": no such file", e);
            } catch (java.nio.file.AccessDeniedException e) {
                throw new UsageException(name + ": permission denied", e);
            } catch (IOException e) {
                throw new UsageException(name + ": cannot be read: " + e.getMessage(), e);
            }
        }
    }

    /**
     * All files that the arguments mean, in order. A folder means the photos and bitstreams below it; a name with {@code *}, {@code ?} or
     * brackets that is no file is a pattern.
     *
     * @param extensions of files taken from folders, beside those of photos
     */
    static List<Input> expand(List<String> arguments, String... extensions) {
        List<Input> inputs = new ArrayList<>();
        for (String argument : arguments) {
            if (argument.equals(DASH)) {
                inputs.add(new Input(null, "standard input", Path.of("stdin")));
                continue;
            }
            Path path = Path.of(argument);
            if (Files.isDirectory(path)) {
                List<Path> found = below(path, Set.of(extensions));
                if (found.isEmpty()) {
                    throw new UsageException(argument + ": no photo lies in this folder");
                }
                found.forEach(file -> inputs.add(new Input(file, file.toString(), path.relativize(file))));
            } else if (!Files.exists(path) && argument.matches(".*[*?\\[{].*")) {
                List<Path> found = matching(argument);
                if (found.isEmpty()) {
                    throw new UsageException(argument + ": no file matches this pattern");
                }
                found.forEach(file -> inputs.add(new Input(file, file.toString(), file.getFileName())));
            } else {
                inputs.add(new Input(path, argument, path.getFileName() == null ? path : path.getFileName()));
            }
        }
        return inputs;
    }

    private static List<Path> below(Path folder, Set<String> extensions) {
        try (Stream<Path> files = Files.walk(folder)) {
            return files.filter(Files::isRegularFile)
                    .filter(file -> PHOTOS.contains(extension(file)) || extensions.contains(extension(file)))
                    .sorted()
                    .toList();
        } catch (IOException e) {
            throw new UsageException(folder + ": cannot be read: " + e.getMessage(), e);
        }
    }

    private static List<Path> matching(String pattern) {
        int special = pattern.length();
        for (char c : "*?[{".toCharArray()) {
            int at = pattern.indexOf(c);
            special = at >= 0 && at < special ? at : special;
        }
        int slash = pattern.lastIndexOf('/', special);
        Path root = Path.of(slash < 0 ? "" : slash == 0 ? "/" : pattern.substring(0, slash));
        PathMatcher matcher = FileSystems.getDefault()
                .getPathMatcher("glob:" + Path.of(pattern).normalize());
        try (Stream<Path> files = Files.walk(root)) {
            return files.filter(Files::isRegularFile)
                    .filter(file -> matcher.matches(file.normalize()))
                    .sorted()
                    .toList();
        } catch (IOException e) {
            throw new UsageException(pattern + ": cannot be read: " + e.getMessage(), e);
        }
    }

    private static String extension(Path file) {
        String name = file.getFileName().toString();
        return name.substring(name.lastIndexOf('.') + 1).toLowerCase(Locale.ROOT);
    }

    /**
     * Where each input's output goes: to the one file named (or {@code -}), below the folder named, or beside the input.
     *
     * @param output what {@code -o} says, or null
     * @param extension of outputs whose names are made, with its dot
     * @return a path for each input, or null for standard output
     */
    static Map<Input, Path> outputs(List<Input> inputs, String output, String extension) {
        Map<Input, Path> targets = new LinkedHashMap<>();
        Map<Path, Input> taken = new LinkedHashMap<>();
        boolean folder = output != null
                && !output.equals(DASH)
                && (inputs.size() > 1 || output.endsWith("/") || Files.isDirectory(Path.of(output)));
        if (inputs.size() > 1 && DASH.equals(output)) {
            throw new UsageException(
                    "-o -: the outputs of " + inputs.size() + " inputs do not fit one stream; name a folder");
        }
        for (Input input : inputs) {
            Path target;
            if (DASH.equals(output) || (output == null && input.path() == null)) {
                target = null;
            } else if (output == null) {
                target = renamed(input.path(), extension);
            } else {
                target = folder ? Path.of(output).resolve(renamed(input.relative(), extension)) : Path.of(output);
            }
            if (target != null) {
                Input other = taken.put(target.toAbsolutePath().normalize(), input);
                if (other != null) {
                    throw new UsageException(
                            target + " would be written for " + other.name() + " and for " + input.name());
                }
                if (input.path() != null
                        && target.toAbsolutePath()
                                .normalize()
                                .equals(input.path().toAbsolutePath().normalize())) {
                    throw new UsageException(target + ": the output would replace its own input; name another with -o");
                }
            }
            targets.put(input, target);
        }
        if (folder) {
            for (Path target : targets.values()) {
                try {
                    Files.createDirectories(target.toAbsolutePath().getParent());
                } catch (IOException e) {
                    throw new UsageException(target.getParent() + ": cannot be made a folder: " + e.getMessage(), e);
                }
            }
        }
        return targets;
    }

    private static Path renamed(Path file, String extension) {
        String name = file.getFileName().toString();
        int dot = name.lastIndexOf('.');
        return file.resolveSibling((dot > 0 ? name.substring(0, dot) : name) + extension);
    }
}

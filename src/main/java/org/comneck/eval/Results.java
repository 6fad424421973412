package org.comneck.eval;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.comneck.UsageException;

/**
 * Everything measured so far, in memory and, where a folder is named, in its results.jsonl: one line a result, appended as soon as it is there.
 * What a killed run or a full disk leaves unfinished is the last line, which is measured again.
 */
final class Results implements AutoCloseable {
    private static final String FILE = "results.jsonl";

    private final Map<String, Row> rows = new HashMap<>();
    private final Path file; // or null
    private final FileChannel channel; // or null
    private final int found;

    /** @param folder where results are kept, or null */
    Results(Path folder) {
        if (folder == null) {
            file = null;
            channel = null;
            found = 0;
            return;
        }
        file = folder.resolve(FILE);
        try {
            Files.createDirectories(folder);
            boolean torn = false;
            if (Files.exists(file)) {
                try (BufferedReader lines = Files.newBufferedReader(file, StandardCharsets.UTF_8)) {
                    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                        Row row = Row.parse(line);
                        if (row != null) {
                            rows.put(row.key() + "|" + row.photo(), row);
                        }
                    }
                }
                byte[] last = lastByte(file);
                torn = last.length == 1 && last[0] != '\n';
            }
            found = rows.size();
            channel = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            if (torn) {
                write("\n");
            }
        } catch (IOException e) {
            throw new UsageException(file + ": cannot be used: " + e.getMessage(), e);
        }
    }

    private static byte[] lastByte(Path file) throws IOException {
        try (FileChannel in = FileChannel.open(file)) {
            ByteBuffer last = ByteBuffer.allocate(1);
            return in.size() == 0 || in.read(last, in.size() - 1) != 1 ? new byte[0] : last.array();
        }
    }

    /** How many results an earlier run had left. */
    int found() {
        return found;
    }

    /** A result, or null when it is still to be measured. */
    Row get(String key, String photo) {
        return rows.get(key + "|" + photo);
    }

    /** Keeps results, on disk first. */
    void add(List<Row> measured) {
        List<String> lines = measured.stream().map(Row::toJson).toList();
        if (channel != null && !lines.isEmpty()) {
            try {
                write(String.join("\n", lines) + "\n");
            } catch (IOException e) {
                throw new UsageException(
                        file + ": cannot be written: " + e.getMessage()
                                + "; what was finished is kept, run the same command again when there is room",
                        e);
            }
        }
        // What was written is what counts, rounding included: a later run gives the same figures.
        lines.stream().map(Row::parse).forEach(row -> rows.put(row.key() + "|" + row.photo(), row));
    }

    private void write(String text) throws IOException {
        ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
        while (bytes.hasRemaining()) {
            channel.write(bytes);
        }
    }

    @Override
    public void close() {
        if (channel != null) {
            try {
                channel.close();
            } catch (IOException e) {
                throw new UsageException(file + ": cannot be closed: " + e.getMessage(), e);
            }
        }
    }
}

package org.comneck.model;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.comneck.UsageException;

/** Maps whole files read-only. */
final class MappedFile {
    private MappedFile() {}

    /** The file's bytes, valid as long as the arena; an empty file gives an empty segment. */
    static MemorySegment map(Path path, Arena arena) {
        if (Files.isDirectory(path)) {
            throw new UsageException(path + " is a folder, not a file");
        }
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            long size = channel.size();
            return size == 0 ? MemorySegment.NULL : channel.map(FileChannel.MapMode.READ_ONLY, 0, size, arena);
        } catch (NoSuchFileException e) {
            throw new UsageException(path + ": no such file", e);
        } catch (AccessDeniedException e) {
            throw new UsageException(path + ": permission denied", e);
        } catch (IOException | UnsupportedOperationException e) {
            throw new UsageException(path + ": cannot be read: " + e.getMessage(), e);
        }
    }
}

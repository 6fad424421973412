package org.comneck.engine;

import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.ThreadLocalRandom;
import org.comneck.UsageException;

/**
 * Writes files whole or not at all: the bytes go to a temporary name beside the target and are moved into place at the end. A failure, or
 * Ctrl-C, leaves nothing behind. Devices and pipes ({@code /dev/stdout}) are written directly.
 */
public final class AtomicOutput {
    private static final int BUFFER_BYTES = 1 << 16;

    private AtomicOutput() {}

    /** Something that writes itself to a stream, which it neither flushes nor closes. */
    @FunctionalInterface
    public interface Content {
        void writeTo(OutputStream out) throws IOException;
    }

    /**
     * Writes a file, replacing one that is there; the target of a symbolic link, where it is one.
     *
     * @throws UsageException when the target cannot be written; its cause is the {@link IOException}
     */
    public static void write(Path target, Content content) {
        try {
            Path real = Files.isSymbolicLink(target) && Files.exists(target) ? target.toRealPath() : target;
            if (Files.isDirectory(real)) {
                throw new IOException("it is a folder; name a file");
            }
            if (Files.exists(real) && !Files.isRegularFile(real, LinkOption.NOFOLLOW_LINKS)) {
                try (OutputStream out = Files.newOutputStream(real, StandardOpenOption.WRITE)) {
                    stream(out, content);
                }
                return;
            }
            replace(real.toAbsolutePath(), content);
        } catch (NoSuchFileException e) {
            throw new UsageException(target + ": cannot be written: its folder does not exist", e);
        } catch (IOException e) {
            throw FileErrors.unwritable(target, e);
        }
    }

    /** {@link #write(Path, Content)} to a stream that stays open; {@code name} is for errors. */
    public static void write(OutputStream out, String name, Content content) {
        try {
            stream(out, content);
        } catch (IOException e) {
            throw FileErrors.unwritable(name, e);
        }
    }

    private static void stream(OutputStream out, Content content) throws IOException {
        BufferedOutputStream buffered = new BufferedOutputStream(out, BUFFER_BYTES);
        content.writeTo(buffered);
        buffered.flush();
    }

    private static void replace(Path target, Content content) throws IOException {
        String suffix = Long.toHexString(ThreadLocalRandom.current().nextLong()) + ".tmp";
        Path temporary = target.resolveSibling("." + target.getFileName() + "." + suffix);
        Unfinished.add(temporary);
        try {
            try (OutputStream out =
                    Files.newOutputStream(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
                stream(out, content);
            }
            try {
                Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
            } catch (AtomicMoveNotSupportedException e) {
                Files.move(temporary, target, StandardCopyOption.REPLACE_EXISTING);
            }
        } finally {
            Files.deleteIfExists(temporary);
            Unfinished.remove(temporary);
        }
    }
}

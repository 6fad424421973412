package org.comneck.engine;

import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import org.comneck.UsageException;

/** What the file system said, in one line for people. The cause stays attached: it tells an I/O error from a wrong option. */
final class FileErrors {
    private FileErrors() {}

    static UsageException unreadable(Path file, IOException e) {
        return new UsageException(file + ": cannot be read: " + reason(e, Files.isDirectory(file)), e);
    }

    static UsageException unwritable(Object target, IOException e) {
        return new UsageException(target + ": cannot be written: " + reason(e, false), e);
    }

    private static String reason(IOException e, boolean folder) {
        if (folder) {
            return "it is a folder";
        }
        return switch (e) {
            case NoSuchFileException missing -> "no such file or folder";
            case AccessDeniedException denied -> "permission denied";
            case FileSystemException other when other.getReason() != null -> other.getReason();
            default -> e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
        };
    }
}

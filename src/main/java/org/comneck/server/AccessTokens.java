package org.comneck.server;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.List;
import org.comneck.UsageException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Bearer tokens from a file, one a line; empty lines and those that begin with {@code #} are left out. Only digests are kept, and every
 * comparison takes the same time, whatever was given. Thread-safe.
 */
final class AccessTokens {
    private static final Logger LOG = LoggerFactory.getLogger(AccessTokens.class);
    private static final String SCHEME = "Bearer ";
    private static final int MAX_TOKEN = 4096;
    private static final int MAX_FILE_BYTES = 1 << 20;

    private final Path file;
    private volatile State state;

    private record State(FileTime modified, long bytes, List<byte[]> digests) {}

    /**
     * Reads the file.
     *
     * @throws UsageException when it cannot be read, or holds no token
     */
    AccessTokens(Path file) {
        this.file = file;
        try {
            this.state = read();
        } catch (IOException e) {
            throw new UsageException(file + ": the tokens cannot be read: " + e.getMessage(), e);
        }
    }

    private State read() throws IOException {
        FileTime modified = Files.getLastModifiedTime(file);
        long bytes = Files.size(file);
        if (bytes > MAX_FILE_BYTES) {
            throw new IOException(bytes + " bytes are too many");
        }
        List<byte[]> digests = Files.readAllLines(file).stream()
                .map(String::strip)
                .filter(line -> !line.isEmpty() && !line.startsWith("#"))
                .map(AccessTokens::digest)
                .toList();
        if (digests.isEmpty()) {
            throw new UsageException(file + " holds no token: one a line");
        }
        return new State(modified, bytes, digests);
    }

    /** Reads the file again when it has changed. One that cannot be read leaves the old tokens valid. */
    void refresh() {
        try {
            State known = state;
            if (!Files.getLastModifiedTime(file).equals(known.modified()) || Files.size(file) != known.bytes()) {
                state = read();
                LOG.info("tokens read again: {}", state.digests().size());
            }
        } catch (IOException | UsageException e) {
            LOG.warn("tokens not read again, the old ones stay: {}", e.getMessage());
        }
    }

    /** @param authorization value of the header, or null */
    boolean allows(String authorization) {
        if (authorization == null
                || authorization.length() > MAX_TOKEN
                || !authorization.regionMatches(true, 0, SCHEME, 0, SCHEME.length())) {
            return false;
        }
        return allowsToken(authorization.substring(SCHEME.length()).strip());
    }

    /** The token alone. */
    boolean allowsToken(String token) {
        byte[] given = digest(token);
        boolean found = false;
        for (byte[] digest : state.digests()) {
            found |= MessageDigest.isEqual(digest, given);
        }
        return found;
    }

    private static byte[] digest(String token) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(token.getBytes(StandardCharsets.UTF_8));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}

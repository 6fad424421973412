package org.comneck.model;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Assumptions;

/** Fixtures beside the checkout; a test that needs them is skipped where they are not. */
final class SharedFolder {
    private SharedFolder() {}

    static Path path(String relative) {
        Path path = Path.of(System.getProperty("comneck.shared", "../shared")).resolve(relative);
        Assumptions.assumeTrue(Files.exists(path), "skipped: no " + relative + " in the shared folder");
        return path;
    }
}

package org.comneck.train;

import java.nio.file.Path;

/** Run folder to model file. */
final class ModelExport {
    private ModelExport() {}

    static void write(Recipe recipe, Path data, Path runFolder, Path target) {
        throw new UnsupportedOperationException("later");
    }
}

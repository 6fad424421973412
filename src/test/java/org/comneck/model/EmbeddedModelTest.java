package org.comneck.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.comneck.UsageException;
import org.junit.jupiter.api.Test;

class EmbeddedModelTest {
    /** A build without model says so; a build with one has a whole one, whose stored identity is the one of its tensors. */
    @Test
    void embeddedModelIsWholeOrItsAbsenceIsExplained() {
        if (!ModelFile.hasEmbedded()) {
            String message =
                    assertThrows(UsageException.class, ModelFile::openEmbedded).getMessage();
            assertTrue(message.contains("--model") && message.contains("comneck import"), message);
            return;
        }
        try (ModelFile model = ModelFile.openEmbedded()) {
            assertNotNull(model.manifest().codec());
            assertNotNull(model.manifest().neck());
            assertNotNull(model.manifest().encoder());
            assertArrayEquals(model.computeIdentity(), model.identity());
        }
    }
}

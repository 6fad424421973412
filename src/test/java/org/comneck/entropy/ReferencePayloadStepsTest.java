package org.comneck.entropy;

import org.comneck.backend.Backend;
import org.comneck.backend.reference.ReferenceBackend;

class ReferencePayloadStepsTest extends PayloadStepsTest {
    @Override
    Backend backend() {
        return new ReferenceBackend(1);
    }
}

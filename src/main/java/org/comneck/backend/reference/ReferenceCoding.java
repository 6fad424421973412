package org.comneck.backend.reference;

import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.RansEncoder;

/** Where payloads meet the reference backend. */
final class ReferenceCoding {
    private ReferenceCoding() {}

    static Backend.Tables tables(CodingTables tables) {
        throw new UnsupportedOperationException("coding tables");
    }

    static RansEncoder encoder() {
        throw new UnsupportedOperationException("rANS encoder");
    }
}

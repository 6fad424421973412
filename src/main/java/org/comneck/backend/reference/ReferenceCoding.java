package org.comneck.backend.reference;

import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.RansDecoder;
import org.comneck.backend.RansEncoder;

/** Where payloads meet the reference backend. */
final class ReferenceCoding {
    private ReferenceCoding() {}

    static Backend.Tables tables(CodingTables tables) {
        return new ReferenceTables(tables);
    }

    static RansEncoder encoder() {
        return new ReferenceRansEncoder();
    }

    static RansDecoder decoder() {
        return new ReferenceRansDecoder();
    }
}

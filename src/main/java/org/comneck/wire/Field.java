package org.comneck.wire;

/**
 * What the fields of frames say. A tag below 32,768 that a reader does not know makes the frame an error; one above is passed over.
 * docs/protocol.md says what each holds.
 */
enum Field {
    LOWEST_VERSION(1),
    AGENT(2),
    ACCESS_TOKEN(3),
    MAX_BODY(4),
    MAX_IMAGES(5),
    MAX_PIXELS(6),
    IDLE_MILLIS(7),
    MODEL(8),

    MODEL_NAME(16),
    LAYER(17),
    SELECT(18),
    POST_NORM(19),
    PROJECTED(20),
    ELEMENT_TYPE(21),

    SIZE(32),
    IDENTITY(33),
    QUEUE_MICROS(34),
    TOTAL_MICROS(35),

    REASON(48),
    RETRY_AFTER(49),
    OFFSET(50),
    TEXT(51),

    TRACE_PARENT(0x8001);

    /** Tags from here on may be passed over. */
    static final int OPTIONAL = 0x8000;

    private final int tag;

    Field(int tag) {
        this.tag = tag;
    }

    int tag() {
        return tag;
    }
}

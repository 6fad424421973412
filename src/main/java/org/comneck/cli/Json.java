package org.comneck.cli;

import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import org.comneck.tensor.Shape;

/** JSON lines for other programs. */
final class Json {
    private static final JsonMapper MAPPER = new JsonMapper();

    private Json() {}

    static ObjectNode object() {
        return MAPPER.createObjectNode();
    }

    static ObjectNode shape(ObjectNode node, String field, Shape shape) {
        var array = node.putArray(field);
        for (long size : shape.toArray()) {
            array.add(size);
        }
        return node;
    }
}

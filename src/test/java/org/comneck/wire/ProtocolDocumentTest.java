package org.comneck.wire;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.vision.VisionEncoder;
import org.junit.jupiter.api.Test;

/** The annotated conversation of docs/protocol.md is what we read and what we write, and its tables are those of the code. */
class ProtocolDocumentTest {
    private static final Path DOCUMENT = Path.of("docs", "protocol.md");

    private static List<String> conversation() throws IOException {
        String block = Files.readString(DOCUMENT).split("```hex\n")[1].split("```")[0];
        List<String> frames = new ArrayList<>();
        StringBuilder hex = new StringBuilder();
        for (String line : block.lines().toList()) {
            if (line.isBlank()) {
                frames.add(hex.toString());
                hex.setLength(0);
            } else {
                hex.append(hex.isEmpty() ? line.substring(0, 1) : "")
                        .append(line.substring(2).split("   ")[0].replace(" ", ""));
            }
        }
        frames.add(hex.toString());
        return frames;
    }

    @Test
    void theConversationIsReadAndWritten() throws IOException {
        List<Message> messages = new ArrayList<>();
        for (String text : conversation()) {
            byte[] bytes = HexFormat.of().parseHex(text.substring(1));
            List<Frame> frames = Samples.frames(Samples.reader(), ByteBuffer.wrap(bytes));
            assertEquals(1, frames.size(), text);
            assertTrue(frames.getFirst().intact(), text);
            Message message =
                    text.startsWith(">") ? Message.ofClient(frames.getFirst()) : Message.ofServer(frames.getFirst());
            assertEquals(text.substring(1), Samples.text(message).toUpperCase());
            messages.add(message);
        }
        assertEquals(9, messages.size());
        assertEquals(new Message.ClientHello(1, 1, "me", null), messages.get(0));
        Message.ServerHello hello = (Message.ServerHello) messages.get(1);
        assertEquals(64, hello.credits());
        assertEquals(300_000, hello.idleMillis());
        assertEquals("tiny/1", hello.models().getFirst().name());
        Message.Request request = (Message.Request) messages.get(2);
        assertEquals(20_000, request.deadlineMicros());
        assertEquals(RequestOptions.DEFAULT.withLayer(-2).withSelect(VisionEncoder.Tokens.CLS), request.options());
        assertEquals(RequestOptions.DEFAULT, ((Message.Request) messages.get(3)).options());
        assertEquals(new Message.Cancel(2), messages.get(4));
        assertEquals(new Message.Failure(2, 1, Reason.CANCELLED, -1, "cancelled"), messages.get(5));
        Message.Answer answer = (Message.Answer) messages.get(6);
        assertEquals(ElementType.F16, answer.type());
        assertEquals(Shape.of(1, 2), answer.shape());
        assertArrayEquals(hello.models().getFirst().identity(), answer.identity());
        assertEquals(3, ((Message.Request) messages.get(7)).id());
        assertEquals(new Message.Failure(3, 1, Reason.DAMAGED_DATA, 24, "damaged"), messages.get(8));
    }

    @Test
    void theTablesAreThoseOfTheCode() throws IOException {
        String document = Files.readString(DOCUMENT);
        for (FrameType type : FrameType.values()) {
            assertTrue(document.contains("| " + type.code() + " | " + type + " |"), type.toString());
        }
        for (Reason reason : Reason.values()) {
            assertTrue(document.contains("| " + reason.code() + " | " + reason + " |"), reason.toString());
        }
        for (Field field : Field.values()) {
            assertTrue(document.contains("\n| " + field.tag() + " | "), field.toString());
        }
    }
}

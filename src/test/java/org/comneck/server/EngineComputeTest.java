package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.engine.EncodeOptions;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.model.Progress;
import org.comneck.model.SeededModel;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;
import org.comneck.vision.VisionEncoder;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** What the scheduler answers with a real engine: the bits of a call without server, whatever else is in the batch. */
@ExtendWith(LeakCheck.class)
class EngineComputeTest {
    private static final EncodeOptions FULL = EncodeOptions.DEFAULT.withFull(true);
    private static final Path PHOTO = Path.of("docs", "photo.jpg");

    @TempDir
    static Path folder;

    private static NativeEngine alone;
    private static Models models;
    private static Scheduler scheduler;
    private static final Metrics METRICS = new Metrics();

    @BeforeAll
    static void start() {
        Path file = folder.resolve("tiny.safetensors");
        SeededModel.named(SeededModel.TINY).write(file, Progress.NONE);
        alone = NativeEngine.open(file);
        models = Models.file(file, EngineOptions.DEFAULT);
        // Requests wait for each other, so that batches are what the test says.
        Batching batching = Batching.DEFAULT.withDelayMicros(300_000);
        scheduler = new Scheduler(
                models, batching, Limits.DEFAULT, METRICS, new EngineCompute(Limits.DEFAULT, batching, METRICS));
    }

    @AfterAll
    static void stop() {
        scheduler.close();
        models.close();
        alone.close();
    }

    private static CompletableFuture<Answer> submit(TokenRequest request) {
        CompletableFuture<Answer> answer = new CompletableFuture<>();
        assertInstanceOf(
                Submission.Accepted.class, scheduler.submit(request, (result, timing) -> answer.complete(result)));
        return answer;
    }

    private static TokenRequest request(TokenRequest.Kind kind, TokenChoice choice, byte[] body) {
        ByteBuf direct = Unpooled.directBuffer(body.length).writeBytes(body);
        return new TokenRequest(
                kind, "r", null, null, null, choice, EncodeOptions.DEFAULT, 5, TokenRequest.NO_DEADLINE, direct);
    }

    private static CompletableFuture<Answer> tokens(byte[] body, TokenChoice choice) {
        return submit(request(TokenRequest.Kind.TOKENS, choice, body));
    }

    private static byte[] data(CompletableFuture<Answer> future) throws Exception {
        Answer.Tokens answer = assertInstanceOf(Answer.Tokens.class, future.get(30, TimeUnit.SECONDS));
        byte[] bytes = ByteBufUtil.getBytes(answer.data());
        answer.release();
        return bytes;
    }

    private static Answer.Failure failure(CompletableFuture<Answer> future) throws Exception {
        return assertInstanceOf(Answer.Failure.class, future.get(30, TimeUnit.SECONDS));
    }

    private static byte[] bytes(Tensor tensor) {
        return tensor.data().toArray(java.lang.foreign.ValueLayout.JAVA_BYTE);
    }

    @Test
    void bitsDoNotDependOnTheBatch() throws Exception {
        Photo photo = Photo.read(PHOTO);
        List<byte[]> bitstreams = new ArrayList<>();
        for (int i = 0; i < 7; i++) {
            // Two sizes, seven pictures.
            Photo crop = photo.crop(8 * i, 4 * i, i % 3 == 2 ? 128 : 64, 64);
            bitstreams.add(alone.encode(List.of(crop), FULL));
        }
        TokenChoice f32 = TokenChoice.DEFAULT.withType(ElementType.F32);
        byte[] damaged = bitstreams.get(3).clone();
        damaged[damaged.length - 5] ^= 1;
        List<CompletableFuture<Answer>> answers = new ArrayList<>();
        for (byte[] bitstream : bitstreams) {
            answers.add(tokens(bitstream, f32));
        }
        CompletableFuture<Answer> wrong = tokens(damaged, f32);
        for (int i = 0; i < bitstreams.size(); i++) {
            assertArrayEquals(bytes(alone.tokens(bitstreams.get(i))), data(answers.get(i)), "picture " + i);
        }
        Answer.Failure failure = failure(wrong);
        assertEquals(Reason.DAMAGED, failure.reason());
        assertEquals(Container.HEADER_BYTES, failure.offset(), "where the image that is damaged begins");
        assertEquals(true, METRICS.histograms("comneck_batch_images").get("").sum() >= 7);
    }

    @Test
    void aBitstreamOfSeveralImagesBecomesOneArray() throws Exception {
        Photo photo = Photo.read(PHOTO);
        byte[] bitstream = alone.encode(List.of(photo.crop(0, 0, 64, 64), photo.crop(64, 64, 64, 64)), FULL);
        CompletableFuture<Answer> answer = tokens(bitstream, TokenChoice.DEFAULT.withType(ElementType.F32));
        Answer.Tokens tokens = assertInstanceOf(Answer.Tokens.class, answer.get(30, TimeUnit.SECONDS));
        List<Tensor> expected = alone.tokens(alone.read(bitstream), alone.defaultTokens());
        assertEquals(
                "[2," + expected.getFirst().shape().toString().substring(1),
                tokens.shape().toString());
        byte[] all = data(answer);
        for (int i = 0; i < 2; i++) {
            byte[] one = bytes(expected.get(i));
            assertArrayEquals(one, java.util.Arrays.copyOfRange(all, i * one.length, (i + 1) * one.length));
        }
    }

    @Test
    void optionsArriveAndHalvesAreRounded() throws Exception {
        byte[] bitstream = alone.encode(List.of(Photo.read(PHOTO).crop(0, 0, 64, 64)), FULL);
        TokenChoice choice =
                new TokenChoice(-1, VisionEncoder.Tokens.CLS, VisionEncoder.PostNorm.ONCE, null, ElementType.F16);
        float[] expected =
                alone.tokens(bitstream, choice.over(alone.defaultTokens())).toFloats();
        byte[] halves = data(tokens(bitstream, choice));
        assertEquals(2 * expected.length, halves.length);
        for (int i = 0; i < expected.length; i++) {
            short bits = (short) (halves[2 * i] & 0xFF | halves[2 * i + 1] << 8);
            assertEquals(Float.floatToFloat16(expected[i]), bits, "element " + i);
        }
        TokenChoice impossible = new TokenChoice(99, null, null, null, ElementType.F16);
        assertEquals(Reason.BAD_REQUEST, failure(tokens(bitstream, impossible)).reason());
    }

    @Test
    void photosAreTakenWhereBitstreamsAre() throws Exception {
        byte[] jpeg = Files.readAllBytes(PHOTO);
        byte[] expected = alone.encode(Photo.read(PHOTO));
        CompletableFuture<Answer> coded = submit(request(TokenRequest.Kind.ENCODE, TokenChoice.DEFAULT, jpeg));
        Answer.Bitstream bitstream = assertInstanceOf(Answer.Bitstream.class, coded.get(60, TimeUnit.SECONDS));
        assertArrayEquals(expected, ByteBufUtil.getBytes(bitstream.data()));
        bitstream.release();
        byte[] tokens = data(tokens(jpeg, TokenChoice.DEFAULT.withType(ElementType.F32)));
        assertArrayEquals(bytes(alone.tokens(expected)), tokens);
        Answer picture = submit(request(TokenRequest.Kind.DECODE, TokenChoice.DEFAULT, expected))
                .get(30, TimeUnit.SECONDS);
        byte[] png = ByteBufUtil.getBytes(
                assertInstanceOf(Answer.Picture.class, picture).png());
        picture.release();
        assertArrayEquals(
                alone.decode(expected).rgb(), Photo.read("png", png, 1 << 20).rgb());
    }

    @Test
    void wrongBodiesAreTypedFailures() throws Exception {
        assertEquals(
                Reason.BAD_REQUEST,
                failure(tokens(new byte[] {1, 2, 3}, TokenChoice.DEFAULT)).reason());
        assertEquals(
                Reason.DAMAGED,
                failure(tokens(new byte[] {(byte) 0xFF, (byte) 0xD8, (byte) 0xFF, 0}, TokenChoice.DEFAULT))
                        .reason());
        byte[] other = alone.encode(List.of(Photo.read(PHOTO).crop(0, 0, 64, 64)), FULL);
        other[9] ^= 1;
        assertEquals(
                Reason.OTHER_MODEL, failure(tokens(other, TokenChoice.DEFAULT)).reason());
    }

    /** A bitstream whose checksums hold and whose payload is none: the decoder finds it. */
    @Test
    void damageThatOnlyTheDecoderFindsIsInTheFileToo() throws Exception {
        byte[] two = alone.encode(
                List.of(Photo.read(PHOTO).crop(0, 0, 64, 64), Photo.read(PHOTO).crop(64, 0, 64, 64)), FULL);
        Container container = alone.read(two);
        CodedImage good = container.image(0);
        CodedImage bad = container.image(1);
        byte[] payload = bad.payload().toArray(java.lang.foreign.ValueLayout.JAVA_BYTE);
        payload[payload.length / 2] ^= 0x55;
        CodedImage changed = new CodedImage(
                bad.width(),
                bad.height(),
                bad.paddedWidth(),
                bad.paddedHeight(),
                bad.quality(),
                bad.prepared(),
                bad.symbolChecksum(),
                MemorySegment.ofArray(payload));
        byte[] file = new Container(container.profile(), container.identity(), List.of(good, changed)).toByteArray();
        Answer.Failure failure = failure(tokens(file, TokenChoice.DEFAULT));
        assertEquals(Reason.DAMAGED, failure.reason());
        assertTrue(
                failure.offset() == -1 || failure.offset() >= file.length - payload.length,
                failure + " of " + file.length + " bytes, " + payload.length + " of them the payload");
        assertEquals(failure.offset() >= 0, failure.message().contains("of the payload, at byte"), failure.message());
    }

    @Test
    void answersThatWouldBeTooLongAreRefusedBeforeTheyAreComputed() throws Exception {
        Limits limits = Limits.DEFAULT.withAnswerBytes(1000);
        Metrics metrics = new Metrics();
        byte[] bitstream = alone.encode(List.of(Photo.read(PHOTO).crop(0, 0, 128, 64)), FULL);
        try (Scheduler small = new Scheduler(
                models, Batching.DEFAULT, limits, metrics, new EngineCompute(limits, Batching.DEFAULT, metrics))) {
            for (TokenChoice choice : List.of(
                    TokenChoice.DEFAULT,
                    new TokenChoice(null, VisionEncoder.Tokens.CLS, null, null, ElementType.F16))) {
                CompletableFuture<Answer> answer = new CompletableFuture<>();
                small.submit(
                        request(TokenRequest.Kind.TOKENS, choice, bitstream),
                        (result, timing) -> answer.complete(result));
                if (choice == TokenChoice.DEFAULT) {
                    Answer.Failure failure = failure(answer);
                    assertEquals(Reason.TOO_LARGE, failure.reason());
                    assertTrue(failure.message().contains("over the limit of 1000"), failure.message());
                } else {
                    assertTrue(data(answer).length <= 1000);
                }
            }
        }
        assertEquals(1, metrics.histograms("comneck_batch_images").get("").count());
    }
}

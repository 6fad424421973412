package org.comneck.server;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.Unpooled;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.comneck.backend.Precision;
import org.comneck.backend.cuda.EmulatedCuda;
import org.comneck.engine.EncodeOptions;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.model.Progress;
import org.comneck.model.SeededModel;
import org.comneck.tensor.ElementType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** The server's batches on the cuda backend, which is the emulation here: bits of a call without server, whatever is beside a picture. */
@ExtendWith(LeakCheck.class)
@SuppressWarnings("try") // the device is there for its scope
class ServingOnCudaTest {
    private static final int PICTURES = 5;

    @TempDir
    Path folder;

    @Test
    void bitsDoNotDependOnTheBatch() throws Exception {
        Path file = folder.resolve("tiny.safetensors");
        SeededModel.named(SeededModel.TINY).write(file, Progress.NONE);
        Photo photo = Photo.read(Path.of("docs", "photo.jpg"));
        List<byte[]> bitstreams = new ArrayList<>();
        List<byte[]> expected = new ArrayList<>();
        try (NativeEngine processor = NativeEngine.open(file, EngineOptions.DEFAULT.withBackend("cpu"))) {
            for (int i = 0; i < PICTURES; i++) {
                byte[] bitstream = processor.encode(
                        List.of(photo.crop(8 * i, 4 * i, 64, 64)), EncodeOptions.DEFAULT.withFull(true));
                bitstreams.add(bitstream);
                expected.add(processor.tokens(bitstream).data().toArray(ValueLayout.JAVA_BYTE));
            }
        }
        try (EmulatedCuda.AsTheDevice device = new EmulatedCuda.AsTheDevice()) {
            EngineOptions cuda = EngineOptions.DEFAULT.withBackend("cuda");
            // Batches of up to three, two of them under way at once.
            Batching batching = new Batching(3, 300_000, 256, 1 << 20, 2, 1);
            List<byte[]> together = serve(file, cuda, batching, bitstreams);
            for (int i = 0; i < PICTURES; i++) {
                assertArrayEquals(expected.get(i), together.get(i), "picture " + i);
            }
            // In bf16 the device's bits are its own, and still the same in every batch.
            EngineOptions fast = cuda.withPrecision(Precision.BF16);
            List<byte[]> batched = serve(file, fast, batching, bitstreams);
            try (NativeEngine engine = NativeEngine.open(file, fast)) {
                for (int i = 0; i < PICTURES; i++) {
                    byte[] alone = engine.tokens(bitstreams.get(i)).data().toArray(ValueLayout.JAVA_BYTE);
                    assertArrayEquals(alone, batched.get(i), "picture " + i);
                }
            }
        }
    }

    /** Tokens of all, asked for at once, and one damaged bitstream among them. */
    private static List<byte[]> serve(Path file, EngineOptions options, Batching batching, List<byte[]> bitstreams)
            throws Exception {
        Metrics metrics = new Metrics();
        List<byte[]> tokens = new ArrayList<>();
        try (Models models = Models.file(file, options);
                Scheduler scheduler = new Scheduler(
                        models,
                        batching,
                        Limits.DEFAULT,
                        metrics,
                        new EngineCompute(Limits.DEFAULT, batching, metrics))) {
            byte[] damaged = bitstreams.get(1).clone();
            damaged[damaged.length - 5] ^= 1;
            List<CompletableFuture<Answer>> answers = new ArrayList<>();
            answers.add(submit(scheduler, bitstreams.getFirst()));
            CompletableFuture<Answer> wrong = submit(scheduler, damaged);
            for (byte[] bitstream : bitstreams.subList(1, bitstreams.size())) {
                answers.add(submit(scheduler, bitstream));
            }
            for (CompletableFuture<Answer> future : answers) {
                Answer.Tokens answer = assertInstanceOf(Answer.Tokens.class, future.get(60, TimeUnit.SECONDS));
                tokens.add(ByteBufUtil.getBytes(answer.data()));
                answer.release();
            }
            Answer.Failure failure = assertInstanceOf(Answer.Failure.class, wrong.get(60, TimeUnit.SECONDS));
            assertEquals(Reason.DAMAGED, failure.reason());
            Metrics.Histogram batches =
                    metrics.histograms("comneck_batch_images").get("");
            assertTrue(batches.sum() > batches.count(), "no batch of several: " + batches.sum());
        }
        return tokens;
    }

    private static CompletableFuture<Answer> submit(Scheduler scheduler, byte[] bitstream) {
        CompletableFuture<Answer> answer = new CompletableFuture<>();
        TokenRequest request = new TokenRequest(
                TokenRequest.Kind.TOKENS,
                "r",
                null,
                null,
                null,
                TokenChoice.DEFAULT.withType(ElementType.F32),
                EncodeOptions.DEFAULT,
                5,
                TokenRequest.NO_DEADLINE,
                Unpooled.directBuffer(bitstream.length).writeBytes(bitstream));
        assertInstanceOf(
                Submission.Accepted.class, scheduler.submit(request, (result, timing) -> answer.complete(result)));
        return answer;
    }
}

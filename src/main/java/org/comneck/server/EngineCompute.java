package org.comneck.server;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufAllocator;
import io.netty.buffer.ByteBufOutputStream;
import io.netty.buffer.Unpooled;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.bitstream.CodedImage;
import org.comneck.bitstream.Container;
import org.comneck.engine.Classification;
import org.comneck.engine.EncodeOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.engine.Photo;
import org.comneck.engine.PreparedTokens;
import org.comneck.engine.TokenOptions;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Rounding;
import org.comneck.tensor.Shape;

/** Computes with {@link NativeEngine}. Images of equal size and options share a run; a damaged one harms nobody else. */
final class EngineCompute implements Compute {
    private final Limits limits;
    private final int mostImages;
    private final Metrics.Histogram encodeSeconds;
    private final Metrics.Histogram readSeconds;
    private final Metrics.Histogram tokensSeconds;
    private final Metrics.Histogram formatSeconds;
    private final Metrics.Histogram runImages;

    EngineCompute(Limits limits, Batching batching, Metrics metrics) {
        this.limits = limits;
        this.mostImages = batching.images();
        String stages = "Time that requests spend in each stage.";
        this.encodeSeconds = metrics.seconds("comneck_stage_seconds", stages, "stage", "encode");
        this.readSeconds = metrics.seconds("comneck_stage_seconds", stages, "stage", "read");
        this.tokensSeconds = metrics.seconds("comneck_stage_seconds", stages, "stage", "tokens");
        this.formatSeconds = metrics.seconds("comneck_stage_seconds", stages, "stage", "format");
        this.runImages = metrics.histogram("comneck_batch_images", "Images computed together.", Metrics.BATCH);
    }

    @Override
    public void prepare(Work work) {
        ByteBuf body = work.request().body();
        byte[] bytes = new byte[body.readableBytes()];
        body.getBytes(body.readerIndex(), bytes);
        work.photo(Photo.read("the photo", bytes, limits.photoPixels()));
    }

    /** An image of a request. */
    private static final class Item {
        private final Tokens owner;
        private final int index;
        private final CodedImage image;

        private Item(Tokens owner, int index, CodedImage image) {
            this.owner = owner;
            this.index = index;
            this.image = image;
        }
    }

    /** A request for tokens on its way. */
    private static final class Tokens {
        private final Work work;
        private final TokenOptions options;
        private final Container container;
        private ByteBuf data;
        private Shape shape;
        private int missing;

        private Tokens(Work work, TokenOptions options, Container container) {
            this.work = work;
            this.options = options;
            this.container = container;
            this.missing = container.size();
        }

        private void drop() {
            if (data != null) {
                data.release();
                data = null;
            }
        }
    }

    /** What images must share to be computed together. */
    private record Group(int width, int height, TokenOptions options) {}

    @Override
    public void compute(List<Work> batch) {
        switch (batch.getFirst().request().kind()) {
            case TOKENS -> tokens(batch);
            case ENCODE -> each(batch, work -> work.answer(new Answer.Bitstream(Unpooled.wrappedBuffer(encode(work)))));
            case DECODE -> each(batch, this::decode);
            case CLASSIFY -> each(batch, this::classify);
        }
    }

    private interface One {
        void compute(Work work) throws IOException;
    }

    private static void each(List<Work> batch, One one) {
        for (Work work : batch) {
            if (work.goesOn()) {
                try {
                    one.compute(work);
                } catch (IOException | RuntimeException | OutOfMemoryError e) {
                    Scheduler.fail(work, e);
                }
            }
        }
    }

    private byte[] encode(Work work) {
        Photo photo = work.photo();
        if (photo == null) {
            throw new UsageException("the body is not a JPEG, PNG or WebP photo");
        }
        EncodeOptions options = work.request().encode();
        if (options.full()
                && (long) CodedImage.padded(photo.width()) * CodedImage.padded(photo.height()) > limits.pixels()) {
            throw new UsageException("the photo has " + photo.width() + "x" + photo.height()
                    + " pixels; encoding every pixel is limited to " + limits.pixels());
        }
        long start = System.nanoTime();
        byte[] bitstream = work.model().engine().encode(List.of(photo), options);
        encodeSeconds.recordNanos(System.nanoTime() - start);
        return bitstream;
    }

    /** The bitstream that a body is, or that its photo becomes; null when it is another model's, which has been answered. */
    private Container container(Work work) {
        NativeEngine engine = work.model().engine();
        MemorySegment bytes;
        if (work.photo() != null) {
            bytes = MemorySegment.ofArray(encode(work));
        } else {
            ByteBuf body = work.request().body();
            bytes = MemorySegment.ofBuffer(body.nioBuffer());
            if (!Container.looksLikeOne(bytes)) {
                throw new UsageException("the body is neither a ComNeck bitstream nor a JPEG, PNG or WebP photo");
            }
        }
        long start = System.nanoTime();
        Container container = Container.read(bytes, limits.bitstream());
        try {
            engine.requireModel(container);
        } catch (UsageException e) {
            work.fail(Reason.OTHER_MODEL, e.getMessage());
            return null;
        }
        readSeconds.recordNanos(System.nanoTime() - start);
        return container;
    }

    private void decode(Work work) throws IOException {
        Container container = container(work);
        if (container == null) {
            return;
        }
        if (container.size() != 1) {
            throw new UsageException("the bitstream holds " + container.size() + " images; send one at a time");
        }
        if (!work.goesOn()) {
            return;
        }
        Photo photo = work.model().engine().decode(container).getFirst();
        ByteBuf png = ByteBufAllocator.DEFAULT.buffer();
        try (ByteBufOutputStream out = new ByteBufOutputStream(png)) {
            photo.writePng(out);
        } catch (IOException | RuntimeException | OutOfMemoryError e) {
            png.release();
            throw e;
        }
        work.answer(new Answer.Picture(png, photo.width(), photo.height()));
    }

    private void classify(Work work) {
        Container container = container(work);
        if (container == null || !work.goesOn()) {
            return;
        }
        List<List<Classification>> classes =
                work.model().engine().classify(container, work.request().classes());
        work.answer(new Answer.Classes(classes));
    }

    // ---------------------------------------------------------------- tokens

    private void tokens(List<Work> batch) {
        Map<Group, List<Item>> groups = new LinkedHashMap<>();
        for (Work work : batch) {
            if (!work.goesOn()) {
                continue;
            }
            try {
                NativeEngine engine = work.model().engine();
                TokenOptions options = work.request().tokens().over(engine.defaultTokens());
                engine.checkTokens(options);
                Container container = container(work);
                if (container == null) {
                    continue;
                }
                Tokens owner = new Tokens(work, options, container);
                List<Item> items = new ArrayList<>();
                for (int i = 0; i < owner.container.size(); i++) {
                    items.add(new Item(owner, i, owner.container.image(i)));
                }
                for (Item item : items) {
                    groups.computeIfAbsent(
                                    new Group(item.image.paddedWidth(), item.image.paddedHeight(), options),
                                    key -> new ArrayList<>())
                            .add(item);
                }
            } catch (RuntimeException | OutOfMemoryError e) {
                Scheduler.fail(work, e);
            }
        }
        groups.forEach((group, items) -> {
            while (true) {
                items.removeIf(item -> !wanted(item.owner));
                if (items.isEmpty()) {
                    return;
                }
                // Sizes of batches are powers of two, so that few runs are kept prepared.
                int count = Integer.highestOneBit(Math.min(items.size(), together(group)));
                List<Item> images = List.copyOf(items.subList(0, count));
                items.subList(0, count).clear();
                try {
                    run(group, images);
                } catch (RuntimeException | OutOfMemoryError e) {
                    images.forEach(item -> fail(item.owner, e));
                }
            }
        });
    }

    /** Between stages. */
    private static boolean wanted(Tokens owner) {
        boolean wanted = owner.work.goesOn();
        if (!wanted) {
            owner.drop();
        }
        return wanted;
    }

    /** Most images of a size that are computed together: their memory is what bounds it. */
    private int together(Group group) {
        long pixels = (long) group.width * group.height;
        return Math.clamp(limits.pixels() / pixels, 1, mostImages);
    }

    private void run(Group group, List<Item> images) {
        NativeEngine engine = images.getFirst().owner.work.model().engine();
        long start = System.nanoTime();
        try (PreparedTokens run = engine.prepareTokens(images.size(), group.width, group.height, group.options)) {
            images.forEach(item -> checkAnswer(item.owner, run.shape()));
            if (images.stream().allMatch(item -> item.owner.work.isAnswered())) {
                return;
            }
            for (int b = 0; b < images.size(); b++) {
                run.set(b, images.get(b).image);
            }
            run.execute();
            runImages.record(images.size());
            long computed = System.nanoTime();
            tokensSeconds.recordNanos(computed - start);
            for (int b = 0; b < images.size(); b++) {
                Item item = images.get(b);
                DamagedDataException damage = run.damage(b);
                if (damage != null) {
                    damaged(item, damage);
                } else if (!item.owner.work.isAnswered()) {
                    store(item, run.shape(), run.tokens(b));
                }
            }
            formatSeconds.recordNanos(System.nanoTime() - computed);
        }
    }

    /** Before anything is computed or allocated for it. */
    private void checkAnswer(Tokens owner, Shape shape) {
        long bytes = shape.elements() * owner.work.request().tokens().type().bytes() * owner.container.size();
        if (bytes > limits.answerBytes() && !owner.work.isAnswered()) {
            owner.drop();
            owner.work.fail(
                    Reason.TOO_LARGE,
                    "an answer of " + bytes + " bytes is over the limit of " + limits.answerBytes()
                            + ": send fewer images at a time, or ask for f16");
        }
    }

    /** The decoder counts from where the payload begins; the client knows only the bitstream. */
    private static void damaged(Item item, DamagedDataException damage) {
        Tokens owner = item.owner;
        long first =
                owner.container.image(0).payload().address() - Container.HEADER_BYTES - Container.IMAGE_HEADER_BYTES;
        long payload = item.image.payload().address() - first;
        boolean photo = owner.work.photo() != null; // then nobody has seen the bitstream
        owner.drop();
        owner.work.fail(
                Reason.DAMAGED,
                damage.getMessage().replace(" (at byte ", " (of the payload, at byte "),
                photo || damage.offset() < 0 ? -1 : payload + damage.offset());
    }

    private static void fail(Tokens owner, Throwable error) {
        owner.drop();
        Scheduler.fail(owner.work, error);
    }

    /** Puts the tokens of an image in their place, and answers when it was the last. */
    private static void store(Item item, Shape shape, MemorySegment tokens) {
        Tokens owner = item.owner;
        ElementType type = owner.work.request().tokens().type();
        int images = owner.container.size();
        long elements = shape.elements();
        int bytes = Math.toIntExact(elements * type.bytes());
        if (owner.data == null) {
            int all = Math.multiplyExact(bytes, images);
            owner.shape = shape;
            owner.data = ByteBufAllocator.DEFAULT.directBuffer(all, all).writerIndex(all);
        } else if (!owner.shape.equals(shape)) {
            fail(
                    owner,
                    new UsageException(
                            "the images of the bitstream have different sizes, so their tokens form no array"));
            return;
        }
        MemorySegment to = MemorySegment.ofBuffer(owner.data.nioBuffer(item.index * bytes, bytes));
        Rounding.round(tokens.asSlice(0, 4 * elements), type, to);
        if (--owner.missing == 0) {
            ByteBuf data = owner.data;
            owner.data = null;
            owner.work.answer(new Answer.Tokens(
                    type,
                    images == 1 ? shape : Shape.of(images, shape.size(0), shape.size(1)),
                    data,
                    owner.container.identity(),
                    owner.work.model().version(),
                    owner.options.layer()));
        }
    }
}

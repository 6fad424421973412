package org.comneck.train;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.bytedeco.pytorch.Tensor;
import org.comneck.InternalException;
import org.comneck.engine.Photo;

/**
 * Batches of views of photos, read and cut ahead on background threads. Batch i depends on the seed, i and its size alone: not on threads, nor
 * on which batches were asked for before.
 *
 * <p>Photos come in epochs: each is shown once in an order drawn anew, then all again. One that cannot be used is replaced by another.
 *
 * <p>Recipe keys: {@code seed}; {@code data.threads}, 0 to work on the caller's thread; {@code augment.flip}, {@code augment.brightness},
 * {@code augment.contrast}, {@code augment.saturation}, {@code augment.grey}.
 */
final class PhotoBatches implements AutoCloseable {
    /** Batches made ahead. */
    private static final int AHEAD = 4;

    /** Chooses what to show of a photo. */
    @FunctionalInterface
    interface Cut {
        /** A view, or null when the photo is too small for it. */
        Photos.View of(Photo photo, int side, SplittableRandom random);
    }

    /**
     * Views (count,3,side,side), planes R, G, B in [0,1].
     *
     * @param photos which photo each view is of, indices into the {@link Photos}
     */
    record Batch(int count, int side, float[] pixels, int[] photos) {
        Tensor tensor() {
            return Ops.of(pixels, count, 3, side, side);
        }
    }

    private record Pending(int count, int side, Future<Batch> batch) {}

    private final Photos photos;
    private final Cut cut;
    private final long seed;
    private final boolean flip;
    private final ColourJitter jitter;
    private final ExecutorService threads;
    private final Map<Long, Pending> pending = new LinkedHashMap<>();
    private final Map<Long, int[]> orders = new LinkedHashMap<>();

    PhotoBatches(Recipe recipe, Photos photos, Cut cut) {
        this.photos = photos;
        this.cut = cut;
        this.seed = recipe.integer("seed", 1);
        this.flip = recipe.flag("augment.flip", true);
        this.jitter = ColourJitter.of(recipe);
        int count = recipe.integer("data.threads", 2);
        this.threads = count <= 0
                ? null
                : Executors.newFixedThreadPool(
                        count,
                        task -> Thread.ofPlatform()
                                .daemon()
                                .name("comneck-photos")
                                .unstarted(task));
    }

    /**
     * A batch; those after it are begun.
     *
     * @param index counted from 0: the step's number where a step takes one batch
     */
    Batch get(long index, int count, int side) {
        if (threads == null) {
            return make(index, count, side);
        }
        pending.entrySet().removeIf(entry -> {
            boolean stale = entry.getKey() < index
                    || entry.getKey() > index + AHEAD
                    || entry.getValue().count != count
                    || entry.getValue().side != side;
            if (stale) {
                entry.getValue().batch.cancel(false);
            }
            return stale;
        });
        for (long i = index; i <= index + AHEAD; i++) {
            pending.computeIfAbsent(i, key -> new Pending(count, side, threads.submit(() -> make(key, count, side))));
        }
        try {
            return pending.remove(index).batch.get();
        } catch (ExecutionException e) {
            switch (e.getCause()) {
                case RuntimeException error -> throw error;
                case Error error -> throw error;
                default -> throw new InternalException("a batch of photos failed", e.getCause());
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new CancellationException("interrupted while photos are read");
        }
    }

    private Batch make(long index, int count, int side) {
        float[] pixels = new float[count * 3 * side * side];
        int[] chosen = new int[count];
        for (int i = 0; i < count; i++) {
            long position = index * count + i;
            SplittableRandom random = new SplittableRandom(mix(seed, position));
            int candidate = order(position / photos.count())[(int) (position % photos.count())];
            Photos.View view = null;
            Photo photo = null;
            while (view == null) {
                photo = photos.find(candidate);
                view = photo == null ? null : cut.of(photo, side, random);
                if (photo != null && view == null) {
                    photos.skip(
                            candidate,
                            photos.file(candidate) + " has " + photo.width() + "x" + photo.height()
                                    + " pixels, too few for views of " + side);
                }
                chosen[i] = candidate;
                candidate = random.nextInt(photos.count());
            }
            if (!flip) {
                view = new Photos.View(view.x(), view.y(), view.width(), view.height(), false);
            }
            int offset = i * 3 * side * side;
            Photos.draw(photo, view, side, pixels, offset);
            jitter.apply(pixels, offset, side * side, random);
        }
        return new Batch(count, side, pixels, chosen);
    }

    /** The order of photos in an epoch. */
    private int[] order(long epoch) {
        synchronized (orders) {
            int[] known = orders.get(epoch);
            if (known != null) {
                return known;
            }
            SplittableRandom random = new SplittableRandom(mix(~seed, epoch));
            int[] order = new int[photos.count()];
            for (int i = 0; i < order.length; i++) {
                int j = random.nextInt(i + 1);
                order[i] = order[j];
                order[j] = i;
            }
            if (orders.size() >= 4) {
                orders.remove(orders.keySet().iterator().next());
            }
            orders.put(epoch, order);
            return order;
        }
    }

    private static long mix(long a, long b) {
        return new SplittableRandom(a * 0x9E3779B97F4A7C15L + b).nextLong();
    }

    @Override
    public void close() {
        if (threads != null) {
            threads.shutdownNow();
        }
    }
}

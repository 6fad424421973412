package org.comneck.server;

import org.comneck.UsageException;

/**
 * How requests become batches. Results do not depend on any of it.
 *
 * @param images most pictures that are computed together, 1 to 64
 * @param delayMicros longest time that a request waits for others when a thread is free to compute it; 0 computes at once, and batches form
 *     only while the threads are busy
 * @param queue most requests that wait
 * @param queueBytes most bytes of bodies that wait
 * @param threads that compute batches
 * @param photoThreads that decode photos
 */
public record Batching(int images, long delayMicros, int queue, long queueBytes, int threads, int photoThreads) {
    /** Batches of 8, no delay, 256 requests or 256 MiB in the queue. */
    public static final Batching DEFAULT = new Batching(8, 0, 256, 256L << 20, 1, 1);

    public Batching {
        if (images < 1 || images > 64) {
            throw new UsageException("batches of " + images + " pictures are not possible: 1 to 64");
        }
        if (delayMicros < 0 || delayMicros > 10_000_000) {
            throw new UsageException("a batch cannot wait " + delayMicros + " microseconds: 0 to 10000000");
        }
        if (queue < 1 || queueBytes < 1) {
            throw new UsageException("a queue of " + queue + " requests and " + queueBytes + " bytes holds nothing");
        }
        if (threads < 1 || threads > 64 || photoThreads < 1 || photoThreads > 64) {
            throw new UsageException(threads + " computing threads and " + photoThreads
                    + " that decode photos are not possible: 1 to 64 each");
        }
    }

    public Batching withImages(int most) {
        return new Batching(most, delayMicros, queue, queueBytes, threads, photoThreads);
    }

    public Batching withDelayMicros(long micros) {
        return new Batching(images, micros, queue, queueBytes, threads, photoThreads);
    }

    public Batching withQueue(int requests) {
        return new Batching(images, delayMicros, requests, queueBytes, threads, photoThreads);
    }

    public Batching withQueueBytes(long bytes) {
        return new Batching(images, delayMicros, queue, bytes, threads, photoThreads);
    }

    public Batching withThreads(int computing) {
        return new Batching(images, delayMicros, queue, queueBytes, computing, photoThreads);
    }

    public Batching withPhotoThreads(int decoding) {
        return new Batching(images, delayMicros, queue, queueBytes, threads, decoding);
    }
}

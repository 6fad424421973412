package org.comneck.server;

import org.comneck.UsageException;

/**
 * What the server is ready to believe or to hold, checked before memory is taken. All are on by default; an error names the one it hit.
 *
 * @param bodyBytes longest body of a request
 * @param headerBytes longest request line, and longest sum of headers
 * @param images most images in a bitstream
 * @param pixels most padded pixels of an image in a bitstream
 * @param photoPixels most pixels of a photo
 * @param connections most open connections of all ports together
 * @param streams most requests of one connection at a time
 * @param headerMillis longest time from a connection's first byte, or the end of its last request, to the end of a header
 * @param bodyMillis longest time without a byte of a body that has begun
 * @param idleMillis longest time without a request on an open connection
 * @param lowWaterBytes of unsent answers under which a connection is read again
 * @param highWaterBytes of unsent answers over which a connection is no longer read, or its requests are refused
 * @param answerBytes longest answer
 */
public record Limits(
        long bodyBytes,
        int headerBytes,
        int images,
        long pixels,
        long photoPixels,
        int connections,
        int streams,
        long headerMillis,
        long bodyMillis,
        long idleMillis,
        int lowWaterBytes,
        int highWaterBytes,
        long answerBytes) {
    /** 64 MiB bodies, 16 KiB headers, 64 images, 1 Mpixel bitstreams, 32 Mpixel photos, 4,096 connections, 128 streams, 256 MiB answers. */
    public static final Limits DEFAULT = new Limits(
            64L << 20,
            16 << 10,
            64,
            1L << 20,
            1L << 25,
            4096,
            128,
            10_000,
            15_000,
            75_000,
            256 << 10,
            1 << 20,
            256L << 20);

    public Limits {
        if (bodyBytes < 1 || bodyBytes > Integer.MAX_VALUE - (1 << 20)) {
            throw new UsageException("a limit of " + bodyBytes + " bytes a body is not possible: 1 to 2146435071");
        }
        if (headerBytes < 256
                || headerBytes > 1 << 24
                || images < 1
                || images > 4096
                || pixels < 1
                || photoPixels < 1
                || connections < 1
                || streams < 1) {
            throw new UsageException("a limit is too low or too high: " + headerBytes + " header bytes, " + images
                    + " images, " + pixels + " and " + photoPixels + " pixels, " + connections + " connections, "
                    + streams
                    + " streams");
        }
        if (answerBytes < 1 || answerBytes > Integer.MAX_VALUE - (1 << 20)) {
            throw new UsageException("a limit of " + answerBytes + " bytes an answer is not possible: 1 to 2146435071");
        }
        if (headerMillis < 1 || bodyMillis < 1 || idleMillis < 1) {
            throw new UsageException("a time limit is below a millisecond");
        }
        if (lowWaterBytes < 1 || highWaterBytes <= lowWaterBytes) {
            throw new UsageException("write water marks of " + lowWaterBytes + " and " + highWaterBytes + " bytes");
        }
    }

    /** The part that the bitstream's reader checks. */
    org.comneck.bitstream.Limits bitstream() {
        return new org.comneck.bitstream.Limits(images, pixels, bodyBytes);
    }

    public Limits withBodyBytes(long most) {
        return new Limits(
                most,
                headerBytes,
                images,
                pixels,
                photoPixels,
                connections,
                streams,
                headerMillis,
                bodyMillis,
                idleMillis,
                lowWaterBytes,
                highWaterBytes,
                answerBytes);
    }

    public Limits withPixels(long ofBitstreams, long ofPhotos) {
        return new Limits(
                bodyBytes,
                headerBytes,
                images,
                ofBitstreams,
                ofPhotos,
                connections,
                streams,
                headerMillis,
                bodyMillis,
                idleMillis,
                lowWaterBytes,
                highWaterBytes,
                answerBytes);
    }

    public Limits withImages(int most) {
        return new Limits(
                bodyBytes,
                headerBytes,
                most,
                pixels,
                photoPixels,
                connections,
                streams,
                headerMillis,
                bodyMillis,
                idleMillis,
                lowWaterBytes,
                highWaterBytes,
                answerBytes);
    }

    public Limits withConnections(int most, int streamsOfEach) {
        return new Limits(
                bodyBytes,
                headerBytes,
                images,
                pixels,
                photoPixels,
                most,
                streamsOfEach,
                headerMillis,
                bodyMillis,
                idleMillis,
                lowWaterBytes,
                highWaterBytes,
                answerBytes);
    }

    public Limits withMillis(long header, long body, long idle) {
        return new Limits(
                bodyBytes,
                headerBytes,
                images,
                pixels,
                photoPixels,
                connections,
                streams,
                header,
                body,
                idle,
                lowWaterBytes,
                highWaterBytes,
                answerBytes);
    }

    public Limits withAnswerBytes(long most) {
        return new Limits(
                bodyBytes,
                headerBytes,
                images,
                pixels,
                photoPixels,
                connections,
                streams,
                headerMillis,
                bodyMillis,
                idleMillis,
                lowWaterBytes,
                highWaterBytes,
                most);
    }

    public Limits withWaterMarks(int lowBytes, int highBytes) {
        return new Limits(
                bodyBytes,
                headerBytes,
                images,
                pixels,
                photoPixels,
                connections,
                streams,
                headerMillis,
                bodyMillis,
                idleMillis,
                lowBytes,
                highBytes,
                answerBytes);
    }
}

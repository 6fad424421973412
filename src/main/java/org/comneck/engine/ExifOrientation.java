package org.comneck.engine;

import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * The EXIF orientation of a photo: 1 is upright, 2 to 8 say how to mirror and turn it. Reads bytes from outside: every step is bounded,
 * and damaged metadata means "upright", because it says nothing about the pixels.
 */
final class ExifOrientation {
    static final int UPRIGHT = 1;
    private static final int TAG = 0x0112;
    private static final int TYPE_SHORT = 3;

    private ExifOrientation() {}

    /** Orientation of a file's bytes, 1 to 8. */
    static int of(String format, byte[] file) {
        try {
            ByteBuffer exif = switch (format) {
                case "JPEG" -> jpeg(ByteBuffer.wrap(file));
                case "PNG" -> png(ByteBuffer.wrap(file));
                default -> webp(ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN));
            };
            return exif == null ? UPRIGHT : tiff(exif);
        } catch (BufferUnderflowException | IndexOutOfBoundsException | IllegalArgumentException e) {
            return UPRIGHT;
        }
    }

    /** Segments until the scan: FF marker, length (itself included), body. */
    private static ByteBuffer jpeg(ByteBuffer in) {
        in.position(2);
        while (true) {
            int marker = in.get() & 0xFF;
            if (marker != 0xFF) {
                return null;
            }
            while (marker == 0xFF) {
                marker = in.get() & 0xFF;
            }
            if (marker == 0xDA || marker == 0xD9) {
                return null;
            }
            int length = (in.getShort() & 0xFFFF) - 2;
            ByteBuffer body = in.slice(in.position(), length);
            if (marker == 0xE1 && startsWith(body, "Exif\0\0")) {
                return body.slice(6, length - 6);
            }
            in.position(in.position() + length);
        }
    }

    /** Chunks: length, name, body, CRC. */
    private static ByteBuffer png(ByteBuffer in) {
        in.position(8);
        while (true) {
            int length = in.getInt();
            ByteBuffer chunk = in.slice(in.position(), Math.addExact(4, length));
            if (startsWith(chunk, "eXIf")) {
                return chunk.slice(4, length);
            }
            if (startsWith(chunk, "IEND")) {
                return null;
            }
            in.position(Math.addExact(in.position() + 8, length));
        }
    }

    /** RIFF chunks: name, length, body, padded to an even length. */
    private static ByteBuffer webp(ByteBuffer in) {
        in.position(12);
        while (in.remaining() >= 8) {
            ByteBuffer name = in.slice(in.position(), 4);
            in.position(in.position() + 4);
            int length = in.getInt();
            if (startsWith(name, "EXIF")) {
                ByteBuffer body = in.slice(in.position(), length);
                return startsWith(body, "Exif\0\0") ? body.slice(6, length - 6) : body;
            }
            in.position(Math.addExact(in.position(), Math.addExact(length, length & 1)));
        }
        return null;
    }

    /** First directory of a TIFF structure: entries of tag, type, count, value, 12 bytes each. */
    private static int tiff(ByteBuffer tiff) {
        ByteBuffer in = tiff.slice();
        in.order(in.get(0) == 'I' ? ByteOrder.LITTLE_ENDIAN : ByteOrder.BIG_ENDIAN);
        int directory = in.getInt(4);
        int entries = in.getShort(directory) & 0xFFFF;
        for (int i = 0; i < entries; i++) {
            int entry = directory + 2 + 12 * i;
            if ((in.getShort(entry) & 0xFFFF) == TAG && in.getShort(entry + 2) == TYPE_SHORT) {
                int orientation = in.getShort(entry + 8) & 0xFFFF;
                return orientation >= 1 && orientation <= 8 ? orientation : UPRIGHT;
            }
        }
        return UPRIGHT;
    }

    private static boolean startsWith(ByteBuffer buffer, String text) {
        byte[] bytes = text.getBytes(StandardCharsets.ISO_8859_1);
        return buffer.remaining() >= bytes.length
                && buffer.slice(0, bytes.length).equals(ByteBuffer.wrap(bytes));
    }

    /** Pixels (height,width,3) turned upright: a new photo for orientations 2 to 8. */
    static Photo upright(Photo photo, int orientation) {
        if (orientation == UPRIGHT) {
            return photo;
        }
        int w = photo.width();
        int h = photo.height();
        boolean turned = orientation >= 5;
        int newWidth = turned ? h : w;
        int newHeight = turned ? w : h;
        byte[] from = photo.rgb();
        byte[] to = new byte[from.length];
        for (int y = 0; y < newHeight; y++) {
            for (int x = 0; x < newWidth; x++) {
                // (sx, sy) is the stored pixel that is seen at (x, y).
                int sx = switch (orientation) {
                    case 2, 3 -> w - 1 - x;
                    case 4 -> x;
                    case 5, 6 -> y;
                    default -> w - 1 - y; // 7, 8
                };
                int sy = switch (orientation) {
                    case 2 -> y;
                    case 3, 4 -> h - 1 - y;
                    case 5, 8 -> x;
                    default -> h - 1 - x; // 6, 7
                };
                System.arraycopy(from, 3 * (sy * w + sx), to, 3 * (y * newWidth + x), 3);
            }
        }
        return Photo.of(newWidth, newHeight, to);
    }
}

package org.comneck.engine;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import java.util.zip.DeflaterOutputStream;

/** PNG (ISO/IEC 15948), 8-bit RGB, rows filtered by Paeth or by what is above, whichever is smaller. */
final class PngWriter {
    private static final byte[] SIGNATURE = {(byte) 0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    private static final int PAETH = 4;
    private static final int UP = 2;

    private PngWriter() {}

    static void write(Photo photo, OutputStream out) throws IOException {
        DataOutputStream data = new DataOutputStream(out);
        data.write(SIGNATURE);
        ByteArrayOutputStream header = new ByteArrayOutputStream();
        DataOutputStream fields = new DataOutputStream(header);
        fields.writeInt(photo.width());
        fields.writeInt(photo.height());
        fields.write(new byte[] {8, 2, 0, 0, 0}); // 8 bits, RGB, deflate, adaptive filters, not interlaced
        chunk(data, "IHDR", header.toByteArray());
        ByteArrayOutputStream pixels = new ByteArrayOutputStream();
        Deflater deflater = new Deflater(6);
        try (DeflaterOutputStream deflate = new DeflaterOutputStream(pixels, deflater, 1 << 16)) {
            filter(photo, deflate);
        } finally {
            deflater.end();
        }
        chunk(data, "IDAT", pixels.toByteArray());
        chunk(data, "IEND", new byte[0]);
        data.flush();
    }

    private static void filter(Photo photo, OutputStream out) throws IOException {
        int stride = 3 * photo.width();
        byte[] rgb = photo.rgb();
        byte[] above = new byte[stride];
        byte[] row = new byte[stride];
        byte[] paeth = new byte[1 + stride];
        byte[] up = new byte[1 + stride];
        paeth[0] = PAETH;
        up[0] = UP;
        for (int y = 0; y < photo.height(); y++) {
            System.arraycopy(rgb, y * stride, row, 0, stride);
            long paethCost = 0;
            long upCost = 0;
            for (int i = 0; i < stride; i++) {
                int b = above[i] & 0xFF;
                int a = i < 3 ? 0 : row[i - 3] & 0xFF;
                int c = i < 3 ? 0 : above[i - 3] & 0xFF;
                int toA = Math.abs(b - c);
                int toB = Math.abs(a - c);
                int toC = Math.abs(a + b - 2 * c);
                int nearest = toA <= toB && toA <= toC ? a : toB <= toC ? b : c;
                paeth[1 + i] = (byte) (row[i] - nearest);
                up[1 + i] = (byte) (row[i] - b);
                paethCost += Math.abs(paeth[1 + i]);
                upCost += Math.abs(up[1 + i]);
            }
            out.write(paethCost <= upCost ? paeth : up);
            byte[] swap = above;
            above = row;
            row = swap;
        }
    }

    private static void chunk(DataOutputStream out, String type, byte[] body) throws IOException {
        byte[] name = type.getBytes(StandardCharsets.US_ASCII);
        CRC32 crc = new CRC32();
        crc.update(name);
        crc.update(body);
        out.writeInt(body.length);
        out.write(name);
        out.write(body);
        out.writeInt((int) crc.getValue());
    }
}

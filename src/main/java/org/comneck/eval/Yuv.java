package org.comneck.eval;

import org.comneck.DamagedDataException;
import org.comneck.engine.Photo;

/** Raw planar 4:2:0 of 8 bits, full range BT.601 as in JPEG: what video codecs read. Some answer with 10 bits. */
final class Yuv {
    private Yuv() {}

    /** Y (H,W), then Cb and Cr (H/2,W/2), sides rounded up; chroma is the mean of its pixels. */
    static byte[] of(Photo photo) {
        int w = photo.width();
        int h = photo.height();
        int cw = (w + 1) / 2;
        int ch = (h + 1) / 2;
        byte[] rgb = photo.rgb();
        byte[] out = new byte[w * h + 2 * cw * ch];
        double[] cb = new double[cw * ch];
        double[] cr = new double[cw * ch];
        int[] count = new int[cw * ch];
        for (int y = 0; y < h; y++) {
            for (int x = 0; x < w; x++) {
                int at = 3 * (y * w + x);
                int r = rgb[at] & 0xFF;
                int g = rgb[at + 1] & 0xFF;
                int b = rgb[at + 2] & 0xFF;
                out[y * w + x] = clip(0.299 * r + 0.587 * g + 0.114 * b);
                int c = y / 2 * cw + x / 2;
                cb[c] += -0.168736 * r - 0.331264 * g + 0.5 * b;
                cr[c] += 0.5 * r - 0.418688 * g - 0.081312 * b;
                count[c]++;
            }
        }
        for (int c = 0; c < count.length; c++) {
            out[w * h + c] = clip(128 + cb[c] / count[c]);
            out[w * h + count.length + c] = clip(128 + cr[c] / count[c]);
        }
        return out;
    }

    /**
     * The one frame of such a file, or of one with 10 bits a sample in 16, little-endian.
     *
     * @throws DamagedDataException when it is neither
     */
    static Photo photo(byte[] yuv, int w, int h) {
        int cw = (w + 1) / 2;
        int chroma = cw * ((h + 1) / 2);
        int samples = w * h + 2 * chroma;
        if (yuv.length != samples && yuv.length != 2 * samples) {
            throw new DamagedDataException("a frame of " + w + "x" + h + " in 4:2:0 takes " + samples + " bytes, or "
                    + 2 * samples + " with 10 bits, but there are " + yuv.length);
        }
        double[] values = new double[samples];
        for (int i = 0; i < samples; i++) {
            values[i] = yuv.length == samples
                    ? yuv[i] & 0xFF
                    : ((yuv[2 * i] & 0xFF) + ((yuv[2 * i + 1] & 0xFF) << 8)) / 4.0;
        }
        byte[] rgb = new byte[3 * w * h];
        for (int y = 0; y < h; y++) {
            for (int x = 0; x < w; x++) {
                int c = w * h + y / 2 * cw + x / 2;
                double luma = values[y * w + x];
                double cb = values[c] - 128;
                double cr = values[c + chroma] - 128;
                int at = 3 * (y * w + x);
                rgb[at] = clip(luma + 1.402 * cr);
                rgb[at + 1] = clip(luma - 0.344136 * cb - 0.714136 * cr);
                rgb[at + 2] = clip(luma + 1.772 * cb);
            }
        }
        return Photo.of(w, h, rgb);
    }

    private static byte clip(double value) {
        return (byte) Math.clamp(Math.round(value), 0, 255);
    }
}

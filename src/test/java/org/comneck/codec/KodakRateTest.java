package org.comneck.codec;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.awt.image.BufferedImage;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.Precision;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.entropy.GaussianConditional;
import org.comneck.model.ModelFile;
import org.comneck.parity.TestBackends;
import org.comneck.tensor.ElementType;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/**
 * The payload of every Kodak photo, full size, qualities of the embedded model in turn: at most 1 % and 24 bytes a
 * substream above the information content of its symbols. The information of y is that of the real-valued normal distribution of each
 * symbol's scale; that of z, which is a few per cent of it, follows from the stored tables.
 */
class KodakRateTest {
    @Test
    void everyPhotoStaysNearItsInformation() throws IOException {
        Path folder = Path.of(System.getProperty("comneck.shared", "../shared"), "data", "photos", "kodak");
        Assumptions.assumeTrue(Files.isDirectory(folder), "skipped: no " + folder);
        Assumptions.assumeTrue(ModelFile.hasEmbedded(), "skipped: this build has no embedded model");
        List<Path> photos;
        try (Stream<Path> files = Files.list(folder)) {
            photos = files.sorted().toList();
        }
        assertEquals(24, photos.size());
        try (Backend backend = TestBackends.fastest();
                ModelFile model = ModelFile.openEmbedded();
                Codec codec = Codec.load(backend, model, Precision.F32);
                Encoding wide = new Encoding(backend, codec, 512, 768);
                Encoding tall = new Encoding(backend, codec, 768, 512)) {
            double worst = Double.NEGATIVE_INFINITY;
            for (Path photo : photos) {
                BufferedImage picture = ImageIO.read(photo.toFile());
                Encoding encoding = picture.getWidth() > picture.getHeight() ? wide : tall;
                double quality = photos.indexOf(photo) % codec.qualities();
                Measured measured = encoding.measure(picture, quality);
                double above = measured.bytes() - 24.0 * measured.substreams() - measured.information() / 8;
                double share = above / (measured.information() / 8);
                worst = Math.max(worst, share);
                if (Boolean.getBoolean("comneck.print")) {
                    System.err.printf(
                            "%s quality %.0f: %d bytes, %d substreams, %.1f bytes of information, %.3f %%%n",
                            photo.getFileName(),
                            quality,
                            measured.bytes(),
                            measured.substreams(),
                            measured.information() / 8,
                            100 * share);
                }
                assertTrue(share <= 0.01, photo.getFileName() + " at quality " + quality + ": " + measured);
            }
            assertTrue(worst > -0.05, "the information is overestimated: " + worst);
        }
    }

    /**
     * @param bytes of the payload
     * @param information of the symbols, bits
     */
    private record Measured(int bytes, int substreams, double information) {}

    /** From pictures of one size to payloads. */
    private static final class Encoding implements AutoCloseable {
        private static final double[] SCALES = scales();

        private final Backend backend;
        private final Codec codec;
        private final Activation image;
        private final Activation gains;
        private final Codec.Coded coded;
        private final Run run;

        Encoding(Backend backend, Codec codec, int height, int width) {
            this.backend = backend;
            this.codec = codec;
            RunBuilder builder = backend.newRun();
            image = builder.input(ElementType.F32, 1, height, width, 3);
            gains = codec.hasGains() ? builder.input(ElementType.F32, 1, 1, 1, codec.latentChannels()) : null;
            coded = codec.encode(builder, codec.analysis(builder, image, gains));
            coded.output(builder);
            codec.encodePayloads(builder, coded, 0);
            run = builder.build();
        }

        private static double[] scales() {
            float[] table = GaussianConditional.scaleTable();
            double[] scales = new double[table.length];
            for (int i = 0; i < scales.length; i++) {
                scales[i] = table[i];
            }
            return scales;
        }

        Measured measure(BufferedImage picture, double quality) {
            MemorySegment pixels = run.memory(image);
            for (int y = 0; y < picture.getHeight(); y++) {
                for (int x = 0; x < picture.getWidth(); x++) {
                    int rgb = picture.getRGB(x, y);
                    long at = 3L * (y * picture.getWidth() + x);
                    for (int c = 0; c < 3; c++) {
                        pixels.setAtIndex(ValueLayout.JAVA_FLOAT, at + c, (rgb >> 16 - 8 * c & 0xFF) / 255f);
                    }
                }
            }
            if (gains != null) {
                run.memory(gains).copyFrom(MemorySegment.ofArray(codec.gain(quality)));
            }
            run.execute();
            assertNull(run.damage(0));

            MemorySegment z = run.memory(coded.zSymbols());
            byte[] hyper = codec.hyperIndices(coded.zSymbols().positions());
            double information = 0;
            for (int i = 0; i < hyper.length; i++) {
                information +=
                        bits(codec.hyperTables().source(), hyper[i] & 0xFF, z.getAtIndex(ValueLayout.JAVA_SHORT, i));
            }
            for (Codec.Pass pass : coded.passes()) {
                MemorySegment indices = run.memory(pass.indices());
                MemorySegment symbols = run.memory(pass.symbols());
                int count = (int) indices.byteSize();
                for (int i = 0; i < count; i++) {
                    int value = symbols.getAtIndex(ValueLayout.JAVA_SHORT, i);
                    double p = GaussianConditional.probability(SCALES[indices.get(ValueLayout.JAVA_BYTE, i)], value);
                    // a symbol out of reach of doubles counts as what an escape takes at least
                    information -= p > 1e-9 ? Math.log(p) / Math.log(2) : Math.log(1e-9) / Math.log(2);
                }
            }
            byte[] payload = run.encoded(0).payload();
            return new Measured(payload.length, (payload[0] & 31) + 1, information);
        }

        /** What a stored table takes for a value. */
        private static double bits(CodingTables tables, int t, int value) {
            int q = (value >> tables.shift()[t]) - tables.first()[t];
            boolean escape = q < 0 || q >= tables.count()[t];
            double bits = 12 - Math.log(tables.frequency()[t][escape ? tables.count()[t] : q]) / Math.log(2);
            return bits + (escape ? 2 : tables.shift()[t]);
        }

        @Override
        public void close() {
            run.close();
        }
    }
}

package org.comneck.eval;

import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.imageio.IIOImage;
import javax.imageio.ImageIO;
import javax.imageio.ImageWriteParam;
import javax.imageio.ImageWriter;
import javax.imageio.plugins.jpeg.JPEGImageWriteParam;
import javax.imageio.stream.MemoryCacheImageOutputStream;
import org.comneck.DamagedDataException;
import org.comneck.UsageException;
import org.comneck.engine.Photo;

/** An ordinary codec to compare with. Thread-safe. */
public interface Anchor {
    /**
     * A coded picture.
     *
     * @param bytes of its file, headers included
     * @param photo decoded, of the same size
     */
    record Coded(long bytes, Photo photo) {}

    /** Name in the report. */
    String name();

    /** What makes its results different from another of the same name. */
    String describe();

    /** Its qualities, in its own terms. */
    List<Double> qualities();

    /**
     * Encodes and decodes a picture.
     *
     * @throws UsageException when it cannot, with what the codec said
     */
    Coded code(Photo photo, double quality);

    /** Java's own JPEG: 4:2:0, progressive, optimised Huffman tables. */
    static Anchor jpeg() {
        return new Jpeg();
    }

    /** Templates for tools that may be installed: {@code name[@q,q,...]: encoder command | decoder command}. */
    List<String> READY = List.of(
            "webp@5,20,35,50,65,80: cwebp -quiet -m 6 -q {q} {in} -o {out} | dwebp -quiet {out} -o {png}",
            "avif@60,54,48,42,36,30: avifenc --min 0 --max 63 -a end-usage=q -a cq-level={q} -s 6 -y 420 {in} {out} | avifdec {out} {png}",
            "heic@10,20,30,40,50,60: heif-enc -q {q} {in} -o {out} | heif-convert {out} {png}",
            "jxl@8,6,4,3,2,1: cjxl -d {q} -e 7 {in} {out} | djxl {out} {png}",
            "vvc@47,42,37,32,27: vvencapp --preset medium -q {q} -i {yuv} -s {width}x{height} -c yuv420 -o {out} | vvdecapp -b {out} -o {yuvout}");

    /**
     * An anchor of a command template. {@code {in}} is a PNG file, {@code {out}} the coded file whose bytes count, {@code {png}} the PNG file that the
     * second command writes; instead of the first and last {@code {yuv}} and {@code {yuvout}} are raw planar 4:2:0, full range BT.601, of 8 bits;
     * decoders may also write 10 bits in 16, little-endian.
     * {@code {q}} is the quality, {@code {width}} and {@code {height}} the size. No shell is involved.
     *
     * @throws UsageException when the template is not understood
     */
    static Anchor command(String template) {
        return new Command(template);
    }

    /** JPEG by ImageIO. */
    final class Jpeg implements Anchor {
        @Override
        public String name() {
            return "jpeg";
        }

        @Override
        public String describe() {
            return "jpeg: ImageIO, 4:2:0, progressive, optimised tables";
        }

        @Override
        public List<Double> qualities() {
            return List.of(5.0, 10.0, 20.0, 35.0, 50.0, 70.0, 85.0);
        }

        @Override
        public Coded code(Photo photo, double quality) {
            BufferedImage image = new BufferedImage(photo.width(), photo.height(), BufferedImage.TYPE_INT_RGB);
            byte[] rgb = photo.rgb();
            int[] row = new int[photo.width()];
            for (int y = 0; y < photo.height(); y++) {
                for (int x = 0; x < row.length; x++) {
                    int at = 3 * (y * row.length + x);
                    row[x] = (rgb[at] & 0xFF) << 16 | (rgb[at + 1] & 0xFF) << 8 | rgb[at + 2] & 0xFF;
                }
                image.setRGB(0, y, row.length, 1, row, 0, row.length);
            }
            ImageWriter writer = ImageIO.getImageWritersByFormatName("jpeg").next();
            try (ByteArrayOutputStream bytes = new ByteArrayOutputStream();
                    MemoryCacheImageOutputStream out = new MemoryCacheImageOutputStream(bytes)) {
                ImageWriteParam parameters = writer.getDefaultWriteParam();
                parameters.setCompressionMode(ImageWriteParam.MODE_EXPLICIT);
                parameters.setCompressionQuality((float) (quality / 100));
                parameters.setProgressiveMode(ImageWriteParam.MODE_DEFAULT);
                if (parameters instanceof JPEGImageWriteParam jpeg) {
                    jpeg.setOptimizeHuffmanTables(true);
                }
                writer.setOutput(out);
                writer.write(null, new IIOImage(image, null, null), parameters);
                out.flush();
                byte[] file = bytes.toByteArray();
                return new Coded(file.length, Photo.read("jpeg", file, Photo.DEFAULT_MAX_PIXELS));
            } catch (IOException e) {
                throw new UsageException("jpeg: " + e.getMessage(), e);
            } finally {
                writer.dispose();
            }
        }
    }

    /** A pair of commands. */
    final class Command implements Anchor {
        private static final Pattern TEMPLATE =
                Pattern.compile("([A-Za-z0-9._+-]+)(?:@([0-9.,]+))?:\\s+(.+?)\\s+\\|\\s+(.+)");

        private static final Pattern WORD = Pattern.compile("'([^']*)'|\"([^\"]*)\"|(\\S+)");
        private static final long MOST_SECONDS = 300;
        private static final int MOST_OUTPUT = 400;

        private final String name;
        private final String template;
        private final List<Double> qualities;
        private final List<String> encode;
        private final List<String> decode;

        public Command(String template) {
            Matcher parts = TEMPLATE.matcher(template.strip());
            if (!parts.matches()) {
                throw new UsageException("anchor '" + template
                        + "' is not understood: write 'name@q,q,...: encoder -q {q} {in} {out} | decoder {out} {png}'");
            }
            this.template = template.strip();
            name = parts.group(1);
            encode = words(parts.group(3));
            decode = words(parts.group(4));
            boolean raw = parts.group(3).contains("{yuv}");
            if (!parts.group(3).contains("{out}")
                    || !(raw || parts.group(3).contains("{in}"))
                    || !(parts.group(4).contains("{png}") || parts.group(4).contains("{yuvout}"))) {
                throw new UsageException("anchor '" + name
                        + "' must name {in} or {yuv} and {out} in its first command, {png} or {yuvout} in its second");
            }
            qualities = parts.group(2) == null ? List.of(10.0, 25.0, 40.0, 55.0, 70.0, 85.0) : numbers(parts.group(2));
        }

        private static List<Double> numbers(String list) {
            try {
                return Stream.of(list.split(",")).map(Double::valueOf).toList();
            } catch (NumberFormatException e) {
                throw new UsageException("'" + list + "' is no list of qualities", e);
            }
        }

        private static List<String> words(String command) {
            List<String> out = new ArrayList<>();
            Matcher matcher = WORD.matcher(command);
            while (matcher.find()) {
                for (int g = 1; g <= 3; g++) {
                    if (matcher.group(g) != null) {
                        out.add(matcher.group(g));
                    }
                }
            }
            return out;
        }

        /** The first of its two programs that is not installed, or null. */
        public String missing() {
            for (String program : List.of(encode.getFirst(), decode.getFirst())) {
                boolean there = program.contains("/")
                        ? Files.isExecutable(Path.of(program))
                        : Stream.of(System.getenv().getOrDefault("PATH", "").split(File.pathSeparator))
                                .anyMatch(folder -> Files.isExecutable(Path.of(folder, program)));
                if (!there) {
                    return program;
                }
            }
            return null;
        }

        @Override
        public String name() {
            return name;
        }

        @Override
        public String describe() {
            return template;
        }

        @Override
        public List<Double> qualities() {
            return qualities;
        }

        @Override
        public Coded code(Photo photo, double quality) {
            Path folder = null;
            try {
                folder = Files.createTempDirectory("comneck-anchor");
                Path in = folder.resolve("in.png");
                Path yuv = folder.resolve("in.yuv");
                Path out = folder.resolve("coded." + name); // some tools go by the ending
                Path png = folder.resolve("out.png");
                Path yuvOut = folder.resolve("out.yuv");
                boolean raw = template.contains("{yuv}");
                if (raw) {
                    Files.write(yuv, Yuv.of(photo));
                } else {
                    try (var stream = Files.newOutputStream(in)) {
                        photo.writePng(stream);
                    }
                }
                String number =
                        quality == Math.rint(quality) ? String.valueOf((long) quality) : String.valueOf(quality);
                for (List<String> command : List.of(encode, decode)) {
                    run(
                            command.stream()
                                    .map(word -> word.replace("{q}", number)
                                            .replace("{in}", in.toString())
                                            .replace("{yuv}", yuv.toString())
                                            .replace("{out}", out.toString())
                                            .replace("{png}", png.toString())
                                            .replace("{yuvout}", yuvOut.toString())
                                            .replace("{width}", String.valueOf(photo.width()))
                                            .replace("{height}", String.valueOf(photo.height())))
                                    .toList(),
                            folder);
                }
                Photo decoded = template.contains("{yuvout}")
                        ? Yuv.photo(Files.readAllBytes(yuvOut), photo.width(), photo.height())
                        : Photo.read(png);
                if (decoded.width() != photo.width() || decoded.height() != photo.height()) {
                    throw new UsageException(name + ": gave back a " + decoded + " for a " + photo);
                }
                return new Coded(Files.size(out), decoded);
            } catch (IOException e) {
                throw new UsageException(name + ": " + e.getMessage(), e);
            } catch (DamagedDataException e) {
                throw new UsageException(name + ": what it decoded cannot be read: " + e.getMessage(), e);
            } finally {
                delete(folder);
            }
        }

        private void run(List<String> command, Path folder) throws IOException {
            Path log = folder.resolve("log.txt");
            Process process = new ProcessBuilder(command)
                    .redirectErrorStream(true)
                    .redirectInput(ProcessBuilder.Redirect.from(new File("/dev/null")))
                    .redirectOutput(log.toFile())
                    .start();
            try {
                if (!process.waitFor(MOST_SECONDS, TimeUnit.SECONDS)) {
                    process.destroyForcibly();
                    throw new UsageException(
                            name + ": '" + command.getFirst() + "' took more than " + MOST_SECONDS + " s");
                }
            } catch (InterruptedException e) {
                process.destroyForcibly();
                Thread.currentThread().interrupt();
                throw new UsageException(name + ": interrupted", e);
            }
            if (process.exitValue() != 0) {
                String said = new String(Files.readAllBytes(log), StandardCharsets.UTF_8)
                        .strip()
                        .replaceAll("\\s+", " ");
                throw new UsageException(String.format(
                        Locale.ROOT,
                        "%s: '%s' ended with status %d: %s",
                        name,
                        String.join(" ", command),
                        process.exitValue(),
                        said.length() > MOST_OUTPUT ? said.substring(0, MOST_OUTPUT) + "..." : said));
            }
        }

        private static void delete(Path folder) {
            if (folder == null) {
                return;
            }
            try (Stream<Path> files = Files.walk(folder)) {
                for (Path path : files.sorted(Comparator.reverseOrder()).toList()) {
                    Files.deleteIfExists(path);
                }
            } catch (IOException e) {
                folder.toFile().deleteOnExit(); // a leftover in the folder for temporary files harms no result
            }
        }
    }
}

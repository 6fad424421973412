package org.comneck.eval;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.comneck.codec.PostProcessing;
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.comneck.model.TensorSource;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The published networks' costs at 256x256, counted from the model, against those counted from the paper by hand. */
class ComplexityTest {
    private static final long SMALL = 1 << 20;

    @TempDir
    Path folder;

    /** A model file of the full size that is mostly a hole: shapes and tables are real, large weights are zeros that nobody reads. */
    private ModelFile sparse(SeededModel model, Map<String, TensorSource> tensors) throws IOException {
        ObjectNode header = new ObjectMapper().createObjectNode();
        header.putObject("__metadata__").put(Manifest.KEY, model.manifest().toJson());
        Map<TensorSource, Long> places = new LinkedHashMap<>();
        long end = 0;
        for (Map.Entry<String, TensorSource> one : tensors.entrySet()) {
            TensorSource tensor = one.getValue();
            ObjectNode node =
                    header.putObject(one.getKey()).put("dtype", tensor.type().name());
            var shape = node.putArray("shape");
            for (long size : tensor.shape().toArray()) {
                shape.add(size);
            }
            places.put(tensor, end);
            long bytes = tensor.shape().elements() * tensor.type().bytes();
            node.putArray("data_offsets").add(end).add(end + bytes);
            end += bytes;
        }
        byte[] text = header.toString().getBytes(StandardCharsets.UTF_8);
        Path path = folder.resolve("sparse.safetensors");
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.write(ByteBuffer.allocate(8)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .putLong(text.length)
                    .array());
            file.write(text);
            file.setLength(8 + text.length + end);
            for (Map.Entry<TensorSource, Long> one : places.entrySet()) {
                long bytes =
                        one.getKey().shape().elements() * one.getKey().type().bytes();
                if (bytes <= SMALL) {
                    byte[] data = new byte[(int) bytes];
                    one.getKey().read(0, MemorySegment.ofArray(data));
                    file.seek(8 + text.length + one.getValue());
                    file.write(data);
                }
            }
        }
        return ModelFile.open(path);
    }

    private static Map<String, TensorSource> unet(int... widths) {
        Map<String, TensorSource> out = new LinkedHashMap<>();
        for (int i = 0; i < widths.length; i++) {
            conv(out, PostProcessing.down(i) + ".0", widths[i], i == 0 ? 3 : widths[i - 1], 3, widths[i]);
            conv(out, PostProcessing.down(i) + ".1", widths[i], widths[i], 3, widths[i]);
            if (i < widths.length - 1) {
                conv(out, PostProcessing.up(i) + ".0", widths[i + 1], widths[i], 2, widths[i]);
                conv(out, PostProcessing.up(i) + ".1", widths[i], 2 * widths[i], 3, widths[i]);
                conv(out, PostProcessing.up(i) + ".2", widths[i], widths[i], 3, widths[i]);
            }
        }
        conv(out, PostProcessing.PREFIX + "out", 3, widths[0], 1, 3);
        return out;
    }

    private static void conv(Map<String, TensorSource> out, String name, int a, int b, int kernel, int outputs) {
        int count = a * b * kernel * kernel;
        out.put(name + ".weight", TensorSource.of(Tensor.of(new float[count], a, b, kernel, kernel)));
        out.put(name + ".bias", TensorSource.of(Tensor.of(new float[outputs], outputs)));
    }

    @Test
    void publishedSizes() throws IOException {
        SeededModel seeded = SeededModel.named(SeededModel.FULL);
        Map<String, TensorSource> tensors = new LinkedHashMap<>(seeded.tensors());
        tensors.putAll(unet(64, 128, 256, 512, 1024));
        try (ModelFile model = sparse(seeded, tensors)) {
            Map<String, Complexity.Cost> costs = Complexity.of(model, 256).stream()
                    .collect(Collectors.toMap(Complexity.Cost::stage, Function.identity()));
            Complexity.Cost entropy = costs.get("entropy networks");
            assertEquals(76.6, Complexity.Cost.perPixel(entropy.published(), 256), 0.1);
            assertEquals(53.7, Complexity.Cost.perPixel(entropy.macs(), 256), 0.1);
            assertEquals(
                    255, Complexity.Cost.perPixel(costs.get("synthesis g_s").macs(), 256), 0.5);
            assertEquals(7.34e6, costs.get("synthesis g_s").parameters(), 0.01e6);
            assertEquals(52.69, Complexity.Cost.perPixel(costs.get("neck").macs(), 256), 0.01);
            assertEquals(13.19e6, costs.get("neck").parameters(), 0.01e6);
            // The classic U-Net: 31 million parameters, as the paper says of its post-processing network.
            Complexity.Cost post = costs.get("post-processing U-Net");
            assertEquals(31.0e6, post.parameters(), 0.05e6);
            long[] widths = {64, 128, 256, 512, 1024};
            double macs = 3 * 64 * 9 + 64 * 3; // of each pixel, by hand
            for (int i = 0; i < 5; i++) {
                double part = 1.0 / (1 << 2 * i);
                macs += part * 9 * (i == 0 ? 64 * 64 : widths[i] * (widths[i - 1] + widths[i]));
                if (i < 4) {
                    macs += part * (widths[i + 1] * widths[i] + 9 * 3 * widths[i] * widths[i]);
                }
            }
            assertEquals(macs / 1000, Complexity.Cost.perPixel(post.macs(), 256), 1e-6);
            double paths = Complexity.Cost.perPixel(costs.get("synthesis g_s").macs() + post.macs(), 256);
            assertEquals(0.05, 52.69 / paths, 0.004); // the paper's claim: 5 %
            Complexity.Cost block = costs.get("one encoder block");
            assertEquals(51.4, Complexity.Cost.perPixel(block.macs(), 256), 0.05);
            assertEquals(12.6e6, block.parameters(), 0.01e6);
            assertEquals(
                    22 * block.macs(),
                    costs.get("encoder blocks after the neck").macs());
        }
    }
}

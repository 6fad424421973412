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
import org.comneck.model.Manifest;
import org.comneck.model.ModelFile;
import org.comneck.model.SeededModel;
import org.comneck.model.TensorSource;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The published networks' costs at 256x256, counted from the model, against those counted from the paper by hand. */
class ComplexityTest {
    private static final long SMALL = 1 << 20;

    @TempDir
    Path folder;

    /** A model file of the full size that is mostly a hole: shapes and tables are real, large weights are zeros that nobody reads. */
    private ModelFile sparse(SeededModel model) throws IOException {
        ObjectNode header = new ObjectMapper().createObjectNode();
        header.putObject("__metadata__").put(Manifest.KEY, model.manifest().toJson());
        Map<TensorSource, Long> places = new LinkedHashMap<>();
        long end = 0;
        for (Map.Entry<String, TensorSource> one : model.tensors().entrySet()) {
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

    @Test
    void publishedSizes() throws IOException {
        try (ModelFile model = sparse(SeededModel.named(SeededModel.FULL))) {
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
            Complexity.Cost block = costs.get("one encoder block");
            assertEquals(51.4, Complexity.Cost.perPixel(block.macs(), 256), 0.05);
            assertEquals(12.6e6, block.parameters(), 0.01e6);
            assertEquals(
                    22 * block.macs(),
                    costs.get("encoder blocks after the neck").macs());
        }
    }
}

package org.comneck.parity;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import org.comneck.backend.Activation;
import org.comneck.backend.Run;
import org.comneck.model.SafetensorsFile;
import org.comneck.tensor.Tensor;
import org.junit.jupiter.api.Assumptions;

/** A file of expected values, (1,C,H,W) or (1,N,D), in the order of our activations: channels innermost. */
public final class Fixture implements AutoCloseable {
    private final SafetensorsFile file;

    private Fixture(SafetensorsFile file) {
        this.file = file;
    }

    /** Opens {@code ../shared/reference/name}; skips the test when the folder is not there. */
    public static Fixture open(String name) {
        Path path = Path.of(System.getProperty("comneck.shared", "../shared"))
                .resolve("reference")
                .resolve(name);
        Assumptions.assumeTrue(Files.exists(path), "skipped: " + path + " is not there");
        return new Fixture(SafetensorsFile.open(path));
    }

    public Tensor tensor(String name) {
        return file.tensors().get(name);
    }

    public int height(String name) {
        return (int) tensor(name).shape().size(2);
    }

    public int width(String name) {
        return (int) tensor(name).shape().size(3);
    }

    /** Values with channels innermost. */
    public float[] floats(String name) {
        Tensor tensor = tensor(name);
        float[] values = tensor.toFloats();
        return tensor.shape().rank() == 4
                ? innermost(values, (int) tensor.shape().size(1))
                : values;
    }

    /** Integers with channels innermost. */
    public int[] ints(String name) {
        Tensor tensor = tensor(name);
        int[] values = tensor.toInts();
        int channels = (int) tensor.shape().size(1);
        int positions = values.length / channels;
        int[] out = new int[values.length];
        for (int i = 0; i < values.length; i++) {
            out[i % positions * channels + i / positions] = values[i];
        }
        return out;
    }

    private static float[] innermost(float[] values, int channels) {
        int positions = values.length / channels;
        float[] out = new float[values.length];
        for (int i = 0; i < values.length; i++) {
            out[i % positions * channels + i / positions] = values[i];
        }
        return out;
    }

    /** Fills an input. */
    public static void fill(Run run, Activation input, float[] values) {
        MemorySegment.copy(values, 0, run.memory(input), ValueLayout.JAVA_FLOAT_UNALIGNED, 0, values.length);
    }

    /** Reads an output. */
    public static float[] read(Run run, Activation output) {
        return run.memory(output).toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    }

    @Override
    public void close() {
        file.close();
    }
}

package org.comneck.backend.reference;

import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Set;
import org.comneck.DamagedDataException;
import org.comneck.backend.Activation;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.Run;

/** Steps in order. */
final class ReferenceRun implements Run {
    /** Steps that are timed together. */
    record Stage(String name, List<Runnable> steps) {}

    private List<ReferenceBuffer> buffers;
    private final Set<Integer> inputs;
    private final Set<Integer> outputs;
    private final ReferencePayloads payloads;
    private final ReferenceEncoding encoding;
    private final List<Stage> stages;
    private final long[] nanos;

    ReferenceRun(
            List<ReferenceBuffer> buffers,
            Set<Integer> inputs,
            Set<Integer> outputs,
            ReferencePayloads payloads,
            ReferenceEncoding encoding,
            List<Stage> stages) {
        this.buffers = List.copyOf(buffers);
        this.inputs = Set.copyOf(inputs);
        this.outputs = Set.copyOf(outputs);
        this.payloads = payloads;
        this.encoding = encoding;
        this.stages = List.copyOf(stages);
        this.nanos = new long[stages.size()];
    }

    @Override
    public MemorySegment memory(Activation port) {
        if (!inputs.contains(port.buffer()) && !outputs.contains(port.buffer())) {
            throw new IllegalArgumentException("neither an input nor an output: " + port);
        }
        return open().get(port.buffer()).host();
    }

    @Override
    public void payload(int image, MemorySegment bytes, int symbolChecksum) {
        open();
        if (payloads == null || image < 0 || image >= payloads.images()) {
            throw new IllegalArgumentException("no payload of image " + image + " was declared");
        }
        payloads.set(image, bytes, symbolChecksum);
    }

    @Override
    public void execute() {
        List<ReferenceBuffer> memory = open();
        for (int input : inputs) {
            memory.get(input).readHost();
        }
        for (int s = 0; s < nanos.length; s++) {
            long start = System.nanoTime();
            for (Runnable step : stages.get(s).steps()) {
                step.run();
            }
            nanos[s] = System.nanoTime() - start;
        }
        for (int output : outputs) {
            memory.get(output).writeHost();
        }
    }

    @Override
    public DamagedDataException damage(int image) {
        return payloads == null ? null : payloads.damage(image);
    }

    @Override
    public RansEncoder.Encoded encoded(int image) {
        open();
        if (encoding == null) {
            throw new IllegalArgumentException("the run encodes nothing");
        }
        return encoding.encoded(image);
    }

    @Override
    public List<String> stages() {
        return stages.stream().map(Stage::name).toList();
    }

    @Override
    public long stageNanos(int stage) {
        return nanos[stage];
    }

    @Override
    public long bytes() {
        return open().stream()
                .map(b -> b.floats != null ? b.floats : b.host().heapBase().orElseThrow())
                .distinct()
                .mapToLong(a -> switch (a) {
                    case float[] f -> 4L * f.length;
                    case int[] i -> 4L * i.length;
                    case short[] s -> 2L * s.length;
                    case byte[] b -> b.length;
                    default -> 0;
                })
                .sum();
    }

    @Override
    public void close() {
        buffers = null;
    }

    private List<ReferenceBuffer> open() {
        if (buffers == null) {
            throw new IllegalStateException("the run is closed");
        }
        return buffers;
    }
}

package org.comneck.backend.library;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.comneck.DamagedDataException;
import org.comneck.backend.Activation;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.Run;

/** A sealed native plan. Executing it is one call. */
final class LibraryRun implements Run {
    private final LibraryBackend backend;
    private final ComneckLibrary library;
    private final NativeHandle plan;
    private final Arena arena = Arena.ofShared();
    private final Map<Integer, MemorySegment> ports = new HashMap<>();
    private final List<LibraryLayer> layers;
    private final List<LibraryTables> tables;
    private final DamagedDataException[] damage; // of each payload, in the last execution
    private final MemorySegment text;
    private final MemorySegment offset;
    private final MemorySegment nanos;
    private final long bytes;
    private final List<String> stages;
    private boolean closed;

    LibraryRun(
            LibraryBackend backend,
            NativeHandle plan,
            Map<Integer, MemorySegment> ports,
            List<LibraryLayer> layers,
            List<LibraryTables> tables,
            int payloads,
            List<String> stages,
            long bytes) {
        this.backend = backend;
        this.library = backend.library();
        this.plan = plan;
        this.layers = List.copyOf(layers);
        this.tables = List.copyOf(tables);
        this.damage = new DamagedDataException[payloads];
        this.text = arena.allocate(NativeRansDecoder.TEXT_BYTES);
        this.offset = arena.allocate(JAVA_LONG);
        this.bytes = bytes;
        this.stages = List.copyOf(stages);
        this.nanos = arena.allocate(JAVA_LONG, Math.max(1, stages.size()));
        // Segments of this arena throw once the run is closed, instead of reading freed memory.
        ports.forEach((port, memory) -> this.ports.put(port, memory.reinterpret(arena, null)));
    }

    @Override
    public MemorySegment memory(Activation port) {
        plan.address();
        MemorySegment memory = ports.get(port.buffer());
        if (memory == null) {
            throw new IllegalArgumentException("neither an input nor an output: " + port);
        }
        return memory;
    }

    @Override
    public synchronized void payload(int image, MemorySegment payload, int symbolChecksum) {
        if (image < 0 || image >= damage.length) {
            throw new IllegalArgumentException("no payload of image " + image + " was declared");
        }
        if (payload.isNative()) {
            handOver(image, payload, symbolChecksum);
        } else {
            try (Arena copy = Arena.ofConfined()) {
                handOver(image, Natives.inNativeMemory(copy, payload), symbolChecksum);
            }
        }
    }

    private void handOver(int image, MemorySegment payload, int symbolChecksum) {
        int status;
        try {
            status = (int) library.functions
                    .coding()
                    .planPayload()
                    .invokeExact(plan.address(), image, payload, payload.byteSize(), symbolChecksum);
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
        library.check(status);
    }

    @Override
    public synchronized void execute() {
        backend.address(); // a closed backend or layer throws here, before native code would read freed memory
        for (int i = 0; i < layers.size(); i++) {
            layers.get(i).address();
        }
        for (int i = 0; i < tables.size(); i++) {
            tables.get(i).address();
        }
        int status;
        try {
            status = (int) library.functions.planExecute().invokeExact(plan.address());
            if (status == ComneckLibrary.OK) {
                status = (int) library.functions.planNanos().invokeExact(plan.address(), nanos, nanos.byteSize() / 8);
            }
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
        library.check(status);
        for (int i = 0; i < damage.length; i++) {
            damage[i] = readDamage(i);
        }
    }

    private DamagedDataException readDamage(int image) {
        int status;
        try {
            status = (int) library.functions
                    .coding()
                    .planDamage()
                    .invokeExact(plan.address(), image, text, text.byteSize(), offset);
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
        library.check(status);
        return text.get(JAVA_BYTE, 0) == 0
                ? null
                : new DamagedDataException(text.getString(0), offset.get(JAVA_LONG, 0));
    }

    @Override
    public DamagedDataException damage(int image) {
        return image < 0 || image >= damage.length ? null : damage[image];
    }

    @Override
    public synchronized RansEncoder.Encoded encoded(int image) {
        try (Arena call = Arena.ofConfined()) {
            MemorySegment payload = call.allocate(ADDRESS);
            MemorySegment size = call.allocate(JAVA_LONG);
            MemorySegment checksum = call.allocate(JAVA_INT);
            int status;
            try {
                status = (int) library.functions
                        .coding()
                        .planEncoded()
                        .invokeExact(plan.address(), image, payload, size, checksum);
            } catch (RuntimeException e) {
                throw e;
            } catch (Throwable t) {
                throw ComneckLibrary.linkage(t);
            }
            library.check(status);
            return new RansEncoder.Encoded(
                    payload.get(ADDRESS, 0).reinterpret(size.get(JAVA_LONG, 0)).toArray(JAVA_BYTE),
                    checksum.get(JAVA_INT, 0));
        }
    }

    @Override
    public List<String> stages() {
        return stages;
    }

    @Override
    public long stageNanos(int stage) {
        return nanos.getAtIndex(JAVA_LONG, stage);
    }

    @Override
    public long bytes() {
        plan.address();
        return bytes;
    }

    @Override
    public Map<String, Long> launches() {
        return backend.launches(plan.address());
    }

    @Override
    public synchronized void close() {
        if (!closed) {
            closed = true;
            plan.close();
            arena.close();
        }
    }
}

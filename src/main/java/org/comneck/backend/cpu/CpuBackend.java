package org.comneck.backend.cpu;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.comneck.InternalException;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;
import org.comneck.backend.Convolution;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.RansDecoder;
import org.comneck.backend.RansEncoder;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.StepChecks;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;

/**
 * The native backend: our C++ kernels for AVX-512, AVX2 and any other processor, chosen when it is opened. Threads are native and sleep
 * while nothing runs.
 */
public final class CpuBackend implements Backend {
    private final NativeHandle context;
    private final String description;

    private CpuBackend(NativeHandle context, String description) {
        this.context = context;
        this.description = description;
    }

    /** Whether the native library can be used here. */
    public static boolean isAvailable() {
        return ComneckLibrary.unavailabilityCause() == null;
    }

    /** Why not, or null. */
    public static Throwable unavailabilityCause() {
        return ComneckLibrary.unavailabilityCause();
    }

    /**
     * Opens the backend with the best instruction set of this machine.
     *
     * @param threads how many work on a run, the caller's own included: 1 to 256
     * @throws InternalException when the native library is unavailable
     */
    public static CpuBackend open(int threads) {
        return open(threads, "auto");
    }

    /**
     * Opens the backend with an instruction set of choice.
     *
     * @param isa {@code auto}, {@code avx512}, {@code avx2} or {@code portable}
     * @throws UnsupportedOperationException when the machine lacks it
     */
    public static CpuBackend open(int threads, String isa) {
        if (!isAvailable()) {
            throw new InternalException(
                    "the cpu backend is unavailable: " + unavailabilityCause(), unavailabilityCause());
        }
        int code = switch (isa) {
            case "auto" -> 0;
            case "portable" -> 1;
            case "avx2" -> 2;
            case "avx512" -> 3;
            default ->
                throw new IllegalArgumentException("instruction set " + isa + ": auto, avx512, avx2 or portable");
        };
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            MemorySegment text = arena.allocate(128);
            MemorySegment address;
            try {
                ComneckLibrary.check(
                        (int) ComneckLibrary.FUNCTIONS.contextCreate().invokeExact(threads, code, out));
                address = out.get(ADDRESS, 0);
                ComneckLibrary.check(
                        (int) ComneckLibrary.FUNCTIONS.contextDescribe().invokeExact(address, text, text.byteSize()));
            } catch (RuntimeException e) {
                throw e;
            } catch (Throwable t) {
                throw ComneckLibrary.linkage(t);
            }
            return new CpuBackend(
                    new NativeHandle("backend", address, ComneckLibrary.FUNCTIONS.contextDestroy()),
                    "cpu: " + text.getString(0));
        }
    }

    @Override
    public String name() {
        return "cpu";
    }

    @Override
    public String description() {
        return description;
    }

    @Override
    public Layer layer(Convolution g, Tensor weight, Tensor bias, Precision precision) {
        if (weight.shape().rank() == 2 && g.kernelHeight() * g.kernelWidth() != 1) {
            long[] sizes = weight.shape().toArray();
            throw new IllegalArgumentException("weight of rank 2 " + Shape.of(sizes) + " for " + g);
        }
        StepChecks.layer(g, weight, bias);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment geometry = arena.allocate(ComneckLibrary.CONVOLUTION);
            int[] values = {
                g.inputChannels(),
                g.outputChannels(),
                g.kernelHeight(),
                g.kernelWidth(),
                g.stride(),
                g.padding(),
                switch (g.kind()) {
                    case DIRECT -> 0;
                    case CHECKERBOARD -> 1;
                    case TRANSPOSED -> 2;
                },
                precision.code()
            };
            MemorySegment.copy(values, 0, geometry, JAVA_INT, 0, values.length);
            MemorySegment w = Natives.inNativeMemory(arena, floats(weight));
            MemorySegment b = bias == null ? MemorySegment.NULL : Natives.inNativeMemory(arena, floats(bias));
            MemorySegment out = arena.allocate(ADDRESS);
            try {
                ComneckLibrary.check((int) ComneckLibrary.FUNCTIONS
                        .layerCreate()
                        .invokeExact(
                                context.address(),
                                geometry,
                                w,
                                w.byteSize(),
                                Natives.code(type(weight)),
                                b,
                                bias == null ? 0L : b.byteSize(),
                                bias == null ? 0 : Natives.code(type(bias)),
                                out));
            } catch (RuntimeException e) {
                throw e;
            } catch (Throwable t) {
                throw ComneckLibrary.linkage(t);
            }
            NativeHandle handle =
                    new NativeHandle("layer", out.get(ADDRESS, 0), ComneckLibrary.FUNCTIONS.layerDestroy());
            return new CpuLayer(this, handle, g, precision);
        }
    }

    /** Types that the library does not read become f32 first. */
    private static MemorySegment floats(Tensor tensor) {
        return type(tensor) == tensor.type() ? tensor.data() : MemorySegment.ofArray(tensor.toFloats());
    }

    private static ElementType type(Tensor tensor) {
        return tensor.type() == ElementType.F16 || tensor.type() == ElementType.BF16 ? tensor.type() : ElementType.F32;
    }

    @Override
    public Tables tables(CodingTables tables) {
        context.address();
        return new CpuTables(tables);
    }

    @Override
    public RunBuilder newRun() {
        return new CpuRunBuilder(this);
    }

    @Override
    public RansEncoder ransEncoder() {
        return new NativeRansEncoder();
    }

    @Override
    public RansDecoder ransDecoder() {
        return new NativeRansDecoder(this);
    }

    @Override
    public void close() {
        context.close();
    }

    MemorySegment address() {
        return context.address();
    }
}

package org.comneck.backend.library;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Map;
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
 * A backend whose operations are the functions of comneck.h. A subclass says which library, and how its context is made.
 */
public abstract class LibraryBackend implements Backend {
    private final String name;
    private final ComneckLibrary library;
    private final NativeHandle context;
    private final String description;

    /**
     * Makes the native context.
     *
     * @param name of the backend
     * @param first first argument of {@code comneck_context_create}: threads, or the number of a device
     * @param isa its second argument
     */
    protected LibraryBackend(String name, ComneckLibrary library, int first, int isa) {
        this.name = name;
        this.library = library;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            MemorySegment text = arena.allocate(256);
            ComneckLibrary.Functions functions = library.functions;
            try {
                library.check((int) functions.contextCreate().invokeExact(first, isa, out));
                context = new NativeHandle("backend", out.get(ADDRESS, 0), functions.contextDestroy());
                library.check((int) functions.contextDescribe().invokeExact(context.address(), text, text.byteSize()));
            } catch (RuntimeException e) {
                throw e;
            } catch (Throwable t) {
                throw ComneckLibrary.linkage(t);
            }
            description = name + ": " + text.getString(0);
        }
    }

    @Override
    public String name() {
        return name;
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
                library.check((int) library.functions
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
            NativeHandle handle = new NativeHandle("layer", out.get(ADDRESS, 0), library.functions.layerDestroy());
            return new LibraryLayer(this, handle, g, precision);
        }
    }

    /** Memory of a layer. */
    long bytes(NativeHandle layer) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(JAVA_LONG);
            library.check((int) library.functions.layerBytes().invokeExact(layer.address(), bytes));
            return bytes.get(JAVA_LONG, 0);
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
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
        return new LibraryTables(library, tables);
    }

    @Override
    public RunBuilder newRun() {
        return new LibraryRunBuilder(this);
    }

    @Override
    public RansEncoder ransEncoder() {
        return new NativeRansEncoder(this);
    }

    @Override
    public RansDecoder ransDecoder() {
        return new NativeRansDecoder(this);
    }

    /** What {@link org.comneck.backend.Run#launches} says of a native plan. */
    protected Map<String, Long> launches(MemorySegment plan) {
        return Map.of();
    }

    @Override
    public void close() {
        context.close();
    }

    ComneckLibrary library() {
        return library;
    }

    /** The native context. */
    protected MemorySegment address() {
        return context.address();
    }
}

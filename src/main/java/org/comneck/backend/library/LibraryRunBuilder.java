package org.comneck.backend.library;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Cleaner;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Run;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.StepChecks;
import org.comneck.backend.Taps;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Tensor;

/** Records each operation as one step of a native plan. The plan checks all bounds once more. */
final class LibraryRunBuilder implements RunBuilder {
    /** A buffer's place in the run's memory. */
    record Buffer(long offset, long bytes) {}

    /** One call into the library; only a wrongly declared one throws. */
    private interface Call {
        int invoke(ComneckLibrary.Functions functions, MemorySegment plan, Arena arena) throws Throwable;
    }

    /** {@code COMNECK_INPUT} and {@code COMNECK_OUTPUT}. */
    private static final int INPUT = 1;

    private static final int OUTPUT = 2;

    private static final Cleaner CLEANER = Cleaner.create();

    /** Frees the plan of a recording that was given up before it was built. */
    private static final class GivenUp implements Runnable {
        private final NativeHandle plan;
        private volatile boolean built;

        GivenUp(NativeHandle plan) {
            this.plan = plan;
        }

        @Override
        public void run() {
            if (!built) {
                plan.close();
            }
        }
    }

    private final LibraryBackend backend;
    private final ComneckLibrary library;
    private final NativeHandle plan;
    private final GivenUp givenUp;
    private final BufferLayout layout = new BufferLayout();
    private final List<Buffer> buffers = new ArrayList<>();
    private final Set<Integer> released = new HashSet<>();
    private final Set<Integer> inputs = new HashSet<>();
    private final Set<Integer> outputs = new HashSet<>();
    private final List<LibraryLayer> layers = new ArrayList<>();
    private final List<LibraryTables> tables = new ArrayList<>();
    private int payloads;
    private final List<String> stages = new ArrayList<>();
    private boolean built;

    LibraryRunBuilder(LibraryBackend backend) {
        this.backend = backend;
        this.library = backend.library();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            library.check((int) library.functions.planCreate().invokeExact(backend.address(), out));
            plan = new NativeHandle("run", out.get(ADDRESS, 0), library.functions.planDestroy());
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
        givenUp = new GivenUp(plan);
        CLEANER.register(this, givenUp);
    }

    @Override
    public Activation buffer(ElementType type, Grid grid, int images, int height, int width, int channels) {
        return buffer(type, grid, images, height, width, channels, true);
    }

    private Activation buffer(
            ElementType type, Grid grid, int images, int height, int width, int channels, boolean mayReuse) {
        recording();
        if (images < 1 || height < 1 || width < 1 || channels < 1) {
            throw new IllegalArgumentException(
                    "a buffer of " + images + "x" + height + "x" + width + "x" + channels + " elements");
        }
        Natives.code(type);
        long elements = Math.multiplyExact(Math.multiplyExact((long) images, grid.positions(height, width)), channels);
        long bytes = Math.multiplyExact(elements, type.bytes());
        buffers.add(new Buffer(mayReuse ? layout.allocate(bytes) : layout.append(bytes), bytes));
        return new Activation(buffers.size() - 1, type, grid, images, height, width, channels, 0, channels);
    }

    @Override
    public void release(Activation activation) {
        Buffer buffer = of(activation);
        if (!inputs.contains(activation.buffer()) && !outputs.contains(activation.buffer())) {
            released.add(activation.buffer());
            layout.release(buffer.offset(), buffer.bytes());
        }
    }

    @Override
    public Activation input(ElementType type, int images, int height, int width, int channels) {
        // The host fills it before the first step, so that it cannot lie where an earlier step still works.
        Activation activation = buffer(type, Grid.FULL, images, height, width, channels, false);
        inputs.add(activation.buffer());
        return activation;
    }

    @Override
    public void output(Activation activation) {
        of(activation);
        outputs.add(activation.buffer());
    }

    @Override
    public int stage(String name) {
        int[] number = new int[1];
        step((f, p, arena) -> {
            MemorySegment out = arena.allocate(JAVA_INT);
            int status = (int) f.planStage().invokeExact(p, out);
            number[0] = out.get(JAVA_INT, 0);
            return status;
        });
        stages.add(name);
        return number[0];
    }

    @Override
    public void convolution(
            Layer layer,
            List<Activation> sources,
            int[] absent,
            Activation residual,
            Function function,
            Activation destination) {
        if (!(layer instanceof LibraryLayer own) || own.backend() != backend) {
            throw new IllegalArgumentException("a layer of another backend: " + layer);
        }
        StepChecks.convolution(layer, sources, absent, residual, destination);
        step((f, p, arena) -> {
            MemorySegment views = arena.allocate(ComneckLibrary.VIEW, sources.size());
            int missing = 0;
            for (int i = 0; i < sources.size(); i++) {
                MemorySegment view = views.asSlice(i * ComneckLibrary.VIEW.byteSize(), ComneckLibrary.VIEW);
                Activation source = sources.get(i);
                if (source == null) {
                    view.set(JAVA_INT, 36, absent[missing++]);
                } else {
                    write(view, source);
                }
            }
            MemorySegment added = residual == null ? MemorySegment.NULL : view(arena, residual);
            return (int) f.planConvolution()
                    .invokeExact(
                            p, own.address(), views, sources.size(), added, function.code(), view(arena, destination));
        });
        layers.add(own);
    }

    @Override
    public void gate(Activation a, Activation b, Activation x, Activation destination) {
        for (Activation operand : List.of(a, b, x, destination)) {
            StepChecks.values(operand, "operand");
            StepChecks.same("operands", operand, destination);
        }
        step((f, p, arena) -> (int)
                f.planGate().invokeExact(p, view(arena, a), view(arena, b), view(arena, x), view(arena, destination)));
    }

    @Override
    public void add(Activation a, Activation b, Activation destination) {
        for (Activation operand : List.of(a, b, destination)) {
            StepChecks.values(operand, "operand");
            StepChecks.same("operands", operand, destination);
        }
        step((f, p, arena) ->
                (int) f.planAdd().invokeExact(p, view(arena, a), view(arena, b), view(arena, destination)));
    }

    @Override
    public void scale(Activation source, Activation gains, Activation destination) {
        StepChecks.scale(source, gains, destination);
        step((f, p, arena) ->
                (int) f.planScale().invokeExact(p, view(arena, source), view(arena, gains), view(arena, destination)));
    }

    @Override
    public void copy(Activation source, Activation destination) {
        StepChecks.values(source, "source");
        StepChecks.values(destination, "destination");
        StepChecks.same("source and destination", source, destination);
        step((f, p, arena) -> (int) f.planCopy().invokeExact(p, view(arena, source), view(arena, destination)));
    }

    @Override
    public void layerNorm(Activation source, Tensor weight, Tensor bias, float epsilon, Activation destination) {
        StepChecks.values(source, "source");
        StepChecks.values(destination, "destination");
        StepChecks.same("source and destination", source, destination);
        StepChecks.vector(weight, source.channels(), "weight");
        StepChecks.vector(bias, source.channels(), "bias");
        step((f, p, arena) -> {
            MemorySegment w = Natives.floats(arena, weight);
            MemorySegment b = Natives.floats(arena, bias);
            return (int) f.planLayerNorm()
                    .invokeExact(
                            p,
                            view(arena, source),
                            w,
                            w.byteSize(),
                            b,
                            b.byteSize(),
                            epsilon,
                            view(arena, destination));
        });
    }

    @Override
    public void attention(Activation qkv, int heads, Activation destination) {
        StepChecks.attention(qkv, heads, destination);
        step((f, p, arena) ->
                (int) f.planAttention().invokeExact(p, view(arena, qkv), heads, view(arena, destination)));
    }

    @Override
    public void embed(Activation source, Tensor classToken, Tensor positions, Activation destination) {
        StepChecks.embed(source, classToken, positions, destination);
        step((f, p, arena) -> {
            MemorySegment token = classToken == null ? MemorySegment.NULL : Natives.floats(arena, classToken);
            MemorySegment table = Natives.floats(arena, positions);
            return (int) f.planEmbed()
                    .invokeExact(
                            p,
                            view(arena, source),
                            token,
                            token.byteSize(),
                            table,
                            table.byteSize(),
                            view(arena, destination));
        });
    }

    @Override
    public void embedNorm(
            Activation source,
            Tensor classToken,
            Tensor positions,
            Tensor weight,
            Tensor bias,
            float epsilon,
            Activation destination) {
        if (library.functions.planEmbedNorm() == null) {
            RunBuilder.super.embedNorm(source, classToken, positions, weight, bias, epsilon, destination);
            return;
        }
        StepChecks.embed(source, classToken, positions, destination);
        StepChecks.vector(weight, source.channels(), "weight");
        StepChecks.vector(bias, source.channels(), "bias");
        step((f, p, arena) -> {
            MemorySegment token = classToken == null ? MemorySegment.NULL : Natives.floats(arena, classToken);
            MemorySegment table = Natives.floats(arena, positions);
            MemorySegment w = Natives.floats(arena, weight);
            MemorySegment b = Natives.floats(arena, bias);
            return (int) f.planEmbedNorm()
                    .invokeExact(
                            p,
                            view(arena, source),
                            token,
                            token.byteSize(),
                            table,
                            table.byteSize(),
                            w,
                            w.byteSize(),
                            b,
                            b.byteSize(),
                            epsilon,
                            view(arena, destination));
        });
    }

    @Override
    public void selectTokens(Activation source, int first, Activation destination) {
        StepChecks.selectTokens(source, first, destination);
        step((f, p, arena) ->
                (int) f.planSelectTokens().invokeExact(p, view(arena, source), first, view(arena, destination)));
    }

    @Override
    public void normalize(Activation pixels, float[] mean, float[] deviation, Activation destination) {
        StepChecks.pixels(pixels, destination);
        if (mean.length != pixels.channels() || deviation.length != pixels.channels()) {
            throw new IllegalArgumentException(
                    mean.length + " means and " + deviation.length + " deviations for " + pixels);
        }
        step((f, p, arena) -> {
            MemorySegment m = Natives.floats(arena, mean);
            MemorySegment d = Natives.floats(arena, deviation);
            return (int) f.planNormalize()
                    .invokeExact(p, view(arena, pixels), m, m.byteSize(), d, d.byteSize(), view(arena, destination));
        });
    }

    @Override
    public void toPixels(Activation source, Activation pixels) {
        StepChecks.pixels(pixels, source);
        step((f, p, arena) -> (int) f.planToPixels().invokeExact(p, view(arena, source), view(arena, pixels)));
    }

    @Override
    public void resample(Activation pixels, Taps.Axis axis, Taps taps, Activation destination) {
        StepChecks.resample(pixels, axis, taps, destination);
        step((f, p, arena) -> {
            MemorySegment values = arena.allocateFrom(JAVA_INT, taps.values());
            int rows = axis == Taps.Axis.HEIGHT ? 1 : 0;
            return (int) f.planResample()
                    .invokeExact(p, view(arena, pixels), rows, values, values.byteSize(), view(arena, destination));
        });
    }

    @Override
    public void quantizeFactorized(Activation z, Tensor medians, Activation symbols, Activation zHat) {
        StepChecks.factorized(zHat, medians, symbols);
        StepChecks.type(z, ElementType.F32, "z");
        StepChecks.same("z and zHat", z, zHat);
        step((f, p, arena) -> {
            MemorySegment m = Natives.floats(arena, medians);
            return (int) f.coding()
                    .planQuantizeFactorized()
                    .invokeExact(p, view(arena, z), m, m.byteSize(), view(arena, symbols), view(arena, zHat));
        });
    }

    @Override
    public void quantizeGaussian(
            Activation y,
            Activation parameters,
            Tensor thresholds,
            Activation indices,
            Activation symbols,
            Activation yHat) {
        StepChecks.gaussian(parameters, thresholds, symbols, yHat);
        StepChecks.type(y, ElementType.F32, "y");
        StepChecks.same("y and yHat", y, yHat);
        StepChecks.type(indices, ElementType.U8, "indices");
        StepChecks.same("indices and symbols", indices, symbols);
        step((f, p, arena) -> {
            MemorySegment t = Natives.floats(arena, thresholds);
            return (int) f.coding()
                    .planQuantizeGaussian()
                    .invokeExact(
                            p,
                            view(arena, y),
                            view(arena, parameters),
                            t,
                            t.byteSize(),
                            view(arena, indices),
                            view(arena, symbols),
                            view(arena, yHat));
        });
    }

    @Override
    public void payloads(int images, long symbols) {
        if (payloads > 0) {
            throw new IllegalStateException("the run has its payloads already");
        }
        if (images < 1 || symbols < 0) {
            throw new IllegalArgumentException(images + " payloads of " + symbols + " symbols");
        }
        step((f, p, arena) -> (int) f.coding().planPayloads().invokeExact(p, images));
        payloads = images;
    }

    @Override
    public void decodeFactorized(Backend.Tables tables, Tensor medians, Activation symbols, Activation zHat) {
        StepChecks.factorized(zHat, medians, symbols);
        StepChecks.tables(tables, zHat.channels());
        LibraryTables packed = LibraryTables.of(library, tables);
        step((f, p, arena) -> {
            MemorySegment m = Natives.floats(arena, medians);
            return (int) f.coding()
                    .planDecodeFactorized()
                    .invokeExact(p, packed.address(), m, m.byteSize(), view(arena, symbols), view(arena, zHat));
        });
        this.tables.add(packed);
    }

    @Override
    public void decodeGaussian(
            Backend.Tables tables, Activation parameters, Tensor thresholds, Activation symbols, Activation yHat) {
        StepChecks.gaussian(parameters, thresholds, symbols, yHat);
        StepChecks.tables(tables, Math.toIntExact(thresholds.shape().elements() + 1));
        LibraryTables packed = LibraryTables.of(library, tables);
        step((f, p, arena) -> {
            MemorySegment t = Natives.floats(arena, thresholds);
            return (int) f.coding()
                    .planDecodeGaussian()
                    .invokeExact(
                            p,
                            packed.address(),
                            view(arena, parameters),
                            t,
                            t.byteSize(),
                            view(arena, symbols),
                            view(arena, yHat));
        });
        this.tables.add(packed);
    }

    @Override
    public void finishPayloads() {
        if (payloads == 0) {
            throw new IllegalStateException("the run has no payloads");
        }
        step((f, p, arena) -> (int) f.coding().planFinishPayloads().invokeExact(p));
    }

    @Override
    public void encodePayloads(List<SymbolPass> passes, int substreams) {
        StepChecks.encode(passes, substreams);
        List<LibraryTables> packed = passes.stream()
                .map(pass -> LibraryTables.of(library, pass.tables()))
                .toList();
        step((f, p, arena) -> {
            MemorySegment handles = arena.allocate(ADDRESS, passes.size());
            MemorySegment symbols = arena.allocate(ComneckLibrary.VIEW, passes.size());
            MemorySegment indices = arena.allocate(ComneckLibrary.VIEW, passes.size());
            for (int i = 0; i < passes.size(); i++) {
                SymbolPass pass = passes.get(i);
                long at = i * ComneckLibrary.VIEW.byteSize();
                handles.setAtIndex(ADDRESS, i, packed.get(i).address());
                write(symbols.asSlice(at, ComneckLibrary.VIEW), pass.symbols());
                if (pass.indices() != null) { // zeros: absent
                    write(indices.asSlice(at, ComneckLibrary.VIEW), pass.indices());
                }
            }
            return (int) f.coding().planEncode().invokeExact(p, handles, symbols, indices, passes.size(), substreams);
        });
        tables.addAll(packed);
    }

    @Override
    public Run build() {
        Set<Integer> ports = new TreeSet<>(inputs);
        ports.addAll(outputs);
        Map<Integer, MemorySegment> memory = new HashMap<>();
        long[] bytes = new long[1];
        for (int port : ports) {
            Buffer buffer = buffers.get(port);
            int direction = (inputs.contains(port) ? INPUT : 0) | (outputs.contains(port) ? OUTPUT : 0);
            step((f, p, arena) -> (int) f.planPort().invokeExact(p, buffer.offset(), buffer.bytes(), direction));
        }
        step((f, p, arena) -> {
            MemorySegment out = arena.allocate(ADDRESS);
            library.check((int) f.planSeal().invokeExact(p, layout.bytes(), out));
            for (int port : ports) {
                Buffer buffer = buffers.get(port);
                library.check((int) f.planPortMemory().invokeExact(p, buffer.offset(), out));
                memory.put(port, out.get(ADDRESS, 0).reinterpret(buffer.bytes()));
            }
            MemorySegment total = arena.allocate(JAVA_LONG);
            int status = (int) f.planBytes().invokeExact(p, total);
            bytes[0] = total.get(JAVA_LONG, 0);
            return status;
        });
        built = true;
        givenUp.built = true; // from here on the run owns the plan
        return new LibraryRun(backend, plan, memory, layers, tables, payloads, stages, bytes[0]);
    }

    /** Adds a step. The library's misuse status becomes an IllegalArgumentException. */
    private void step(Call call) {
        recording();
        try (Arena arena = Arena.ofConfined()) {
            library.check(call.invoke(library.functions, plan.address(), arena));
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
    }

    /** A {@code comneck_view} of an activation. */
    private MemorySegment view(Arena arena, Activation activation) {
        MemorySegment view = arena.allocate(ComneckLibrary.VIEW);
        write(view, activation);
        return view;
    }

    private void write(MemorySegment view, Activation a) {
        Buffer buffer = of(a);
        view.set(JAVA_LONG, 0, buffer.offset());
        view.set(JAVA_LONG, 8, buffer.bytes());
        int[] values = {
            Natives.code(a.type()),
            a.grid().code(),
            a.images(),
            a.height(),
            a.width(),
            a.channels(),
            a.channelOffset(),
            a.channelStride()
        };
        MemorySegment.copy(values, 0, view, JAVA_INT, 16, values.length);
    }

    private Buffer of(Activation activation) {
        recording();
        int number = activation.buffer();
        if (number < 0 || number >= buffers.size() || released.contains(number)) {
            throw new IllegalArgumentException("not a buffer of this run, or released: " + activation);
        }
        return buffers.get(number);
    }

    private void recording() {
        if (built) {
            throw new IllegalStateException("the run is built");
        }
    }
}

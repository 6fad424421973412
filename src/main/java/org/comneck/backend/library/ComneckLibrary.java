package org.comneck.backend.library;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.comneck.DamagedDataException;
import org.comneck.DeviceException;
import org.comneck.InternalException;

/**
 * The functions of comneck.h in one loaded library: libcomneck or libcomneck_cuda, which implement the same manual.
 */
public final class ComneckLibrary {
    static final int ABI_VERSION = 7;

    static final int OK = 0;
    static final int MISUSE = 1;
    static final int DAMAGED = 2;
    static final int OUT_OF_MEMORY = 3;
    static final int UNSUPPORTED = 4;
    static final int LAUNCH_FAILED = 6;
    static final int DEVICE_LOST = 7;

    /** {@code comneck_view}. */
    static final MemoryLayout VIEW = MemoryLayout.structLayout(
            JAVA_LONG.withName("offset_bytes"),
            JAVA_LONG.withName("bytes"),
            JAVA_INT.withName("type"),
            JAVA_INT.withName("grid"),
            JAVA_INT.withName("images"),
            JAVA_INT.withName("height"),
            JAVA_INT.withName("width"),
            JAVA_INT.withName("channels"),
            JAVA_INT.withName("channel_offset"),
            JAVA_INT.withName("channel_stride"));

    /** {@code comneck_convolution}. */
    static final MemoryLayout CONVOLUTION = MemoryLayout.structLayout(
            JAVA_INT.withName("input_channels"),
            JAVA_INT.withName("output_channels"),
            JAVA_INT.withName("kernel_height"),
            JAVA_INT.withName("kernel_width"),
            JAVA_INT.withName("stride"),
            JAVA_INT.withName("padding"),
            JAVA_INT.withName("kind"),
            JAVA_INT.withName("precision"));

    /** Method handles of one loaded library; planEmbedNorm is null where it has no such function. */
    record Functions(
            MethodHandle lastError,
            MethodHandle contextCreate,
            MethodHandle contextDescribe,
            MethodHandle contextDestroy,
            MethodHandle layerCreate,
            MethodHandle layerBytes,
            MethodHandle layerDestroy,
            MethodHandle planCreate,
            MethodHandle planStage,
            MethodHandle planPort,
            MethodHandle planPortMemory,
            MethodHandle planSeal,
            MethodHandle planBytes,
            MethodHandle planExecute,
            MethodHandle planNanos,
            MethodHandle planDestroy,
            MethodHandle planConvolution,
            MethodHandle planGate,
            MethodHandle planAdd,
            MethodHandle planScale,
            MethodHandle planCopy,
            MethodHandle planLayerNorm,
            MethodHandle planAttention,
            MethodHandle planEmbed,
            MethodHandle planEmbedNorm,
            MethodHandle planSelectTokens,
            MethodHandle planNormalize,
            MethodHandle planToPixels,
            MethodHandle planResample,
            CodingFunctions coding) {}

    /**
     * What loading came to: a library or a cause.
     *
     * @param library null where it cannot be used
     * @param cause why not, else null
     */
    public record Loaded(ComneckLibrary library, Throwable cause) {}

    /** Method handles. */
    final Functions functions;

    private final SymbolLookup lookup;
    private final String name;
    private final boolean ofDevice;

    private ComneckLibrary(String name, SymbolLookup lookup) throws Throwable {
        this.name = name;
        this.lookup = lookup;
        this.ofDevice = lookup.find("comneck_cuda_probe").isPresent();
        this.functions = bind(lookup);
    }

    /**
     * Loads {@code linux-x86_64/name} from the class path beside a class. Whether that worked is a value.
     *
     * @param beside whose package has the library
     * @param name file name, such as {@code libcomneck.so}
     */
    public static Loaded load(Class<?> beside, String name) {
        try {
            return new Loaded(new ComneckLibrary(name, open(beside, name)), null);
        } catch (Throwable t) {
            return new Loaded(null, t);
        }
    }

    /** Loads the library of a file. Whether that worked is a value. */
    public static Loaded load(Path file) {
        try {
            return new Loaded(
                    new ComneckLibrary(
                            file.getFileName().toString(),
                            SymbolLookup.libraryLookup(file.toAbsolutePath(), Arena.global())),
                    null);
        } catch (Throwable t) {
            return new Loaded(null, t);
        }
    }

    /** A function that only this library has. */
    public MethodHandle find(String function, FunctionDescriptor descriptor) {
        return find(Linker.nativeLinker(), lookup, function, descriptor);
    }

    /** Turns a status into the exception that it stands for. */
    public void check(int status) {
        if (status != OK) {
            throw failure(status);
        }
    }

    private RuntimeException failure(int status) {
        String message;
        try {
            MemorySegment text = (MemorySegment) functions.lastError.invokeExact();
            message = text.reinterpret(512).getString(0);
        } catch (Throwable t) {
            throw linkage(t);
        }
        return switch (status) {
            case MISUSE -> new IllegalArgumentException(message);
            case DAMAGED -> new DamagedDataException(message);
            case OUT_OF_MEMORY -> outOfMemory(message);
            case LAUNCH_FAILED -> new DeviceException(DeviceException.Cause.LAUNCH_FAILED, name + ": " + message);
            case DEVICE_LOST -> new DeviceException(DeviceException.Cause.LOST, name + ": " + message);
            case UNSUPPORTED -> new UnsupportedOperationException(message);
            default -> new InternalException(name + ": " + message);
        };
    }

    private InternalException outOfMemory(String message) {
        return ofDevice
                ? new DeviceException(DeviceException.Cause.OUT_OF_MEMORY, name + ": " + message)
                : new InternalException("native memory: " + message);
    }

    /** A throwable out of a downcall is never data: the call itself was made wrongly. */
    public static AssertionError linkage(Throwable t) {
        return new AssertionError("a call into libcomneck is declared wrongly", t);
    }

    private static Functions bind(SymbolLookup lookup) throws Throwable {
        Linker linker = Linker.nativeLinker();
        verify(linker, lookup);
        FunctionDescriptor twoPointers = FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS);
        FunctionDescriptor threePointers = FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS);
        FunctionDescriptor fourPointers = FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS, ADDRESS);
        FunctionDescriptor fivePointers = FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS);
        FunctionDescriptor twoArrays =
                FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS, JAVA_LONG, ADDRESS);
        FunctionDescriptor numberBetween = FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT, ADDRESS);
        FunctionDescriptor destroy = FunctionDescriptor.ofVoid(ADDRESS);
        return new Functions(
                find(linker, lookup, "comneck_last_error", FunctionDescriptor.of(ADDRESS)),
                find(
                        linker,
                        lookup,
                        "comneck_context_create",
                        FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT, ADDRESS)),
                find(
                        linker,
                        lookup,
                        "comneck_context_describe",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG)),
                find(linker, lookup, "comneck_context_destroy", destroy),
                find(
                        linker,
                        lookup,
                        "comneck_layer_create",
                        FunctionDescriptor.of(
                                JAVA_INT, ADDRESS, ADDRESS, ADDRESS, JAVA_LONG, JAVA_INT, ADDRESS, JAVA_LONG, JAVA_INT,
                                ADDRESS)),
                find(linker, lookup, "comneck_layer_bytes", twoPointers),
                find(linker, lookup, "comneck_layer_destroy", destroy),
                find(linker, lookup, "comneck_plan_create", twoPointers),
                find(linker, lookup, "comneck_plan_stage", twoPointers),
                find(
                        linker,
                        lookup,
                        "comneck_plan_port",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, JAVA_LONG, JAVA_INT)),
                find(
                        linker,
                        lookup,
                        "comneck_plan_port_memory",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, ADDRESS)),
                find(linker, lookup, "comneck_plan_seal", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, ADDRESS)),
                find(linker, lookup, "comneck_plan_bytes", twoPointers),
                find(linker, lookup, "comneck_plan_execute", FunctionDescriptor.of(JAVA_INT, ADDRESS)),
                find(
                        linker,
                        lookup,
                        "comneck_plan_nanos",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG)),
                find(linker, lookup, "comneck_plan_destroy", destroy),
                find(
                        linker,
                        lookup,
                        "comneck_plan_convolution",
                        FunctionDescriptor.of(
                                JAVA_INT, ADDRESS, ADDRESS, ADDRESS, JAVA_INT, ADDRESS, JAVA_INT, ADDRESS)),
                find(linker, lookup, "comneck_plan_gate", fivePointers),
                find(linker, lookup, "comneck_plan_add", fourPointers),
                find(linker, lookup, "comneck_plan_scale", fourPointers),
                find(linker, lookup, "comneck_plan_copy", threePointers),
                find(
                        linker,
                        lookup,
                        "comneck_plan_layer_norm",
                        FunctionDescriptor.of(
                                JAVA_INT,
                                ADDRESS,
                                ADDRESS,
                                ADDRESS,
                                JAVA_LONG,
                                ADDRESS,
                                JAVA_LONG,
                                JAVA_FLOAT,
                                ADDRESS)),
                find(linker, lookup, "comneck_plan_attention", numberBetween),
                find(linker, lookup, "comneck_plan_embed", twoArrays),
                lookup.find("comneck_cuda_plan_embed_norm")
                        .map(function -> linker.downcallHandle(
                                function,
                                FunctionDescriptor.of(
                                        JAVA_INT,
                                        ADDRESS,
                                        ADDRESS,
                                        ADDRESS,
                                        JAVA_LONG,
                                        ADDRESS,
                                        JAVA_LONG,
                                        ADDRESS,
                                        JAVA_LONG,
                                        ADDRESS,
                                        JAVA_LONG,
                                        JAVA_FLOAT,
                                        ADDRESS)))
                        .orElse(null),
                find(linker, lookup, "comneck_plan_select_tokens", numberBetween),
                find(linker, lookup, "comneck_plan_normalize", twoArrays),
                find(linker, lookup, "comneck_plan_to_pixels", threePointers),
                find(
                        linker,
                        lookup,
                        "comneck_plan_resample",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT, ADDRESS, JAVA_LONG, ADDRESS)),
                CodingFunctions.bind((name, descriptor) -> find(linker, lookup, name, descriptor)));
    }

    private static MethodHandle find(Linker linker, SymbolLookup lookup, String name, FunctionDescriptor descriptor) {
        return linker.downcallHandle(lookup.findOrThrow(name), descriptor);
    }

    /** Our and the library's idea of version and structures must be one. */
    private static void verify(Linker linker, SymbolLookup lookup) throws Throwable {
        MethodHandle version = find(linker, lookup, "comneck_abi_version", FunctionDescriptor.of(JAVA_INT));
        int found = (int) version.invokeExact();
        if (found != ABI_VERSION) {
            throw new InternalException("libcomneck has ABI version " + found + ", this program needs " + ABI_VERSION);
        }
        List<Integer> expected = new ArrayList<>();
        for (MemoryLayout layout : List.of(VIEW, CONVOLUTION)) {
            expected.add((int) layout.byteSize());
            for (MemoryLayout member : ((java.lang.foreign.StructLayout) layout).memberLayouts()) {
                expected.add((int)
                        layout.byteOffset(PathElement.groupElement(member.name().orElseThrow())));
            }
        }
        MethodHandle layout =
                find(linker, lookup, "comneck_layout", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG));
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment values = arena.allocate(JAVA_INT, expected.size());
            int status = (int) layout.invokeExact(values, (long) expected.size());
            int[] actual = values.toArray(ValueLayout.JAVA_INT);
            if (status != OK
                    || !Arrays.equals(
                            actual,
                            expected.stream().mapToInt(Integer::intValue).toArray())) {
                throw new InternalException(
                        "libcomneck lays its structures out as " + Arrays.toString(actual) + ", expected " + expected);
            }
        }
    }

    /** Loads a private copy of the library, which is gone from the file system before this returns. */
    private static SymbolLookup open(Class<?> beside, String name) throws IOException {
        String system = System.getProperty("os.name").toLowerCase(java.util.Locale.ROOT);
        String machine = System.getProperty("os.arch");
        if (!system.equals("linux") || !machine.equals("amd64")) {
            throw new UnsupportedOperationException(
                    name + " is built for Linux on x86-64, this is " + system + " on " + machine);
        }
        String resource = "linux-x86_64/" + name;
        try (InputStream in = beside.getResourceAsStream(resource)) {
            if (in == null) {
                throw new InternalException(name + " is not on the class path (" + resource + ")");
            }
            // A directory that only this user can enter: nobody can put another library in its place.
            Path directory = Files.createTempDirectory("comneck-");
            Path file = directory.resolve(name);
            // The mapping outlives the name, and nothing is left behind however the process ends.
            try {
                Files.copy(in, file);
                return SymbolLookup.libraryLookup(file, Arena.global());
            } finally {
                Files.deleteIfExists(file);
                Files.delete(directory);
            }
        }
    }
}

package org.comneck.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.backend.Precision;
import org.comneck.backend.library.ComneckLibrary;
import org.comneck.backend.library.LibraryBackend;

/** Our CUDA kernels on one device. F32 results are the processor's, bit by bit. */
public final class CudaBackend extends LibraryBackend {
    /** Whether a device can be used, in the numbers of comneck_cuda.h. */
    public enum Cause {
        /** It can. */
        AVAILABLE,
        /** No NVIDIA driver is installed. */
        NO_DRIVER,
        /** The driver is older than the CUDA that the library was built with. */
        OLD_DRIVER,
        /** There is a driver, but no such device. */
        NO_DEVICE,
        /** The device is older than sm_80. */
        WRONG_ARCHITECTURE,
        /** The driver says something else. */
        BROKEN,
        /** This build has no libcomneck_cuda: it was made without nvcc, or for another platform. */
        NO_LIBRARY
    }

    /**
     * Whether a device can be used, and why not.
     *
     * @param cause {@link Cause#AVAILABLE} when it can
     * @param text what the device is, or what is missing: one line for people
     */
    public record Availability(Cause cause, String text) {
        /** Whether the device can be used. */
        public boolean isAvailable() {
            return cause == Cause.AVAILABLE;
        }
    }

    /**
     * System property with the path of another build of libcomneck_cuda that is taken instead of the program's own: the emulation, which
     * shows on any machine what every verb does on {@code --backend cuda}, slowly.
     */
    public static final String LIBRARY_PROPERTY = "comneck.cuda.library";

    /**
     * System property that says which instructions attention and linear layers in bf16 and f16 are made of: {@code sm_80}, {@code sm_90a} (wgmma and TMA, devices
     * of compute capability 9.0 only) or {@code auto}, the default, which is {@code sm_80} on every device as long as none has shown that
     * {@code sm_90a} is right and faster.
     */
    public static final String ISA_PROPERTY = "comneck.cuda.isa";

    /** In the numbers of comneck_cuda.h. */
    private static final List<String> ISAS = List.of("auto", "sm_80", "sm_90a");

    private static final int TEXT_BYTES = 256;
    private static final String EMULATION = "emulation on the processor";
    private static final List<Path> DRIVER = List.of(Path.of("/dev/nvidiactl"), Path.of("/dev/dxg"));

    /** Loaded when somebody asks, and a driver is there. */
    private static final class Library {
        static final ComneckLibrary.Loaded LOADED = ComneckLibrary.load(CudaBackend.class, "libcomneck_cuda.so");

        private Library() {}
    }

    /** What {@link #LIBRARY_PROPERTY} names, loaded when it first does. */
    private static final class Named {
        private static final Map<String, ComneckLibrary.Loaded> LOADED = new ConcurrentHashMap<>();

        private Named() {}
    }

    /** The library to work with; it is not loaded twice. */
    private static ComneckLibrary.Loaded library() {
        String named = System.getProperty(LIBRARY_PROPERTY);
        return named == null
                ? Library.LOADED
                : Named.LOADED.computeIfAbsent(named, path -> ComneckLibrary.load(Path.of(path)));
    }

    /** In the numbers of comneck_cuda.h. */
    private static final List<String> KINDS = List.of(
            "tensor_gemm",
            "fused_attention",
            "row_norm",
            "canonical_convolution",
            "canonical_attention",
            "canonical_norm",
            "elementwise",
            "rans",
            "embed_norm",
            "cublaslt",
            "tensor_convolution",
            "cudnn");

    private final ComneckLibrary library;
    private final String vendors;

    private CudaBackend(ComneckLibrary library, int device, CudaLibraries libraries) {
        super("cuda", library, device, isa(System.getProperty(ISA_PROPERTY, ISAS.getFirst())));
        this.library = library;
        StringBuilder opened = new StringBuilder();
        if (libraries == CudaLibraries.VENDOR) {
            for (VendorLibrary vendor : VendorLibrary.values()) {
                opened.append("; ").append(vendor.openFor(library, address()));
            }
        }
        this.vendors = opened.toString();
    }

    /** The device, and with {@link CudaLibraries#VENDOR} each library's version, or why it cannot be used. */
    @Override
    public String description() {
        return super.description() + vendors;
    }

    private static int isa(String name) {
        int isa = ISAS.indexOf(name);
        if (isa < 0) {
            throw new UsageException("-D" + ISA_PROPERTY + "=" + name + ": there are " + String.join(", ", ISAS)
                    + "; auto is the default");
        }
        return isa;
    }

    @Override
    public boolean computes(Precision precision) {
        return true;
    }

    @Override
    protected Map<String, Long> launches(MemorySegment plan) {
        FunctionDescriptor descriptor = FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment counts = arena.allocate(JAVA_LONG, KINDS.size());
            library.check((int) library.find("comneck_cuda_plan_launches", descriptor)
                    .invokeExact(plan, counts, (long) KINDS.size()));
            Map<String, Long> launches = new LinkedHashMap<>();
            for (int i = 0; i < KINDS.size(); i++) {
                launches.put(KINDS.get(i), counts.getAtIndex(JAVA_LONG, i));
            }
            return launches;
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
    }

    /** Whether this is the emulation: the same results, and times that say nothing. */
    public boolean isEmulated() {
        return description().startsWith(name() + ": " + EMULATION);
    }

    /** Asks the driver, which takes some tens of milliseconds; where there is none, nothing is loaded. */
    public static Availability availability(int device) {
        if (System.getProperty(LIBRARY_PROPERTY) == null && DRIVER.stream().noneMatch(Files::exists)) {
            return new Availability(Cause.NO_DRIVER, "no NVIDIA driver is installed: there is no " + DRIVER.getFirst());
        }
        ComneckLibrary.Loaded loaded = library();
        return loaded.cause() != null
                ? new Availability(
                        Cause.NO_LIBRARY,
                        "there is a driver, but this program has no usable libcomneck_cuda, which takes nvcc to build: "
                                + loaded.cause().getMessage())
                : availability(loaded.library(), device);
    }

    static Availability availability(ComneckLibrary library, int device) {
        FunctionDescriptor descriptor = FunctionDescriptor.of(JAVA_INT, JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment cause = arena.allocate(JAVA_INT);
            MemorySegment text = arena.allocate(TEXT_BYTES);
            library.check((int)
                    library.find("comneck_cuda_probe", descriptor).invokeExact(device, cause, text, (long) TEXT_BYTES));
            return new Availability(Cause.values()[cause.get(JAVA_INT, 0)], text.getString(0));
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
    }

    /**
     * Opens the backend on a device, with our own kernels only.
     *
     * @throws InternalException when it is unavailable: ask {@link #availability} first
     * @throws UsageException when {@link #ISA_PROPERTY} names none, or what the device lacks
     */
    public static CudaBackend open(int device) {
        return open(device, CudaLibraries.OWN);
    }

    /**
     * Opens the backend on a device. A library that cannot be used is no error: {@link #description} says it.
     *
     * @throws InternalException when it is unavailable: ask {@link #availability} first
     * @throws UsageException when {@link #ISA_PROPERTY} names none, or what the device lacks
     */
    public static CudaBackend open(int device, CudaLibraries libraries) {
        Availability availability = availability(device);
        if (!availability.isAvailable()) {
            throw new InternalException("the cuda backend is unavailable: " + availability.text());
        }
        try {
            return new CudaBackend(library().library(), device, libraries);
        } catch (UnsupportedOperationException e) {
            throw new UsageException("-D" + ISA_PROPERTY + ": " + e.getMessage(), e);
        }
    }

    /** Opens a backend on another build of the library: the emulation. */
    static CudaBackend open(ComneckLibrary library, CudaLibraries libraries) {
        return new CudaBackend(library, 0, libraries);
    }
}

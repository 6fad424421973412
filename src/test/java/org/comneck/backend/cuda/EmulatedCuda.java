package org.comneck.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.comneck.backend.library.ComneckLibrary;

/** The cuda backend on the processor: its kernels and its runtime, compiled for the emulation. */
public final class EmulatedCuda {
    static final ComneckLibrary.Loaded LOADED = ComneckLibrary.load(EmulatedCuda.class, "libcomneck_cuda_emulated.so");

    private EmulatedCuda() {}

    /**
     * Makes it what {@code --backend cuda} and {@code auto} take, until closed. Another copy of the library than {@link #open}'s: injected
     * faults do not reach it.
     */
    public static final class AsTheDevice implements AutoCloseable {
        public AsTheDevice() {
            System.setProperty(CudaBackend.LIBRARY_PROPERTY, file());
        }

        @Override
        public void close() {
            System.clearProperty(CudaBackend.LIBRARY_PROPERTY);
        }
    }

    /** Has the emulation's cuBLASLt and cuDNN be what is installed, until closed. */
    public static final class Vendors implements AutoCloseable {
        private final List<Path> copies = new ArrayList<>();

        public Vendors() {
            for (VendorLibrary library : VendorLibrary.values()) {
                System.setProperty(library.property(), file(library).toString());
            }
        }

        /** Where JavaCPP's CUDA preset looks, not named by a property. */
        public static Vendors ofPreset() {
            Vendors vendors = new Vendors();
            vendors.close();
            Path natives = Path.of(EmulatedCuda.file())
                    .resolve("../../../../../bytedeco/cuda/linux-x86_64")
                    .normalize();
            Map<VendorLibrary, String> names =
                    Map.of(VendorLibrary.CUBLASLT, "libcublasLt.so.13", VendorLibrary.CUDNN, "libcudnn.so.9");
            try {
                Files.createDirectories(natives);
                for (VendorLibrary library : VendorLibrary.values()) {
                    Path copy = natives.resolve(names.get(library));
                    Files.copy(file(library), copy, StandardCopyOption.REPLACE_EXISTING);
                    vendors.copies.add(copy);
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
            return vendors;
        }

        private static Path file(VendorLibrary library) {
            return Path.of(EmulatedCuda.file("libemulated_" + library.name().toLowerCase(Locale.ROOT) + ".so"));
        }

        /** Opens the emulation with them. */
        public CudaBackend open() {
            return CudaBackend.open(LOADED.library(), CudaLibraries.VENDOR);
        }

        @Override
        public void close() {
            for (VendorLibrary library : VendorLibrary.values()) {
                System.clearProperty(library.property());
            }
            try {
                for (Path copy : copies) {
                    Files.delete(copy);
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    /** Opens it with attention of these instructions. */
    public static CudaBackend open(String isa) {
        System.setProperty(CudaBackend.ISA_PROPERTY, isa);
        try {
            return open();
        } finally {
            System.clearProperty(CudaBackend.ISA_PROPERTY);
        }
    }

    /** The library's path. */
    public static String file() {
        return file("libcomneck_cuda_emulated.so");
    }

    private static String file(String name) {
        URL url = EmulatedCuda.class.getResource("linux-x86_64/" + name);
        assertNotNull(url, "the emulation is built everywhere");
        return Path.of(URI.create(url.toString())).toString();
    }

    /** Opens it; without the library the test fails, for it is built everywhere. */
    public static CudaBackend open() {
        assertNull(LOADED.cause(), () -> "cause: " + LOADED.cause());
        return CudaBackend.open(LOADED.library(), CudaLibraries.OWN);
    }
}

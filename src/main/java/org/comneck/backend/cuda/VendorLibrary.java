package org.comneck.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.net.URI;
import java.net.URL;
import java.nio.file.Path;
import org.bytedeco.javacpp.ClassProperties;
import org.bytedeco.javacpp.Loader;
import org.comneck.backend.library.ComneckLibrary;

/** A vendor's library that a context of libcomneck_cuda can open, in the numbers of comneck_cuda.h. */
enum VendorLibrary {
    /** Linear layers. */
    CUBLASLT("comneck.cublaslt", "org.bytedeco.cuda.presets.cublas", "cublasLt"),
    /** Convolutions. */
    CUDNN("comneck.cudnn", "org.bytedeco.cuda.presets.cudnn", "cudnn");

    private static final int TEXT_BYTES = 1024;

    private final String property;
    private final String preset;
    private final String file;

    VendorLibrary(String property, String preset, String file) {
        this.property = property;
        this.preset = preset;
        this.file = file;
    }

    /** System property with the library's path. */
    String property() {
        return property;
    }

    /** Opens it for a new context; the version that was opened, or why none was, in one line. */
    String openFor(ComneckLibrary library, MemorySegment context) {
        FunctionDescriptor descriptor = FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG);
        String named = System.getProperty(property);
        String path = named == null ? ofPreset() : named;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocate(TEXT_BYTES);
            MemorySegment at = path == null ? MemorySegment.NULL : arena.allocateFrom(path);
            library.check((int) library.find("comneck_cuda_library", descriptor)
                    .invokeExact(context, ordinal(), at, text, (long) TEXT_BYTES));
            return text.getString(0);
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
    }

    /** The file that JavaCPP's CUDA preset has or finds where it is on the class path, else null. Nothing is loaded, least of all the preset. */
    private String ofPreset() {
        try {
            Class<?> declared = Class.forName(preset, false, VendorLibrary.class.getClassLoader());
            ClassProperties properties = Loader.loadProperties(declared, Loader.loadProperties(), true);
            String found = null;
            for (String library : properties.get("platform.link")) { // cublasLt@.13, cudnn@.9, cudnn_graph@.9, ...
                String name = library.split("@", 2)[0];
                if (name.equals(file) || name.startsWith(file + "_")) {
                    for (URL url : Loader.findLibrary(declared, properties, library)) {
                        // From a jar the parts of a library come along, into the same folder.
                        String path = url.getProtocol().equals("file")
                                ? Path.of(URI.create(url.toString())).toString()
                                : Loader.cacheResource(url).getPath();
                        found = name.equals(file) && found == null ? path : found;
                    }
                }
            }
            return found;
        } catch (ClassNotFoundException | NoClassDefFoundError e) {
            return null; // no preset, no JavaCPP
        } catch (IOException e) {
            throw new UncheckedIOException(
                    "a library of JavaCPP's CUDA preset cannot be unpacked: " + e.getMessage(), e);
        }
    }
}

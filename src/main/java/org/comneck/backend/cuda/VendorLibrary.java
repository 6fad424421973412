package org.comneck.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import org.bytedeco.javacpp.Loader;
import org.comneck.backend.library.ComneckLibrary;

/** A vendor's library that a context of libcomneck_cuda can open, in the numbers of comneck_cuda.h. */
enum VendorLibrary {
    /** Linear layers. */
    CUBLASLT("comneck.cublaslt", "org.bytedeco.cuda.global.cublas"),
    /** Convolutions. */
    CUDNN("comneck.cudnn", "org.bytedeco.cuda.global.cudnn");

    private static final int TEXT_BYTES = 1024;

    private final String property;
    private final String preset;

    VendorLibrary(String property, String preset) {
        this.property = property;
        this.preset = preset;
    }

    /** System property with the library's path. */
    String property() {
        return property;
    }

    /** Opens it for a new context; the version that was opened, or why none was, in one line. */
    String openFor(ComneckLibrary library, MemorySegment context) {
        FunctionDescriptor descriptor = FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG);
        String path = System.getProperty(property);
        String found = path == null ? load() : "";
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocate(TEXT_BYTES);
            MemorySegment file = path == null ? MemorySegment.NULL : arena.allocateFrom(path);
            library.check((int) library.find("comneck_cuda_library", descriptor)
                    .invokeExact(context, ordinal(), file, text, (long) TEXT_BYTES));
            return text.getString(0) + found;
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
    }

    /**
     * Has JavaCPP's preset, where it is on the class path, load the library: a library that this process has already is the one that is opened.
     *
     * @return what to add to the answer
     */
    private String load() {
        try {
            Loader.load(Class.forName(preset, false, VendorLibrary.class.getClassLoader()));
            return ", of JavaCPP's preset";
        } catch (ClassNotFoundException | NoClassDefFoundError e) {
            return ""; // no preset, no JavaCPP
        } catch (UnsatisfiedLinkError e) {
            return " (JavaCPP's preset: " + e.getMessage() + ")";
        }
    }
}

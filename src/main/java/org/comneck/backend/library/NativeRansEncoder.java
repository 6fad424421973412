package org.comneck.backend.library;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Cleaner;
import java.util.List;
import org.comneck.backend.RansEncoder;

/** The library's encoder. Freed when nobody refers to it any more: it has no memory worth an early close. */
final class NativeRansEncoder implements RansEncoder {
    /** {@code comneck_rans_pass}. */
    private static final MemoryLayout PASS = MemoryLayout.structLayout(
            ADDRESS.withName("tables"),
            ADDRESS.withName("indices"),
            JAVA_LONG.withName("indices_bytes"),
            ADDRESS.withName("values"),
            JAVA_LONG.withName("values_bytes"),
            JAVA_LONG.withName("count"));

    private static final Cleaner CLEANER = Cleaner.create();

    private final LibraryBackend backend;
    private final ComneckLibrary library;
    private final NativeHandle handle;

    NativeRansEncoder(LibraryBackend backend) {
        this.backend = backend;
        this.library = backend.library();
        CodingFunctions functions = library.functions.coding();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            library.check((int) functions.encoderCreate().invokeExact(backend.address(), out));
            NativeHandle made = new NativeHandle("encoder", out.get(ADDRESS, 0), functions.encoderDestroy());
            CLEANER.register(this, made::close);
            handle = made;
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
    }

    @Override
    public synchronized Encoded encode(List<Pass> passes, int substreams) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment all = arena.allocate(PASS, Math.max(1, passes.size()));
            for (int i = 0; i < passes.size(); i++) {
                Pass pass = passes.get(i);
                if (pass.count() < 0
                        || pass.indices().byteSize() < pass.count()
                        || pass.values().byteSize() < 2L * pass.count()) {
                    throw new IllegalArgumentException(
                            "pass " + i + " of " + pass.count() + " symbols is shorter than that");
                }
                MemorySegment indices =
                        Natives.inNativeMemory(arena, pass.indices().asSlice(0, pass.count()));
                MemorySegment values =
                        Natives.inNativeMemory(arena, pass.values().asSlice(0, 2L * pass.count()));
                MemorySegment at = all.asSlice(i * PASS.byteSize(), PASS);
                at.set(ADDRESS, 0, LibraryTables.of(library, pass.tables()).address());
                at.set(ADDRESS, 8, indices);
                at.set(JAVA_LONG, 16, indices.byteSize());
                at.set(ADDRESS, 24, values);
                at.set(JAVA_LONG, 32, values.byteSize());
                at.set(JAVA_LONG, 40, pass.count());
            }
            backend.address(); // a closed backend throws here
            MemorySegment payload = arena.allocate(ADDRESS);
            MemorySegment bytes = arena.allocate(JAVA_LONG);
            MemorySegment checksum = arena.allocate(JAVA_INT);
            try {
                library.check((int) library.functions
                        .coding()
                        .encode()
                        .invokeExact(
                                handle.address(),
                                all,
                                passes.size() * PASS.byteSize(),
                                substreams,
                                payload,
                                bytes,
                                checksum));
            } catch (RuntimeException e) {
                throw e;
            } catch (Throwable t) {
                throw ComneckLibrary.linkage(t);
            }
            byte[] copy =
                    payload.get(ADDRESS, 0).reinterpret(bytes.get(JAVA_LONG, 0)).toArray(JAVA_BYTE);
            return new Encoded(copy, checksum.get(JAVA_INT, 0));
        }
    }
}

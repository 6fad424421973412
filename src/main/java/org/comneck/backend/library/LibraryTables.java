package org.comneck.backend.library;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.comneck.backend.Backend;
import org.comneck.backend.CodingTables;

/** Coding tables packed by the library. */
final class LibraryTables implements Backend.Tables {
    private final CodingTables source;
    private final NativeHandle handle;

    private final ComneckLibrary library;

    LibraryTables(ComneckLibrary library, CodingTables source) {
        this.library = library;
        this.source = source;
        int tables = source.tables();
        int width = CodingTables.MAX_COUNT + 1;
        int[] frequency = new int[tables * width];
        for (int t = 0; t < tables; t++) {
            System.arraycopy(source.frequency()[t], 0, frequency, t * width, source.frequency()[t].length);
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            MemorySegment shift = arena.allocateFrom(JAVA_INT, source.shift());
            MemorySegment first = arena.allocateFrom(JAVA_INT, source.first());
            MemorySegment count = arena.allocateFrom(JAVA_INT, source.count());
            MemorySegment rows = arena.allocateFrom(JAVA_INT, frequency);
            CodingFunctions functions = library.functions.coding();
            try {
                library.check((int) functions
                        .tablesCreate()
                        .invokeExact(
                                tables,
                                shift,
                                shift.byteSize(),
                                first,
                                first.byteSize(),
                                count,
                                count.byteSize(),
                                rows,
                                rows.byteSize(),
                                out));
            } catch (RuntimeException e) {
                throw e;
            } catch (Throwable t) {
                throw ComneckLibrary.linkage(t);
            }
            handle = new NativeHandle("coding tables", out.get(ADDRESS, 0), functions.tablesDestroy());
        }
    }

    /** Ours, of the same library. */
    static LibraryTables of(ComneckLibrary library, Backend.Tables tables) {
        if (tables instanceof LibraryTables ours && ours.library == library) {
            return ours;
        }
        throw new IllegalArgumentException("tables of another backend: " + tables);
    }

    MemorySegment address() {
        return handle.address();
    }

    @Override
    public CodingTables source() {
        return source;
    }

    @Override
    public void close() {
        handle.close();
    }
}

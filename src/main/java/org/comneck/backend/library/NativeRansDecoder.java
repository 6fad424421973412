package org.comneck.backend.library;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.comneck.DamagedDataException;
import org.comneck.backend.Backend;
import org.comneck.backend.RansDecoder;

/** The library's decoder. */
final class NativeRansDecoder implements RansDecoder {
    /** Longest text about damage, bytes. */
    static final int TEXT_BYTES = 160;

    private final ComneckLibrary library;
    private final CodingFunctions functions;
    private final NativeHandle handle;

    NativeRansDecoder(LibraryBackend backend) {
        library = backend.library();
        functions = library.functions.coding();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(ADDRESS);
            library.check((int) functions.decoderCreate().invokeExact(backend.address(), out));
            handle = new NativeHandle("decoder", out.get(ADDRESS, 0), functions.decoderDestroy());
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
    }

    /** A call into the library that answers with a status; only a wrongly declared one throws. */
    private interface Call {
        int invoke(MemorySegment decoder, Arena arena) throws Throwable;
    }

    private void call(Call call) {
        try (Arena arena = Arena.ofConfined()) {
            int status = call.invoke(handle.address(), arena);
            if (status == ComneckLibrary.DAMAGED) {
                MemorySegment text = arena.allocate(TEXT_BYTES);
                MemorySegment offset = arena.allocate(JAVA_LONG);
                library.check((int) functions.damage().invokeExact(handle.address(), text, text.byteSize(), offset));
                throw new DamagedDataException(text.getString(0), offset.get(JAVA_LONG, 0));
            }
            library.check(status);
        } catch (RuntimeException e) {
            throw e;
        } catch (Throwable t) {
            throw ComneckLibrary.linkage(t);
        }
    }

    @Override
    public synchronized void start(MemorySegment payload) {
        call((decoder, arena) -> {
            MemorySegment bytes = Natives.inNativeMemory(arena, payload);
            return (int) functions.start().invokeExact(decoder, bytes, payload.byteSize());
        });
    }

    @Override
    public synchronized void decode(Backend.Tables tables, MemorySegment indices, MemorySegment symbols, int count) {
        if (count < 0 || indices.byteSize() < count || symbols.byteSize() < 2L * count) {
            throw new IllegalArgumentException(
                    count + " symbols, but " + indices.byteSize() + " indices and room for " + symbols.byteSize() / 2);
        }
        MemorySegment packed = LibraryTables.of(library, tables).address();
        try (Arena outer = Arena.ofConfined()) {
            MemorySegment in = Natives.inNativeMemory(outer, indices.asSlice(0, count));
            MemorySegment target = symbols.asSlice(0, 2L * count);
            MemorySegment out = target.isNative() ? target : outer.allocate(Math.max(2, 2L * count), 64);
            try {
                call((decoder, arena) ->
                        (int) functions.decode().invokeExact(decoder, packed, in, (long) count, out, 2L * count));
            } finally {
                if (!target.isNative()) {
                    target.copyFrom(out.asSlice(0, 2L * count));
                }
            }
        }
    }

    @Override
    public synchronized void finish(int symbolChecksum) {
        call((decoder, arena) -> (int) functions.finish().invokeExact(decoder, symbolChecksum));
    }

    @Override
    public void close() {
        handle.close();
    }
}

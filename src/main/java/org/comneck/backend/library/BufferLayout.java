package org.comneck.backend.library;

import java.util.TreeMap;

/**
 * Where the buffers of a run lie in its one block of memory. First fit in order of recording: a released buffer's place serves later ones,
 * because steps are executed in the order in which they are recorded.
 */
final class BufferLayout {
    /** Buffers start at cache lines. */
    private static final long ALIGNMENT = 64;

    /** Offset to length of the gaps below {@link #end}. */
    private final TreeMap<Long, Long> gaps = new TreeMap<>();

    private long end;

    /** Offset of a new buffer. */
    long allocate(long bytes) {
        long length = rounded(bytes);
        for (var gap : gaps.entrySet()) {
            long left = gap.getValue() - length;
            if (left >= 0) {
                long offset = gap.getKey();
                gaps.remove(offset);
                if (left > 0) {
                    gaps.put(offset + length, left);
                }
                return offset;
            }
        }
        var last = gaps.lastEntry();
        if (last != null && last.getKey() + last.getValue() == end) {
            gaps.remove(last.getKey()); // grow the gap at the end
            end = last.getKey() + length;
            return last.getKey();
        }
        return append(bytes);
    }

    /** Offset of a new buffer that lies where no buffer was before. */
    long append(long bytes) {
        long offset = end;
        end = Math.addExact(end, rounded(bytes));
        return offset;
    }

    /** Gives a buffer's place back. */
    void release(long offset, long bytes) {
        long from = offset;
        long to = offset + rounded(bytes);
        var before = gaps.lowerEntry(from);
        if (before != null && before.getKey() + before.getValue() == from) {
            from = before.getKey();
        }
        Long after = gaps.remove(to);
        if (after != null) {
            to += after;
        }
        gaps.put(from, to - from);
    }

    /** Bytes of the block. */
    long bytes() {
        return end;
    }

    private static long rounded(long bytes) {
        return (Math.addExact(bytes, ALIGNMENT - 1)) / ALIGNMENT * ALIGNMENT;
    }
}

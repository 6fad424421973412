/**
 * The cpu backend: our C++ library (src/main/cpp, manual in include/comneck.h) through the foreign function interface.
 *
 * <p><b>Shape of it.</b> {@link org.comneck.backend.cpu.CpuBackend} owns a native context: threads and the kernels for one instruction set.
 * A layer owns packed weights. A run builder adds one step to a native plan for every operation, checked on both sides; building seals the
 * plan, which allocates its memory; executing is a single downcall that allocates nothing, here or there. Runs of one backend take turns;
 * each uses all threads, which watch for the next step for some 60 microseconds and then sleep.
 *
 * <p><b>Memory.</b> All buffers of a run lie in one block that the plan owns. {@code BufferLayout} of {@link org.comneck.backend.library} places them first
 * fit while recording, so that a released buffer's place serves later ones. Host views of inputs and outputs belong to an arena that closes
 * with the run: a late access throws instead of reading freed memory.
 *
 * <p><b>The matrix kernel.</b> Convolutions of every kind, linear layers and patches are one product: rows are output positions, columns
 * are output channels, and the sum runs over taps, sources and channels in canonical order. A tile of 6 x 64 outputs stays in registers;
 * inputs are read where they lie, by broadcast, through a list of segments (one for each tap and source), and weights lie as [panel of
 * columns][tap][channel][column]. A tap that is outside the input for some rows of a tile is computed for all, and those rows get their old
 * values back, so that nothing is ever multiplied by a zero that is not there. Sums longer than a cache-sized block wait in f32 between
 * blocks, which is exact. So instruction set, tile size, blocking, threads and batch never show in the bits.
 *
 * <p><b>bf16.</b> The same kernel on pairs of channels, with AVX512_BF16 where present; inputs that are F32 are rounded into scratch first.
 *
 * <p><b>Errors.</b> A status becomes a typed exception on the next line: misuse an {@link IllegalArgumentException}, damaged bytes a
 * {@link org.comneck.DamagedDataException}, anything that should not happen an {@link org.comneck.InternalException}. Closed handles throw
 * {@link IllegalStateException}. Where the library cannot be loaded, {@link org.comneck.backend.cpu.CpuBackend#unavailabilityCause} says why.
 */
package org.comneck.backend.cpu;

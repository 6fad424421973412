/**
 * What the backends of native code have in common: the functions of comneck.h, which libcomneck implements on the processor and
 * libcomneck_cuda on a device, through the foreign function interface. {@link org.comneck.backend.library.LibraryBackend} is their base.
 *
 * <p>A run builder adds one step to a native plan for every operation, and places the buffers in the plan's one block of memory. The host
 * sees inputs and outputs only, as ports: on the processor they are the buffers themselves, on a device pinned memory that is copied. A
 * status becomes a typed exception on the next line.
 */
package org.comneck.backend.library;

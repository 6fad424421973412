/**
 * The cuda backend: libcomneck_cuda (kernels/, manual in include/comneck_cuda.h), which implements the same C functions as libcomneck on a
 * GPU, with the same bits in F32. It needs the driver alone; whether one can be used is a value,
 * {@link org.comneck.backend.cuda.CudaBackend#availability}.
 *
 * <p>Every operation runs on the device. Convolutions and the entropy coder are written for speed; LayerNorm and attention are plain
 * canonical kernels so far, and layers of precision BF16 compute in F32 from rounded operands.
 */
package org.comneck.backend.cuda;

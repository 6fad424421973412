/**
 * The cuda backend: libcomneck_cuda (kernels/, manual in include/comneck_cuda.h), which implements the same C functions as libcomneck on a
 * GPU, with the same bits in F32. It needs the driver alone; whether one can be used is a value,
 * {@link org.comneck.backend.cuda.CudaBackend#availability}.
 *
 * <p>Every operation runs on the device. In F32 all are canonical kernels: convolutions and the entropy coder written for speed, attention
 * plain. In BF16 linear layers and attention run on tensor cores; other convolutions compute in F32 from rounded operands.
 */
package org.comneck.backend.cuda;

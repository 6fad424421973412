/**
 * Shapes, element types and tensors: names for memory, nothing that computes.
 *
 * <p>A {@link org.comneck.tensor.Tensor} is a row-major array in a {@link java.lang.foreign.MemorySegment} that somebody else
 * owns: a memory-mapped model file, an arena, a heap array. Weights keep PyTorch's layouts (convolution OIHW, transposed
 * convolution IOHW, linear [out,in]); a backend repacks them once when a model is prepared.
 */
package org.comneck.tensor;

package org.comneck.engine;

import org.comneck.tensor.Tensor;

/**
 * What a bitstream holds, decoded and no further. The same bits on every backend.
 *
 * @param yHat F32 [M,h,w], as neck and synthesis take it
 * @param symbols I32 [M,h,w]
 * @param zSymbols I32 [N,h/4,w/4]
 */
public record Latents(Tensor yHat, Tensor symbols, Tensor zSymbols) {}

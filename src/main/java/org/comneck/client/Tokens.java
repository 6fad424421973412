package org.comneck.client;

import java.time.Duration;
import org.comneck.tensor.Tensor;

/**
 * What a server answered.
 *
 * @param values F32, F16 or BF16 as asked: [tokens, D], or [images, tokens, D] of a bitstream of several images
 * @param layer output of which block they are
 * @param identity of the model that computed them, 16 bytes
 * @param queued time from the request's arrival at the server to the start of computing
 * @param total time from its arrival to the answer
 */
public record Tokens(Tensor values, int layer, byte[] identity, Duration queued, Duration total) {}

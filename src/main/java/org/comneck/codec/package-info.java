/**
 * Image codecs: picture to symbols and back.
 *
 * <p>A {@link org.comneck.codec.Codec} holds the weights of one model and records its networks onto a run. Everything that a decoded symbol
 * depends on (hyper-synthesis, contexts, parameter aggregation) is canonical f32; only the transforms between picture and latents may run in
 * bf16. {@link org.comneck.codec.ElicCodec} is ELIC (arXiv 2203.10886): hyperprior, uneven channel slices, and inside each slice a
 * checkerboard, of which each pass computes only its own half of the positions.
 */
package org.comneck.codec;

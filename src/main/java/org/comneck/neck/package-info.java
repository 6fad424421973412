/**
 * From decoded latents to the embeddings of a visual encoder: the transform-neck (arXiv 2407.19651, section 3.3).
 *
 * <p>A neck is a linear layer from M latent channels to the encoder's width, a class token, a position table, LayerNorm, and one transformer
 * block. {@link org.comneck.neck.TransformerBlock} and {@link org.comneck.neck.PositionTable} are those of the encoders too; they are here
 * because a neck knows nothing of the encoder that it feeds.
 */
package org.comneck.neck;

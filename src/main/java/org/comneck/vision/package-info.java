/**
 * Visual encoders: pixels or a neck's embeddings to tokens, projected or not, and class scores.
 *
 * <p>{@link org.comneck.vision.VisionEncoder} covers the CLIP family (OpenAI's names) and plain ViTs with timm's names, of any width, depth,
 * patch and number of tokens. {@link org.comneck.vision.MultimodalProjector} is what a multimodal language model puts behind it.
 */
package org.comneck.vision;

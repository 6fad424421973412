/**
 * Training: {@code recipe + photos -> checkpoints, metrics -> model file}. On LibTorch (JavaCPP preset), which nothing else in ComNeck loads.
 *
 * <pre>
 *   Recipe (text) -> Trainer -> [CodecStage | EncoderStage | SurrogateStage] step by step -> run folder: checkpoint, metrics.jsonl
 *                                                                       run folder -> ModelExport -> model file
 *   model file or run folder -> ModelParts (codec, encoder, neck) -> SurrogateStage, ModelExport
 * </pre>
 *
 * Three networks are trained one after the other (or beside each other, in separate processes that share a run folder):
 *
 * <ul>
 *   <li>{@code CodecStage}: the image codec, rate plus lambda times distortion, one lambda a quality;
 *   <li>{@code EncoderStage}: the visual encoder, from random weights, taught by a teacher: each block alone first, then end to end;
 *   <li>{@code SurrogateStage}: the neck, so that any frozen encoder makes of latents what it makes of pixels; the codec stays as it is (d1)
 *       or is trained with it (d2, d3).
 * </ul>
 *
 * <p>Every step depends only on the recipe's seed, the step's number and the weights, so that a run that was interrupted continues as if
 * nothing had happened: bit for bit when the recipe counts steps (and not minutes) and the number of threads stays. docs/training.md has the
 * story and the figures.
 */
package org.comneck.train;

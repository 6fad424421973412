/**
 * The public API: {@link org.comneck.engine.NativeEngine} opens a model once and turns photos into bitstreams, and bitstreams into visual
 * tokens, latents or photos.
 *
 * <p>Around it: {@link org.comneck.engine.Photo} reads and prepares pictures, {@link org.comneck.engine.TokenWriter} writes what other
 * programs read, {@link org.comneck.engine.AtomicOutput} writes files whole or not at all. Nothing here prints.
 */
package org.comneck.engine;

/**
 * Models: the model file, the checkpoints it is made from, and the import that turns one into the other.
 *
 * <pre>
 *   safetensors, PyTorch zip, legacy PyTorch, TorchScript  -> Checkpoint: name -> TensorSource (mapped, nothing read yet)
 *     -> Importer: key families -> ComNeck's names, architecture from shapes, coding tables
 *     -> ModelWriter: tensors through a few megabytes of memory, moved into place when complete
 *     -> ModelFile: mapped, checked when opened; Manifest; 16-byte identity
 * </pre>
 */
package org.comneck.model;

/**
 * Models: the model file, the checkpoints it is made from, and the import that turns one into the other. docs/models.md is the manual.
 *
 * <pre>
 *   safetensors, PyTorch zip, legacy PyTorch, TorchScript
 *     -> {@link org.comneck.model.Checkpoint}: group -> name -> {@link org.comneck.model.TensorSource}    mapped; nothing read yet
 *     -> {@link org.comneck.model.Importer}: key families -> the model file's names; architecture from shapes; coding tables
 *     -> {@link org.comneck.model.ModelWriter}: a few megabytes at a time, under a temporary name, moved into place when complete
 *     -> {@link org.comneck.model.ModelFile}: mapped; {@link org.comneck.model.Manifest}; 16-byte identity
 * </pre>
 *
 * <h2>What holds it together</h2>
 *
 * <ul>
 *   <li><b>Nothing from outside is run or believed.</b> A pickle is a program; ours is read by a machine that knows a fixed list of names and
 *       refuses every other. Every offset, size and count is checked against the file before it is used, against limits that are on by
 *       default. Damaged data is a {@link org.comneck.DamagedDataException} with file, tensor and offset; a file that is something else is a
 *       {@link org.comneck.UsageException}; anything else is our bug, and the mutation tests look for it.
 *   <li><b>Nothing is held.</b> Tensors are views of the mapping or a recipe ({@code concatenate}, {@code transpose}, a formula) that is read in
 *       pieces. An import of 1.5 GB peaks at 72 MB of heap. The optimizer's state is mapped with the rest of its file and never touched.
 *   <li><b>A model is what its tensors say.</b> The architecture comes from shapes, and every tensor that is missing, misshapen or unknown is
 *       an error that names it: a checkpoint of a slightly different network would otherwise give slightly wrong tokens.
 *   <li><b>The identity covers what a decoded symbol depends on</b> and nothing else, whatever the storage type: a retrained neck decodes old
 *       bitstreams. It is stored at write time, because a server must not read 67 MB to answer which model it has.
 *   <li><b>Tables are integers.</b> {@link org.comneck.entropy.CodingTablesBuilder} makes them once, at import, from double precision; the file
 *       stores them, and nothing recomputes them.
 * </ul>
 *
 * <p>{@link org.comneck.model.SeededModel} builds complete models from names alone, for tests and benchmarks; their values are those of the
 * parity fixtures.
 */
package org.comneck.model;

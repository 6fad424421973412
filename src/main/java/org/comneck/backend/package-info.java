/**
 * The operations that the networks are written against, and nothing about where they run.
 *
 * <p>A {@link org.comneck.backend.Backend} packs weights into {@link org.comneck.backend.Layer}s once a model, and records a
 * {@link org.comneck.backend.Run} once an input shape; executing a run allocates nothing. {@code reference} is plain Java and the
 * definition of canonical arithmetic; {@code cpu} is our C++ through FFM. Each is tested against the other, bit by bit.
 *
 * <p>rANS is an operation here, like convolution: its tables are {@link org.comneck.backend.CodingTables}.
 */
package org.comneck.backend;

/**
 * Measurements: how fast the stages are, beside a peer in the same minutes ({@link org.comneck.eval.StageBenchmark}). {@code comneck bench}
 * prints what they find; benchmarks/README.md is the method.
 */
package org.comneck.eval;

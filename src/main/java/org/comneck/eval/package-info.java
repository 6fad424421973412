/**
 * Measurements: how fast the stages are, beside a peer in the same minutes ({@link org.comneck.eval.StageBenchmark}), and what a server
 * adds to them ({@link org.comneck.eval.ServerBenchmark}). {@code comneck bench} and {@code bench-server} print what they find; benchmarks/README.md is the method.
 */
package org.comneck.eval;

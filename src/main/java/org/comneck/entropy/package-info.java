/**
 * Probability tables: from the parameters of a trained model to the integers that rANS codes with.
 *
 * <p>Two models say how likely a symbol is. The {@link org.comneck.entropy.FactorizedPrior} has one learned distribution for each channel of
 * z; the {@link org.comneck.entropy.GaussianConditional} has one normal distribution for each entry of a table of scales, and the scale
 * index of a symbol of y picks one. Both are evaluated in double precision, once, when a model is imported; {@link
 * org.comneck.entropy.CodingTablesBuilder} turns them into {@link org.comneck.backend.CodingTables}, which the model file stores. At run time
 * nothing is ever recomputed: two machines cannot disagree about an integer.
 *
 * <p>rANS itself is an operation of the backend, like convolution.
 */
package org.comneck.entropy;

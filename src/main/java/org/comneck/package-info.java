/**
 * ComNeck: from the bitstream of a learned image codec straight to visual tokens.
 *
 * <p>The packages follow the data's way, and each imports only packages above it in this list: {@code tensor}, {@code backend},
 * {@code bitstream}, {@code entropy}, {@code model}, {@code codec}, {@code neck}, {@code vision}, {@code engine}, {@code wire}, {@code client}, {@code server},
 * {@code train}, {@code eval}, {@code cli}. This package itself holds the three kinds of error:
 *
 * <ul>
 *   <li>{@link org.comneck.DamagedDataException}: bytes from outside are not what they claim to be;
 *   <li>{@link org.comneck.UsageException}: the request cannot be served as it was made;
 *   <li>{@link org.comneck.InternalException}: a bug of ours, or a machine that fails; {@link org.comneck.DeviceException}: a GPU.
 * </ul>
 */
package org.comneck;

/**
 * The binary protocol, docs/protocol.md: frames and what they mean, without any transport.
 *
 * <p>{@link org.comneck.wire.FrameReader} turns bytes, cut anywhere, into {@link org.comneck.wire.Frame frames}; it allocates nothing before a
 * checksum has vouched for the lengths and its owner has agreed to them. {@link org.comneck.wire.Message} is what a frame says, and writes
 * itself as one. Server and client both stand on these; neither knows the other.
 */
package org.comneck.wire;

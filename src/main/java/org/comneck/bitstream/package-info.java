/**
 * The file format: bytes to checked sections and back, in plain Java; docs/format.md draws it bit by bit.
 *
 * <p>A {@link org.comneck.bitstream.Container} says which model and which arithmetic its images were coded with, and holds each image's
 * sizes, quality, payload and checksums as a {@link org.comneck.bitstream.CodedImage}. Nothing that a file claims is believed before it
 * was compared with what is there and with {@link org.comneck.bitstream.Limits}; what a payload says is the backend's business.
 */
package org.comneck.bitstream;

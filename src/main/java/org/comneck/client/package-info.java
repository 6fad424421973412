/**
 * A client of the binary protocol, docs/protocol.md: {@link org.comneck.client.ComneckClient}. Plain sockets and virtual threads, one that reads
 * for each connection; requests are written by the thread that asks. Needs no other library.
 */
package org.comneck.client;

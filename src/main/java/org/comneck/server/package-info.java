/**
 * The server: bitstream in, tokens out, over HTTP and TCP, at low latency and under load. docs/server.md is its manual.
 *
 * <pre>
 *   connection (event loop)                 scheduler                                       connection
 *   bytes -> TokenRequest -> submit ->  bounded queue -> batch -> {@link org.comneck.server.Compute} -> Answer -> bytes
 *                              \-> Refusal at once (full, draining, too late, unknown model)
 * </pre>
 *
 * <p>The parts, each tested without the next:
 *
 * <ul>
 *   <li>{@link org.comneck.server.Models}: which models are loaded, counted by the requests that use them;
 *   <li>{@link org.comneck.server.Scheduler}: takes {@link org.comneck.server.TokenRequest}s, gives each exactly one
 *       {@link org.comneck.server.Answer}, on its own threads;
 *   <li>{@link org.comneck.server.Endpoint}: a port with a protocol, bytes to requests and answers to bytes, on event loops that never
 *       compute and never wait;
 *   <li>{@link org.comneck.server.ComneckServer}: binds them and takes them down again.
 * </ul>
 *
 * <p>A body is a Netty buffer that the scheduler owns from {@code submit} on; an answer's buffers are the responder's. Nothing here prints
 * or exits.
 */
package org.comneck.server;

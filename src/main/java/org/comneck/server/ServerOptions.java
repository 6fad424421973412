package org.comneck.server;

import java.nio.file.Path;

/**
 * How a server listens, computes and stops. Groups of options are records of their own.
 *
 * @param host address or name to bind
 * @param httpPort port of HTTP, 0 for any free one, -1 for none
 * @param tcpPort port of the binary protocol, likewise
 * @param batching how requests become batches
 * @param limits what the server believes and holds
 * @param security who may connect
 * @param drain how it stops
 */
public record ServerOptions(
        String host, int httpPort, int tcpPort, Batching batching, Limits limits, Security security, Drain drain) {
    /** HTTP on 127.0.0.1:8080, TCP on 8081. */
    public static final ServerOptions DEFAULT =
            new ServerOptions("127.0.0.1", 8080, 8081, Batching.DEFAULT, Limits.DEFAULT, Security.NONE, Drain.DEFAULT);

    /**
     * Who may connect.
     *
     * @param certificate PEM chain of the server, or null for no TLS
     * @param key PEM private key (PKCS #8), or null
     * @param clientAuthority PEM certificates that clients' certificates must descend from, or null to ask for none
     * @param tokens file of bearer tokens, one a line, read again when it changes; or null to ask for none
     * @param insecurePublic whether an address other than loopback may be bound without TLS or tokens
     */
    public record Security(Path certificate, Path key, Path clientAuthority, Path tokens, boolean insecurePublic) {
        /** Neither TLS nor tokens: for loopback. */
        public static final Security NONE = new Security(null, null, null, null, false);

        public Security withTls(Path chain, Path privateKey) {
            return new Security(chain, privateKey, clientAuthority, tokens, insecurePublic);
        }

        public Security withClientAuthority(Path authority) {
            return new Security(certificate, key, authority, tokens, insecurePublic);
        }

        public Security withTokens(Path file) {
            return new Security(certificate, key, clientAuthority, file, insecurePublic);
        }

        public Security withInsecurePublic(boolean allowed) {
            return new Security(certificate, key, clientAuthority, tokens, allowed);
        }
    }

    /**
     * How the server stops.
     *
     * @param graceMillis between "not ready" and refusing requests, so that load balancers look elsewhere; -1 is 0 on loopback, 5,000
     *     elsewhere
     * @param timeoutMillis longest time for what is in flight
     */
    public record Drain(long graceMillis, long timeoutMillis) {
        /** Grace by address, 30 seconds for what is in flight. */
        public static final Drain DEFAULT = new Drain(-1, 30_000);
    }

    public ServerOptions withHost(String address) {
        return new ServerOptions(address, httpPort, tcpPort, batching, limits, security, drain);
    }

    public ServerOptions withPorts(int http, int tcp) {
        return new ServerOptions(host, http, tcp, batching, limits, security, drain);
    }

    public ServerOptions withBatching(Batching choice) {
        return new ServerOptions(host, httpPort, tcpPort, choice, limits, security, drain);
    }

    public ServerOptions withLimits(Limits choice) {
        return new ServerOptions(host, httpPort, tcpPort, batching, choice, security, drain);
    }

    public ServerOptions withSecurity(Security choice) {
        return new ServerOptions(host, httpPort, tcpPort, batching, limits, choice, drain);
    }

    public ServerOptions withDrain(Drain choice) {
        return new ServerOptions(host, httpPort, tcpPort, batching, limits, security, choice);
    }
}

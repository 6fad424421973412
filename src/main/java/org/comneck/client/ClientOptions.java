package org.comneck.client;

import java.time.Duration;
import javax.net.ssl.SSLContext;
import org.comneck.UsageException;

/**
 * How a client connects.
 *
 * @param host name or address of the server
 * @param port of its binary protocol
 * @param connections most connections; one more is opened when those there are have no credit left
 * @param tls for TLS, with the key of a client certificate where the server asks for one; null for none
 * @param accessToken what lets the client in, or null
 * @param connectTimeout longest time for a connection and its hello
 * @param keepAlive after how long without a byte the server is asked whether it is there; after as long again the connection counts as lost
 * @param retries what is sent again by itself
 * @param maxWaiting most requests that wait here for a credit; more are refused at once
 * @param maxAnswerBytes longest answer that is taken
 */
public record ClientOptions(
        String host,
        int port,
        int connections,
        SSLContext tls,
        String accessToken,
        Duration connectTimeout,
        Duration keepAlive,
        Retries retries,
        int maxWaiting,
        long maxAnswerBytes) {
    /**
     * What is sent again by itself: requests that were refused (nothing was begun), and those that a broken connection had not taken yet.
     *
     * @param attempts in all, 1 for none but the first
     * @param unanswered whether also requests whose connection broke before the answer came. Tokens depend on nothing but the request, so
     *     this is harmless, unless it was the request that broke the server
     */
    public record Retries(int attempts, boolean unanswered) {
        /** Three attempts, of what was not begun. */
        public static final Retries DEFAULT = new Retries(3, false);

        public Retries {
            if (attempts < 1) {
                throw new UsageException(attempts + " attempts are not possible");
            }
        }
    }

    public ClientOptions {
        if (connections < 1 || maxWaiting < 0 || maxAnswerBytes < 0 || maxAnswerBytes > Integer.MAX_VALUE - 64) {
            throw new UsageException(connections + " connections, " + maxWaiting + " waiting requests, "
                    + maxAnswerBytes + " bytes of an answer are not possible");
        }
    }

    /** Two connections, plain, to a server. */
    public static ClientOptions of(String host, int port) {
        return new ClientOptions(
                host,
                port,
                2,
                null,
                null,
                Duration.ofSeconds(5),
                Duration.ofSeconds(15),
                Retries.DEFAULT,
                4096,
                256L << 20);
    }

    public ClientOptions withConnections(int most) {
        return new ClientOptions(
                host, port, most, tls, accessToken, connectTimeout, keepAlive, retries, maxWaiting, maxAnswerBytes);
    }

    public ClientOptions withTls(SSLContext context) {
        return new ClientOptions(
                host,
                port,
                connections,
                context,
                accessToken,
                connectTimeout,
                keepAlive,
                retries,
                maxWaiting,
                maxAnswerBytes);
    }

    public ClientOptions withAccessToken(String token) {
        return new ClientOptions(
                host, port, connections, tls, token, connectTimeout, keepAlive, retries, maxWaiting, maxAnswerBytes);
    }

    public ClientOptions withTimes(Duration connect, Duration alive) {
        return new ClientOptions(
                host, port, connections, tls, accessToken, connect, alive, retries, maxWaiting, maxAnswerBytes);
    }

    public ClientOptions withRetries(Retries policy) {
        return new ClientOptions(
                host,
                port,
                connections,
                tls,
                accessToken,
                connectTimeout,
                keepAlive,
                policy,
                maxWaiting,
                maxAnswerBytes);
    }

    public ClientOptions withMaxWaiting(int requests) {
        return new ClientOptions(
                host,
                port,
                connections,
                tls,
                accessToken,
                connectTimeout,
                keepAlive,
                retries,
                requests,
                maxAnswerBytes);
    }
}

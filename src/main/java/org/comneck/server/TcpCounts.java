package org.comneck.server;

import java.util.EnumMap;
import java.util.Map;

/** Metrics of the binary protocol. */
final class TcpCounts {
    private final Metrics.Counter frames;
    private final Metrics.Counter dropped;
    private final Metrics.Counter handshakeFailures;
    private final Map<org.comneck.wire.Reason, Metrics.Counter> ends = new EnumMap<>(org.comneck.wire.Reason.class);
    private final Map<org.comneck.wire.Reason, Metrics.Counter> unwanted = new EnumMap<>(org.comneck.wire.Reason.class);

    TcpCounts(Metrics metrics) {
        frames = metrics.counter("comneck_tcp_frames_total", "Frames that were received.");
        handshakeFailures =
                metrics.counter("comneck_tls_handshake_failures_total", "TLS handshakes that failed.", "port", "tcp");
        dropped = metrics.counter(
                "comneck_tcp_answers_dropped_total", "Answers whose connection had ended before they were ready.");
        for (org.comneck.wire.Reason reason : org.comneck.wire.Reason.values()) {
            String label = reason.name().toLowerCase(java.util.Locale.ROOT);
            ends.put(
                    reason,
                    metrics.counter(
                            "comneck_tcp_goaways_total", "Connections that the server ended.", "reason", label));
            unwanted.put(
                    reason,
                    metrics.counter(
                            "comneck_tcp_bad_requests_total",
                            "Requests that did not reach the queue.",
                            "reason",
                            label));
        }
    }

    void frame() {
        frames.add(1);
    }

    void handshakeFailed() {
        handshakeFailures.add(1);
    }

    void dropped() {
        dropped.add(1);
    }

    void end(org.comneck.wire.Reason reason) {
        ends.get(reason).add(1);
    }

    void unwanted(org.comneck.wire.Reason reason) {
        unwanted.get(reason).add(1);
    }
}

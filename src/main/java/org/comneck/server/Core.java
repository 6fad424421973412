package org.comneck.server;

import io.netty.channel.Channel;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.group.ChannelGroup;
import io.netty.channel.group.DefaultChannelGroup;
import io.netty.util.concurrent.DefaultThreadFactory;
import io.netty.util.concurrent.GlobalEventExecutor;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What the ports of a server share. */
final class Core {
    private static final Logger LOG = LoggerFactory.getLogger(Core.class);

    private static final int WORKER_QUEUE = 256;

    private final ServerOptions options;
    private final Models models;
    private final Metrics metrics;
    private final Scheduler scheduler;
    private final ChannelGroup connections = new DefaultChannelGroup(GlobalEventExecutor.INSTANCE);
    private final AtomicLong receiving = new AtomicLong();
    private final ExecutorService worker = oneThread("comneck-worker");
    private final ExecutorService administrator = oneThread("comneck-administrator");
    private final AccessTokens tokens; // or null
    private final AtomicLong unsent = new AtomicLong();
    private volatile boolean ready;
    private volatile boolean draining;

    Core(ServerOptions options, Models models, Metrics metrics, Scheduler scheduler) {
        this.options = options;
        this.models = models;
        this.metrics = metrics;
        this.scheduler = scheduler;
        this.tokens = options.security().tokens() == null
                ? null
                : new AccessTokens(options.security().tokens());
        metrics.gauge("comneck_unsent_bytes", "Bytes of answers that clients have not taken yet.", unsent::get);
        metrics.gauge("comneck_receiving_bytes", "Bytes of bodies that are being received.", receiving::get);
        metrics.gauge("comneck_connections", "Open connections.", connections::size);
        metrics.gauge("comneck_ready", "1 when the server takes requests.", () -> ready ? 1 : 0);
    }

    private static ExecutorService oneThread(String name) {
        return new ThreadPoolExecutor(
                1,
                1,
                0,
                TimeUnit.SECONDS,
                new ArrayBlockingQueue<>(WORKER_QUEUE),
                new DefaultThreadFactory(name, true));
    }

    ServerOptions options() {
        return options;
    }

    Limits limits() {
        return options.limits();
    }

    Models models() {
        return models;
    }

    Metrics metrics() {
        return metrics;
    }

    Scheduler scheduler() {
        return scheduler;
    }

    ChannelGroup connections() {
        return connections;
    }

    /** What readiness probes are told. */
    boolean ready() {
        return ready;
    }

    void ready(boolean takesRequests) {
        ready = takesRequests;
    }

    /** True from the end of the grace on: a connection closes after the answers it still owes. */
    boolean draining() {
        return draining;
    }

    void startDraining() {
        draining = true;
    }

    /**
     * Takes a part of the memory for bodies that are being received.
     *
     * @return false when all of it is taken: the request must be refused
     */
    boolean reserve(int bytes) {
        if (receiving.addAndGet(bytes) <= options.batching().queueBytes()) {
            return true;
        }
        receiving.addAndGet(-bytes);
        return false;
    }

    /** Gives back what {@link #reserve} took. */
    void unreserve(long bytes) {
        receiving.addAndGet(-bytes);
    }

    /** The tokens that clients must have, or null when none are asked for. */
    AccessTokens tokens() {
        return tokens;
    }

    /** Bytes of answers were given to a connection (or, negative, taken by its client). */
    void unsent(long bytes) {
        unsent.addAndGet(bytes);
    }

    /** True when so many answers wait for slow readers that no new request should be accepted. */
    boolean readersStall() {
        return unsent.get() > options.batching().queueBytes();
    }

    /** Bytes of answers that clients have not taken. */
    long unsent() {
        return unsent.get();
    }

    /** Work of requests that must not run on an event loop: much JSON. Refuses when there is too much of it. */
    ExecutorService worker() {
        return worker;
    }

    /** What takes long and is no request's: models are loaded, tokens are read again. Refuses when there is too much of it. */
    ExecutorService administrator() {
        return administrator;
    }

    /** Reads the tokens again, soon. Never throws: who calls it must not stop doing so. */
    void refreshTokens() {
        try {
            administrator.execute(tokens::refresh);
        } catch (RejectedExecutionException e) {
            LOG.debug("tokens are not looked at: there is too much to do");
        }
    }

    /** The first handler of every connection: counts it, refuses it when there are too many, sets its water marks. */
    ChannelHandler gate(Endpoint endpoint) {
        Metrics.Counter opened = metrics.counter(
                "comneck_connections_total", "Connections that were accepted.", "port", endpoint.name());
        Metrics.Counter refused = metrics.counter(
                "comneck_connections_refused_total",
                "Connections that were closed at once, because there were too many.",
                "port",
                endpoint.name());
        return new Gate(endpoint, opened, refused);
    }

    @ChannelHandler.Sharable
    private final class Gate extends ChannelInboundHandlerAdapter {
        private final Endpoint endpoint;
        private final Metrics.Counter opened;
        private final Metrics.Counter refused;

        private Gate(Endpoint endpoint, Metrics.Counter opened, Metrics.Counter refused) {
            this.endpoint = endpoint;
            this.opened = opened;
            this.refused = refused;
        }

        @Override
        public void channelActive(ChannelHandlerContext ctx) {
            Channel channel = ctx.channel();
            if (connections.size() >= limits().connections()) {
                refused.add(1);
                LOG.debug("connection refused: there are {}", limits().connections());
                ctx.writeAndFlush(endpoint.refusal()).addListener(ChannelFutureListener.CLOSE);
                return;
            }
            opened.add(1);
            connections.add(channel);
            ctx.fireChannelActive();
            if (draining) { // it came too late to be among those that were told
                channel.pipeline().fireUserEventTriggered(Endpoint.DRAIN);
            }
        }
    }
}

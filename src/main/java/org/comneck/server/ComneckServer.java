package org.comneck.server;

import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.Channel;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.WriteBufferWaterMark;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.util.concurrent.DefaultThreadFactory;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.comneck.UsageException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A server around the engine: {@link #start} binds its ports, {@link #drain} takes it down without losing an answer.
 *
 * <pre>{@code
 * try (ComneckServer server = ComneckServer.start(ServerOptions.DEFAULT, Models.embedded(EngineOptions.DEFAULT))) {
 *     ...
 * }
 * }</pre>
 */
public final class ComneckServer implements AutoCloseable {
    private static final Logger LOG = LoggerFactory.getLogger(ComneckServer.class);
    private static final int MAX_EVENT_LOOPS = 4;
    private static final int BACKLOG = 1024;
    private static final long FLUSH_MILLIS = 2000;

    private final Core core;
    private final EventLoopGroup loops;
    private final Map<String, Channel> listeners = new LinkedHashMap<>();
    private boolean stopped;

    private ComneckServer(Core core, EventLoopGroup loops) {
        this.core = core;
        this.loops = loops;
    }

    /**
     * Starts a server.
     *
     * @param models closed with the server
     * @throws UsageException when an address cannot be bound, or may not be without TLS or tokens
     */
    public static ComneckServer start(ServerOptions options, Models models) {
        Metrics metrics = new Metrics();
        return start(options, models, metrics, new EngineCompute(options.limits(), options.batching(), metrics));
    }

    /** {@link #start(ServerOptions, Models)} with another computation. */
    static ComneckServer start(ServerOptions options, Models models, Metrics metrics, Compute compute) {
        ServerOptions.Security security = options.security();
        if (!isLoopback(options.host())
                && security.certificate() == null
                && security.tokens() == null
                && !security.insecurePublic()) {
            models.close();
            throw new UsageException(
                    options.host() + " is no loopback address: anybody who reaches it could use the server."
                            + " Give --tls-cert and --tls-key, or --token-file, or say --insecure-public");
        }
        Scheduler scheduler = new Scheduler(models, options.batching(), options.limits(), metrics, compute);
        Core core;
        try {
            core = new Core(options, models, metrics, scheduler);
        } catch (RuntimeException e) {
            scheduler.close();
            models.close();
            throw e;
        }
        int count = Math.clamp(Runtime.getRuntime().availableProcessors(), 1, MAX_EVENT_LOOPS);
        EventLoopGroup loops = new MultiThreadIoEventLoopGroup(
                count, new DefaultThreadFactory("comneck-io", true), NioIoHandler.newFactory());
        ComneckServer server = new ComneckServer(core, loops);
        try {
            for (Endpoint endpoint : endpoints(core)) {
                server.bind(endpoint);
            }
            if (core.tokens() != null) {
                loops.scheduleWithFixedDelay(core::refreshTokens, 1, 1, TimeUnit.SECONDS);
            }
            core.ready(true);
            return server;
        } catch (RuntimeException e) {
            server.close();
            throw e;
        }
    }

    private static List<Endpoint> endpoints(Core core) {
        List<Endpoint> endpoints = new ArrayList<>();
        if (core.options().httpPort() >= 0) {
            endpoints.add(new HttpEndpoint(core));
        }
        if (core.options().tcpPort() >= 0) {
            endpoints.add(new TcpEndpoint(core));
        }
        return endpoints;
    }

    private void bind(Endpoint endpoint) {
        Limits limits = core.limits();
        String host = core.options().host();
        try {
            Channel listener = new ServerBootstrap()
                    .group(loops)
                    .channel(NioServerSocketChannel.class)
                    .option(ChannelOption.SO_BACKLOG, BACKLOG)
                    .option(ChannelOption.SO_REUSEADDR, true)
                    .childOption(ChannelOption.TCP_NODELAY, true)
                    .childOption(
                            ChannelOption.WRITE_BUFFER_WATER_MARK,
                            new WriteBufferWaterMark(limits.lowWaterBytes(), limits.highWaterBytes()))
                    .childHandler(new ChannelInitializer<Channel>() {
                        @Override
                        protected void initChannel(Channel channel) {
                            channel.pipeline().addLast(core.gate(endpoint), endpoint.pipeline());
                        }
                    })
                    .bind(new InetSocketAddress(InetAddress.getByName(host), endpoint.port()))
                    .syncUninterruptibly()
                    .channel();
            listeners.put(endpoint.name(), listener);
        } catch (UnknownHostException e) {
            throw new UsageException("host '" + host + "' is not known", e);
        } catch (Exception e) {
            // Netty throws what the socket threw, checked or not.
            throw new UsageException(
                    host + ":" + endpoint.port() + " cannot be bound (" + e.getMessage()
                            + "); is a server running there?",
                    new IOException(e));
        }
    }

    /** The port of HTTP. */
    public int httpPort() {
        return port("http");
    }

    /** The port of the binary protocol. */
    public int tcpPort() {
        return port("tcp");
    }

    private int port(String name) {
        Channel listener = listeners.get(name);
        if (listener == null) {
            throw new IllegalStateException("no port for " + name);
        }
        return ((InetSocketAddress) listener.localAddress()).getPort();
    }

    /** True while it takes requests. */
    public boolean isReady() {
        return core.ready();
    }

    public Models models() {
        return core.models();
    }

    public Metrics metrics() {
        return core.metrics();
    }

    Core core() {
        return core;
    }

    /**
     * Stops: not ready; after the grace no more connections and requests; everything in flight answered; connections closed. Blocks until
     * that is done, or the time for it is over. Idempotent.
     *
     * @return true when every accepted request was answered in time
     */
    public synchronized boolean drain() {
        if (stopped) {
            return true;
        }
        stopped = true;
        boolean answered = true;
        core.ready(false);
        ServerOptions.Drain drain = core.options().drain();
        try {
            if (!listeners.isEmpty()) {
                long grace = drain.graceMillis();
                Thread.sleep(grace >= 0 ? grace : isLoopback(core.options().host()) ? 0 : 5000);
            }
            LOG.info("draining: {} requests in flight", core.scheduler().inFlight());
            listeners.values().forEach(Channel::close);
            core.startDraining();
            core.scheduler().drain();
            core.connections().forEach(channel -> channel.pipeline().fireUserEventTriggered(Endpoint.DRAIN));
            long start = System.nanoTime();
            answered = core.scheduler().awaitAnswered(drain.timeoutMillis());
            long flushing = System.nanoTime();
            // Answers that are being read have as long as answers that are being computed.
            while (!core.connections().isEmpty()
                    && (millisSince(flushing) < FLUSH_MILLIS
                            || core.unsent() > 0 && millisSince(start) < drain.timeoutMillis())) {
                Thread.sleep(5);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            answered = false;
        }
        core.connections().close().awaitUninterruptibly(FLUSH_MILLIS);
        core.scheduler().close();
        loops.shutdownGracefully(0, FLUSH_MILLIS, TimeUnit.MILLISECONDS).awaitUninterruptibly(FLUSH_MILLIS);
        core.worker().shutdownNow();
        core.administrator().shutdownNow();
        core.models().close();
        LOG.info("stopped");
        return answered;
    }

    private static long millisSince(long nanoTime) {
        return TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - nanoTime);
    }

    static boolean isLoopback(String host) {
        try {
            return InetAddress.getByName(host).isLoopbackAddress();
        } catch (UnknownHostException e) {
            return false;
        }
    }

    /** {@link #drain}. */
    @Override
    public void close() {
        drain();
    }
}

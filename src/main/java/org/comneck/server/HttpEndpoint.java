package org.comneck.server;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelPipeline;
import io.netty.handler.codec.http.HttpDecoderConfig;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.HttpServerUpgradeHandler;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http2.CleartextHttp2ServerUpgradeHandler;
import io.netty.handler.codec.http2.Http2CodecUtil;
import io.netty.handler.codec.http2.Http2FrameCodec;
import io.netty.handler.codec.http2.Http2FrameCodecBuilder;
import io.netty.handler.codec.http2.Http2MultiplexHandler;
import io.netty.handler.codec.http2.Http2ServerUpgradeCodec;
import io.netty.handler.codec.http2.Http2Settings;
import io.netty.handler.codec.http2.Http2StreamFrameToHttpObjectCodec;
import io.netty.handler.ssl.ApplicationProtocolNames;
import io.netty.handler.ssl.ApplicationProtocolNegotiationHandler;
import io.netty.handler.ssl.SslContext;
import io.netty.util.AsciiString;
import io.netty.util.concurrent.ScheduledFuture;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The port of HTTP: 1.1, and 2 by prior knowledge, by upgrade or, under TLS, by ALPN. Requests of all of them end in {@link HttpExchanges}:
 * one a connection in HTTP/1.1, one a stream in HTTP/2.
 */
final class HttpEndpoint implements Endpoint {
    private static final Logger LOG = LoggerFactory.getLogger(HttpEndpoint.class);
    private static final int STREAM_WINDOW_BYTES = 256 << 10;

    private final Core core;
    private final HttpRoutes routes;
    private final Metrics.Counter handshakeFailures;
    private final SslContext tls; // or null

    HttpEndpoint(Core core) {
        this.core = core;
        this.routes = new HttpRoutes(core);
        this.handshakeFailures = core.metrics()
                .counter("comneck_tls_handshake_failures_total", "TLS handshakes that failed.", "port", "http");
        this.tls = Tls.context(core.options().security(), true);
    }

    @Override
    public String name() {
        return "http";
    }

    @Override
    public int port() {
        return core.options().httpPort();
    }

    @Override
    public ByteBuf refusal() {
        return tls != null
                ? Unpooled.EMPTY_BUFFER
                : Unpooled.copiedBuffer(
                        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nx-comneck-error: connections\r\n"
                                + "Content-Length: 0\r\nConnection: close\r\n\r\n",
                        StandardCharsets.US_ASCII);
    }

    @Override
    public ChannelInitializer<Channel> pipeline() {
        return new ChannelInitializer<>() {
            @Override
            protected void initChannel(Channel channel) {
                if (tls == null) {
                    cleartext(channel.pipeline());
                    return;
                }
                channel.pipeline().addLast(tls.newHandler(channel.alloc())).addLast(new Negotiated());
            }
        };
    }

    /** Under TLS the client says which version it wants. */
    private final class Negotiated extends ApplicationProtocolNegotiationHandler {
        private Negotiated() {
            super(ApplicationProtocolNames.HTTP_1_1);
        }

        @Override
        protected void handshakeFailure(ChannelHandlerContext ctx, Throwable cause) {
            handshakeFailures.add(1);
            LOG.debug("TLS handshake failed: {}", cause.toString());
            ctx.close();
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
            ctx.close();
        }

        @Override
        protected void configurePipeline(ChannelHandlerContext ctx, String protocol) {
            if (ApplicationProtocolNames.HTTP_2.equals(protocol)) {
                http2(ctx.pipeline(), frames());
            } else {
                HttpExchanges exchanges = new HttpExchanges(core, routes, false);
                ctx.pipeline().addLast(new Arrivals(exchanges), new HttpServerCodec(decoding()), exchanges);
            }
        }
    }

    /** HTTP/1.1, until the client's first bytes, or an upgrade, say otherwise. */
    private void cleartext(ChannelPipeline pipeline) {
        HttpExchanges exchanges = new HttpExchanges(core, routes, false);
        Arrivals arrivals = new Arrivals(exchanges);
        HttpServerCodec codec = new HttpServerCodec(decoding());
        HttpServerUpgradeHandler upgrade = new Upgrade(codec, protocol -> {
            if (!AsciiString.contentEquals(Http2CodecUtil.HTTP_UPGRADE_PROTOCOL_NAME, protocol)) {
                return null;
            }
            Http2FrameCodec frames = frames();
            return new Http2ServerUpgradeCodec(frames, new Http2MultiplexHandler(streams())) {
                @Override
                public void upgradeTo(
                        ChannelHandlerContext ctx, io.netty.handler.codec.http.FullHttpRequest upgradeRequest) {
                    super.upgradeTo(ctx, upgradeRequest);
                    ctx.pipeline().remove(arrivals);
                    ctx.pipeline().remove(exchanges);
                    ctx.pipeline().addLast(new Http2Life(frames));
                }
            };
        });
        ChannelHandler priorKnowledge = new ChannelInitializer<>() {
            @Override
            protected void initChannel(Channel channel) {
                channel.pipeline().remove(arrivals);
                channel.pipeline().remove(exchanges);
                http2(channel.pipeline(), frames());
            }
        };
        pipeline.addLast(arrivals)
                .addLast(new CleartextHttp2ServerUpgradeHandler(codec, upgrade, priorKnowledge))
                .addLast(exchanges);
    }

    /** Upgrades only requests without a body: others would have to be collected first, and are as well served by HTTP/1.1. */
    private static final class Upgrade extends HttpServerUpgradeHandler {
        private Upgrade(SourceCodec codec, UpgradeCodecFactory factory) {
            super(codec, factory, 0);
        }

        @Override
        protected boolean shouldHandleUpgradeRequest(HttpRequest request) {
            return !HttpUtil.isTransferEncodingChunked(request) && HttpUtil.getContentLength(request, 0L) == 0;
        }
    }

    private void http2(ChannelPipeline pipeline, Http2FrameCodec frames) {
        pipeline.addLast(frames, new Http2MultiplexHandler(streams()), new Http2Life(frames));
    }

    private Http2FrameCodec frames() {
        Limits limits = core.limits();
        return Http2FrameCodecBuilder.forServer()
                .initialSettings(Http2Settings.defaultSettings()
                        .maxConcurrentStreams(limits.streams())
                        .maxHeaderListSize(limits.headerBytes())
                        .initialWindowSize(STREAM_WINDOW_BYTES))
                .gracefulShutdownTimeoutMillis(core.options().drain().timeoutMillis())
                .build();
    }

    private ChannelInitializer<Channel> streams() {
        return new ChannelInitializer<>() {
            @Override
            protected void initChannel(Channel stream) {
                stream.pipeline()
                        .addLast(new Http2StreamFrameToHttpObjectCodec(true))
                        .addLast(new HttpExchanges(core, routes, true));
            }
        };
    }

    private HttpDecoderConfig decoding() {
        return new HttpDecoderConfig()
                .setMaxInitialLineLength(core.limits().headerBytes())
                .setMaxHeaderSize(core.limits().headerBytes());
    }

    /** Tells that bytes have come, before anybody knows what they are. */
    private static final class Arrivals extends ChannelInboundHandlerAdapter {
        private final HttpExchanges exchanges;

        private Arrivals(HttpExchanges exchanges) {
            this.exchanges = exchanges;
        }

        @Override
        public void channelRead(ChannelHandlerContext ctx, Object message) {
            exchanges.bytesArrived();
            ctx.fireChannelRead(message);
        }
    }

    /** Ends connections of HTTP/2: GOAWAY when the server stops, and when there was no stream for too long. */
    private final class Http2Life extends ChannelInboundHandlerAdapter {
        private final Http2FrameCodec frames;
        private ScheduledFuture<?> tick;
        private long lastStream = System.nanoTime();

        private Http2Life(Http2FrameCodec frames) {
            this.frames = frames;
        }

        @Override
        public void handlerAdded(ChannelHandlerContext ctx) {
            long period = Math.max(core.limits().idleMillis() / 4, 1);
            tick = ctx.executor()
                    .scheduleWithFixedDelay(
                            () -> {
                                long now = System.nanoTime();
                                if (frames.connection().numActiveStreams() > 0) {
                                    lastStream = now;
                                } else if (now - lastStream
                                        > TimeUnit.MILLISECONDS.toNanos(
                                                core.limits().idleMillis())) {
                                    ctx.close();
                                }
                            },
                            period,
                            period,
                            TimeUnit.MILLISECONDS);
            if (core.draining()) {
                ctx.close();
            }
        }

        @Override
        public void handlerRemoved(ChannelHandlerContext ctx) {
            tick.cancel(false);
        }

        @Override
        public void userEventTriggered(ChannelHandlerContext ctx, Object event) {
            if (event == DRAIN) {
                ctx.close(); // the codec sends GOAWAY and waits for the streams
            }
            ctx.fireUserEventTriggered(event);
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext ctx, Throwable cause) {
            ctx.close();
        }
    }
}

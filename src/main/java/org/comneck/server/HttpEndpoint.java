package org.comneck.server;

import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelInitializer;
import io.netty.handler.codec.http.HttpDecoderConfig;
import io.netty.handler.codec.http.HttpServerCodec;

/** The port of HTTP. */
final class HttpEndpoint implements Endpoint {
    private final Core core;
    private final HttpRoutes routes;

    HttpEndpoint(Core core) {
        this.core = core;
        this.routes = new HttpRoutes(core);
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
    public ChannelInitializer<Channel> pipeline() {
        return new ChannelInitializer<>() {
            @Override
            protected void initChannel(Channel channel) {
                HttpExchanges exchanges = new HttpExchanges(core, routes, false);
                channel.pipeline()
                        .addLast(new Arrivals(exchanges))
                        .addLast(new HttpServerCodec(decoding()))
                        .addLast(exchanges);
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
}

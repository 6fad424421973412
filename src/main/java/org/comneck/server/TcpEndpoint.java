package org.comneck.server;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelInitializer;
import io.netty.handler.ssl.SslContext;
import org.comneck.wire.Message;
import org.comneck.wire.Reason;

/** The port of the binary protocol, docs/protocol.md. */
final class TcpEndpoint implements Endpoint {
    private final Core core;
    private final TcpCounts counts;
    private final SslContext tls; // or null

    TcpEndpoint(Core core) {
        this.core = core;
        this.tls = Tls.context(core.options().security(), false);
        this.counts = new TcpCounts(core.metrics());
    }

    @Override
    public String name() {
        return "tcp";
    }

    @Override
    public int port() {
        return core.options().tcpPort();
    }

    @Override
    public ByteBuf refusal() {
        return tls != null
                ? Unpooled.EMPTY_BUFFER
                : Unpooled.wrappedBuffer(
                        new Message.GoAway(Reason.CONNECTIONS, "there are too many connections: come back later")
                                .toFrame()
                                .bytes());
    }

    @Override
    public ChannelInitializer<Channel> pipeline() {
        return new ChannelInitializer<>() {
            @Override
            protected void initChannel(Channel channel) {
                if (tls != null) {
                    channel.pipeline().addLast(tls.newHandler(channel.alloc()));
                }
                channel.pipeline().addLast(new TcpFrames(core)).addLast(new TcpRequests(core, counts));
            }
        };
    }
}

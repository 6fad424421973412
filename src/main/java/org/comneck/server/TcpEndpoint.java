package org.comneck.server;

import io.netty.channel.Channel;
import io.netty.channel.ChannelInitializer;

/** The port of the binary protocol, docs/protocol.md. */
final class TcpEndpoint implements Endpoint {
    private final Core core;
    private final TcpCounts counts;

    TcpEndpoint(Core core) {
        this.core = core;
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
    public ChannelInitializer<Channel> pipeline() {
        return new ChannelInitializer<>() {
            @Override
            protected void initChannel(Channel channel) {
                channel.pipeline().addLast(new TcpFrames(core)).addLast(new TcpRequests(core, counts));
            }
        };
    }
}

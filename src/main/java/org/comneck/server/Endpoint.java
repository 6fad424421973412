package org.comneck.server;

import io.netty.buffer.ByteBuf;
import io.netty.channel.Channel;
import io.netty.channel.ChannelInitializer;

/** A port with a protocol: what {@link ComneckServer} binds. */
interface Endpoint {
    /**
     * Fired through every open connection as a user event when the server begins to stop: from then on new requests are refused. A
     * connection tells its client (GOAWAY, {@code Connection: close}), and closes itself once its requests were answered.
     */
    Object DRAIN = "drain";

    /** {@code http} or {@code tcp}: in metrics and logs. */
    String name();

    /** Port to bind, 0 for any free one. */
    int port();

    /** Builds the pipeline of a connection. Its channel is registered with the server already, and counted. */
    ChannelInitializer<Channel> pipeline();

    /** What a connection beyond the limit is told before it is closed; empty where nothing can be said, under TLS. */
    ByteBuf refusal();
}

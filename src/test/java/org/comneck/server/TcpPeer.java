package org.comneck.server;

import java.io.EOFException;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.ByteBuffer;
import org.comneck.wire.Frame;
import org.comneck.wire.FrameReader;
import org.comneck.wire.Message;
import org.comneck.wire.RequestOptions;

/** The other side of a connection of the binary protocol, which may misbehave. */
final class TcpPeer implements AutoCloseable {
    private static final int TIMEOUT_MILLIS = 20_000;

    final Socket socket = new Socket();
    private final FrameReader reader = new FrameReader(head -> ByteBuffer.allocate((int) head.bodyBytes()));

    /** A connection on which nothing was said. */
    TcpPeer(int port, int receiveBuffer) throws IOException {
        if (receiveBuffer > 0) {
            socket.setReceiveBufferSize(receiveBuffer);
        }
        socket.setTcpNoDelay(true);
        socket.setSoTimeout(TIMEOUT_MILLIS);
        socket.connect(new InetSocketAddress("127.0.0.1", port));
    }

    /** A connection with hellos behind it. */
    static TcpPeer open(int port) throws IOException {
        TcpPeer peer = new TcpPeer(port, 0);
        peer.hello();
        return peer;
    }

    Message.ServerHello hello() throws IOException {
        send(new Message.ClientHello(1, 1, "test", null));
        return (Message.ServerHello) receive();
    }

    void send(Message message) throws IOException {
        send(message.toFrame().toByteArray());
    }

    void send(byte[] bytes) throws IOException {
        socket.getOutputStream().write(bytes);
    }

    /** A request for the tokens of a body. */
    void request(long id, byte[] body) throws IOException {
        send(requestOf(id, body));
    }

    static Message.Request requestOf(long id, byte[] body) {
        return new Message.Request(id, 0, RequestOptions.DEFAULT, null, ByteBuffer.wrap(body));
    }

    /** The next frame. */
    Message receive() throws IOException {
        while (true) {
            ByteBuffer wanted = reader.wanted();
            int count = socket.getInputStream()
                    .read(wanted.array(), wanted.arrayOffset() + wanted.position(), wanted.remaining());
            if (count < 0) {
                throw new EOFException();
            }
            wanted.position(wanted.position() + count);
            Frame frame = reader.advance();
            if (frame != null) {
                if (!frame.intact()) {
                    throw new AssertionError("damaged by the server");
                }
                return Message.ofServer(frame);
            }
        }
    }

    /** True when the server has closed the connection: waits for it. */
    boolean isOver() throws IOException {
        return socket.getInputStream().read() < 0;
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}

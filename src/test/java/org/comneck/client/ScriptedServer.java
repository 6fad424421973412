package org.comneck.client;

import java.io.EOFException;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.wire.Frame;
import org.comneck.wire.FrameReader;
import org.comneck.wire.Message;

/** A server that does what a test says, right or wrong. */
final class ScriptedServer implements AutoCloseable {
    /** What happens on connection number {@code index}, after the hellos; the connection ends with it. */
    interface Script {
        void run(Peer peer, int index) throws Exception;
    }

    /** The client's side of a connection. */
    static final class Peer {
        private final Socket socket;
        private final FrameReader reader = new FrameReader(head -> ByteBuffer.allocate((int) head.bodyBytes()));

        private Peer(Socket socket) {
            this.socket = socket;
        }

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
                    return Message.ofClient(frame);
                }
            }
        }

        Message.Request request() throws IOException {
            return (Message.Request) receive();
        }

        void send(Message message) throws IOException {
            send(message.toFrame().toByteArray());
        }

        void send(byte[] bytes) throws IOException {
            socket.getOutputStream().write(bytes);
        }

        /** Answers a request with one token of its body's first byte. */
        void answer(Message.Request request) throws IOException {
            send(answerTo(request));
        }
    }

    static Message.Answer answerTo(Message.Request request) {
        ByteBuffer tokens = ByteBuffer.wrap(new byte[] {request.bitstream().get(0), 0});
        return new Message.Answer(
                request.id(), 1, ElementType.F16, Shape.of(1, 1), -2, new byte[16], 10, 20, List.of(tokens));
    }

    private final ServerSocket listener;
    private final List<Socket> sockets = new CopyOnWriteArrayList<>();
    final AtomicInteger connections = new AtomicInteger();

    ScriptedServer(int credits, Script script) throws IOException {
        listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        Thread.ofVirtual().start(() -> {
            try {
                while (true) {
                    Socket socket = listener.accept();
                    sockets.add(socket);
                    int index = connections.getAndIncrement();
                    Thread.ofVirtual().start(() -> serve(socket, credits, script, index));
                }
            } catch (IOException e) {
                // closed
            }
        });
    }

    private static void serve(Socket socket, int credits, Script script, int index) {
        try (socket) {
            Peer peer = new Peer(socket);
            peer.receive();
            peer.send(new Message.ServerHello(1, credits, "script", 1 << 20, 1, 1 << 20, 0, List.of()));
            script.run(peer, index);
        } catch (Exception e) {
            // the client has left, or the script has failed and the client sees that
        }
    }

    int port() {
        return listener.getLocalPort();
    }

    @Override
    public void close() throws IOException {
        listener.close();
        for (Socket socket : sockets) {
            socket.close();
        }
    }
}

package org.comneck.eval;

import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.comneck.DamagedDataException;
import org.comneck.wire.Frame;
import org.comneck.wire.FrameReader;
import org.comneck.wire.Message;

/** A bare connection to a server: what load is made of. One thread may send while another receives. */
final class Line implements AutoCloseable {
    private static final int BUFFER_BYTES = 1 << 16;

    private final Socket socket = new Socket();
    private final InputStream in;
    private final FrameReader reader = new FrameReader(head -> ByteBuffer.allocate((int) head.bodyBytes()));

    Line(int port) throws IOException {
        socket.setTcpNoDelay(true);
        socket.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
        in = new BufferedInputStream(socket.getInputStream(), BUFFER_BYTES);
    }

    /** Says hello in the binary protocol; returns the server's. */
    Message.ServerHello hello() throws IOException {
        send(new Message.ClientHello(1, 1, "comneck-bench", null).toFrame().toByteArray());
        if (receive() instanceof Message.ServerHello hello) {
            return hello;
        }
        throw new DamagedDataException("the server does not say hello");
    }

    void send(byte[] bytes) throws IOException {
        socket.getOutputStream().write(bytes);
    }

    /** The next frame. */
    Message receive() throws IOException {
        while (true) {
            ByteBuffer wanted = reader.wanted();
            int count = in.read(wanted.array(), wanted.arrayOffset() + wanted.position(), wanted.remaining());
            if (count < 0) {
                throw new EOFException("the server closed the connection");
            }
            wanted.position(wanted.position() + count);
            Frame frame = reader.advance();
            if (frame != null) {
                return Message.ofServer(frame);
            }
        }
    }

    /** Posts a body over HTTP/1.1 and reads the answer's bytes; the connection stays open. */
    byte[] post(String path, byte[] body) throws IOException {
        String head = "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + body.length + "\r\n\r\n";
        byte[] start = head.getBytes(StandardCharsets.US_ASCII);
        byte[] all = java.util.Arrays.copyOf(start, start.length + body.length);
        System.arraycopy(body, 0, all, start.length, body.length);
        send(all);
        int length = -1;
        String status = line();
        for (String header = line(); !header.isEmpty(); header = line()) {
            if (header.regionMatches(true, 0, "content-length:", 0, 15)) {
                length = Integer.parseInt(header.substring(15).strip());
            }
        }
        byte[] answer = in.readNBytes(length);
        if (!status.contains(" 200 ")) {
            throw new DamagedDataException(status + ": " + new String(answer, StandardCharsets.UTF_8));
        }
        return answer;
    }

    private String line() throws IOException {
        StringBuilder text = new StringBuilder();
        for (int c = in.read(); c != '\n'; c = in.read()) {
            if (c < 0) {
                throw new EOFException("the server closed the connection");
            }
            if (c != '\r') {
                text.append((char) c);
            }
        }
        return text.toString();
    }

    /** Ends the connection, and so what waits in {@link #receive}. */
    void stop() throws IOException {
        socket.close();
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }
}

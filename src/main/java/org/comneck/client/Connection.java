package org.comneck.client;

import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.ReentrantLock;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import org.comneck.ComneckException;
import org.comneck.DamagedDataException;
import org.comneck.wire.Frame;
import org.comneck.wire.FrameHead;
import org.comneck.wire.FrameReader;
import org.comneck.wire.Message;
import org.comneck.wire.Reason;

/**
 * One connection: a thread that reads, a lock around writing. It may block while it writes, because a server always reads
 * (docs/protocol.md, flow control).
 */
final class Connection {
    private static final int BUFFER_BYTES = 1 << 16;
    private static final String AGENT = "comneck-java";

    /** What a connection tells its client; called on its reading thread, {@link #lost} once. */
    interface Owner {
        /** A credit came, or there are no more of them here. */
        void changed();

        /** The final frame of a request that somebody waits for. */
        void ended(Exchange exchange, Message message);

        /**
         * The connection is over.
         *
         * @param unsent requests that were not wholly written
         * @param unanswered requests that were, and have no answer
         */
        void lost(Connection connection, List<Exchange> unsent, List<Exchange> unanswered, Exception why);
    }

    private final ClientOptions options;
    private final Owner owner;
    private final Socket plain;
    private final Socket socket; // plain, or TLS over it
    private final InputStream in;
    private final OutputStream out;
    private final FrameReader reader;
    private final Message.ServerHello hello;

    private final ReentrantLock writing = new ReentrantLock();
    private final ByteBuffer buffer = ByteBuffer.allocate(BUFFER_BYTES); // guarded by writing

    // Guarded by this.
    private final Map<Long, Exchange> pending = new HashMap<>();
    private final List<Exchange> unsent = new ArrayList<>();
    private long lastId;
    private int credits;
    private boolean leaving;
    private boolean closed;

    /** Connects and says hello: blocks. */
    Connection(ClientOptions options, Owner owner) throws IOException {
        this.options = options;
        this.owner = owner;
        this.reader = new FrameReader(this::admit);
        int timeout = Math.toIntExact(options.connectTimeout().toMillis());
        this.plain = new Socket();
        try {
            plain.connect(new InetSocketAddress(options.host(), options.port()), timeout);
            plain.setTcpNoDelay(true);
            plain.setKeepAlive(true);
            plain.setSoTimeout(timeout);
            socket = options.tls() == null ? plain : secured(plain);
            in = new BufferedInputStream(socket.getInputStream(), BUFFER_BYTES);
            out = socket.getOutputStream();
            write(new Message.ClientHello(FrameHead.VERSION, FrameHead.VERSION, AGENT, options.accessToken()));
            Message first = Message.ofServer(next());
            if (first instanceof Message.GoAway goAway) {
                throw new RequestException(goAway.reason(), goAway.reason() + ": " + goAway.text(), -1, false, null);
            }
            if (!(first instanceof Message.ServerHello said)) {
                throw new DamagedDataException("the server's first frame is no hello");
            }
            hello = said;
            credits = said.credits();
            socket.setSoTimeout(Math.toIntExact(options.keepAlive().toMillis()));
        } catch (IOException | RuntimeException e) {
            plain.close();
            throw e;
        }
    }

    private SSLSocket secured(Socket plain) throws IOException {
        SSLSocket tls =
                (SSLSocket) options.tls().getSocketFactory().createSocket(plain, options.host(), options.port(), true);
        SSLParameters parameters = tls.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        tls.setSSLParameters(parameters);
        tls.startHandshake();
        return tls;
    }

    private ByteBuffer admit(FrameHead head) {
        if (head.bodyBytes() > options.maxAnswerBytes()) {
            throw new DamagedDataException("an answer of " + head.bodyBytes() + " bytes is more than the limit of "
                    + options.maxAnswerBytes());
        }
        return ByteBuffer.allocate((int) head.bodyBytes());
    }

    /** Begins to read, on a thread of its own. */
    void start() {
        Thread.ofVirtual().name("comneck-client").start(this::read);
    }

    Message.ServerHello hello() {
        return hello;
    }

    /** Requests that may be sent now. */
    synchronized int credits() {
        return leaving || closed ? 0 : credits;
    }

    // ---------------------------------------------------------------- writing

    /**
     * Sends a request, if there is a credit for it.
     *
     * @return false when there is none, or the connection is over: nothing was sent
     */
    boolean send(Exchange exchange) {
        Message.Request request;
        synchronized (this) {
            if (leaving || closed || credits == 0) {
                return false;
            }
            request = exchange.request(++lastId);
            if (request == null || exchange.isDone()) {
                return true; // its deadline's timer says so
            }
            credits--;
            pending.put(lastId, exchange);
            unsent.add(exchange);
        }
        exchange.sentBy(this, request.id());
        writing.lock();
        try {
            write(request);
            synchronized (this) {
                unsent.remove(exchange);
            }
        } catch (IOException e) {
            lose(e);
        } finally {
            writing.unlock();
        }
        if (exchange.isDone()) {
            cancel(request.id()); // while it was written
        }
        return true;
    }

    /** Takes a request back: once, though its caller and the thread that has just sent it may both ask. */
    void cancel(long id) {
        synchronized (this) {
            Exchange exchange = pending.get(id);
            if (exchange == null || closed || !exchange.takeBack()) {
                return;
            }
        }
        try {
            write(new Message.Cancel(id));
        } catch (IOException e) {
            lose(e);
        }
    }

    private void write(Message message) throws IOException {
        ByteBuffer[] parts = message.toFrame().bytes();
        writing.lock();
        try {
            for (ByteBuffer part : parts) {
                while (part.hasRemaining()) {
                    if (!buffer.hasRemaining()) {
                        flush();
                    }
                    if (buffer.position() == 0 && part.remaining() >= BUFFER_BYTES && part.hasArray()) {
                        out.write(part.array(), part.arrayOffset() + part.position(), part.remaining());
                        part.position(part.limit());
                    } else {
                        int count = Math.min(part.remaining(), buffer.remaining());
                        buffer.put(part.slice(part.position(), count));
                        part.position(part.position() + count);
                    }
                }
            }
            flush();
        } finally {
            buffer.clear();
            writing.unlock();
        }
    }

    private void flush() throws IOException {
        out.write(buffer.array(), 0, buffer.position());
        buffer.clear();
    }

    // ---------------------------------------------------------------- reading

    private void read() {
        boolean asked = false;
        try {
            while (true) {
                Frame frame;
                try {
                    frame = next();
                } catch (SocketTimeoutException e) {
                    if (asked) {
                        throw new IOException("the server does not answer", e);
                    }
                    asked = true;
                    ping();
                    continue;
                }
                asked = false;
                take(frame);
            }
        } catch (IOException | ComneckException e) {
            lose(e);
        }
    }

    private void ping() throws IOException {
        if (!writing.isLocked()) { // else somebody finds out anyway
            write(new Message.Ping(0));
        }
    }

    /** Reads a frame; a timeout leaves what was read of it in its place. */
    private Frame next() throws IOException {
        while (true) {
            ByteBuffer wanted = reader.wanted();
            int count = in.read(wanted.array(), wanted.arrayOffset() + wanted.position(), wanted.remaining());
            if (count < 0) {
                throw new EOFException("the server closed the connection");
            }
            wanted.position(wanted.position() + count);
            Frame frame = reader.advance();
            if (frame != null) {
                if (!frame.intact()) {
                    throw new DamagedDataException("a frame of the server is damaged");
                }
                return frame;
            }
        }
    }

    private void take(Frame frame) throws IOException {
        Message message = Message.ofServer(
                frame); // first: a frame that is nonsense leaves its request to fail with the connection
        Exchange exchange = null;
        synchronized (this) {
            credits += frame.head().credits();
            if (frame.head().type().isFinal()) {
                exchange = pending.remove(frame.head().id());
            }
        }
        switch (message) {
            case Message.Ping ping -> write(new Message.Pong(ping.id()));
            case Message.GoAway goAway -> {
                synchronized (this) {
                    leaving = true;
                }
                if (goAway.reason() != Reason.DRAINING && goAway.reason() != Reason.IDLE) {
                    throw new IOException("the server ends the connection, " + goAway.reason() + ": " + goAway.text());
                }
            }
            default -> {}
        }
        if (exchange != null && !exchange.isDone()) {
            owner.ended(exchange, message);
        }
        owner.changed();
        synchronized (this) {
            if (leaving && pending.isEmpty()) {
                throw new EOFException("the server has said good bye");
            }
        }
    }

    // ---------------------------------------------------------------- end

    /** Ends the connection. Idempotent. */
    void lose(Exception why) {
        synchronized (this) {
            if (closed) {
                return;
            }
            closed = true;
        }
        try {
            plain.close(); // wakes whoever reads or writes, also below TLS
        } catch (IOException e) {
            why.addSuppressed(e);
        }
        List<Exchange> notSent;
        List<Exchange> notAnswered;
        writing.lock(); // a request that is being written is either in unsent, or was written
        try {
            synchronized (this) {
                notSent = List.copyOf(unsent);
                pending.values().removeAll(unsent);
                notAnswered = List.copyOf(pending.values());
                pending.clear();
                unsent.clear();
            }
        } finally {
            writing.unlock();
        }
        owner.lost(this, notSent, notAnswered, why);
    }
}

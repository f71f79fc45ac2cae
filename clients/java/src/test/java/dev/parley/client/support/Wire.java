package dev.parley.client.support;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;

/** Forwards connections to a server, and cuts them. */
public final class Wire implements AutoCloseable {

    private final ServerSocket listener;
    private final int behind;
    private final List<Socket> open = new ArrayList<>(); // guarded by this

    public Wire(String behind) {
        this.behind = Integer.parseInt(behind.split(":")[1]);
        try {
            this.listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        }
        inBackground(() -> {
            while (true) {
                Socket front = listener.accept();
                inBackground(() -> forward(front));
            }
        });
    }

    public String address() {
        return "127.0.0.1:" + listener.getLocalPort();
    }

    /** Cuts all connections; new ones may be made. */
    public synchronized void cut() {
        open.forEach(Wire::closed);
        open.clear();
    }

    @Override
    public void close() throws IOException {
        listener.close();
        cut();
    }

    private void forward(Socket front) throws IOException {
        Socket back = new Socket();
        try {
            back.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), behind));
        } catch (IOException away) {
            front.close();
            throw away;
        }
        synchronized (this) {
            open.addAll(List.of(front, back));
        }
        inBackground(() -> copied(front, back));
        inBackground(() -> copied(back, front));
    }

    private static void copied(Socket from, Socket to) throws IOException {
        try {
            from.getInputStream().transferTo(to.getOutputStream());
        } finally {
            closed(to);
        }
    }

    private static void closed(Socket socket) {
        try {
            socket.close();
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        }
    }

    private interface Action {
        void run() throws IOException;
    }

    private static void inBackground(Action action) {
        Thread thread = new Thread(() -> {
            try {
                action.run();
            } catch (IOException ended) {
                // that a connection ends is what a wire is for
            }
        });
        thread.setDaemon(true);
        thread.start();
    }
}

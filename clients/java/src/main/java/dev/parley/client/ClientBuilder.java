package dev.parley.client;

import io.grpc.CallCredentials;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;

/**
 * Makes a client: where the server is, who calls, how the way there is trusted.
 *
 * <p>To this machine the client speaks plaintext, to any other TLS with the JDK's roots, unless it is told otherwise.
 *
 * @param <C> the kind of client
 */
public final class ClientBuilder<C> {

    /** Where a server listens unless it is told otherwise. */
    public static final String DEFAULT_ADDRESS = "127.0.0.1:50051";

    private final Function<Connection, C> client;
    private String address = DEFAULT_ADDRESS;
    private CallCredentials token;
    private Path caFile;
    private Path certificateFile;
    private Path keyFile;
    private boolean isPlaintext;
    private Channel channel;
    private Consumer<ManagedChannelBuilder<?>> configuration = builder -> {};
    private Executor executor;
    private Duration chatTimeout = Duration.ofSeconds(120);
    private Duration readTimeout = Duration.ofSeconds(10);

    ClientBuilder(Function<Connection, C> client) {
        this.client = client;
    }

    /** {@code host:port}, or any gRPC target. Default: {@link #DEFAULT_ADDRESS}. */
    public ClientBuilder<C> address(String address) {
        this.address = address;
        return this;
    }

    /** The JWT that says who calls. Null or blank: none. */
    public ClientBuilder<C> token(String token) {
        BearerToken.checked(token);
        return token(() -> token);
    }

    /**
     * Asked for a token before every try of a call, on a thread that it may block. What it throws is the cause of
     * an {@link ParleyException.Unauthenticated}. A stream that has begun to arrive asks it again, as often as it would try
     * a server that is away, and a watch for about five minutes.
     */
    public ClientBuilder<C> token(Supplier<String> token) {
        this.token = new BearerToken(token);
        return this;
    }

    /** A file that holds the token, such as a mounted secret. It is read again whenever it changes. */
    public ClientBuilder<C> tokenFile(Path file) {
        return token(new TokenFile(file));
    }

    /** Trusts servers whose certificates these authorities have signed, PEM, instead of the JDK's. */
    public ClientBuilder<C> caFile(Path caFile) {
        this.caFile = caFile;
        return this;
    }

    /** Shows a certificate of the caller's: its chain and its key (PKCS#8, not encrypted), PEM. */
    public ClientBuilder<C> clientCertificate(Path certificateFile, Path keyFile) {
        this.certificateFile = certificateFile;
        this.keyFile = keyFile;
        return this;
    }

    /** Uses plaintext, wherever the server is. An attacker on the way can read tokens and messages. */
    public ClientBuilder<C> plaintext() {
        isPlaintext = true;
        return this;
    }

    /** Changes the channel's settings before it is built: interceptors, keepalive, and so on. */
    public ClientBuilder<C> configureChannel(Consumer<ManagedChannelBuilder<?>> configuration) {
        this.configuration = configuration;
        return this;
    }

    /**
     * Takes a channel of the caller's own, which stays open when the client is closed. Build it with
     * {@link ManagedChannelBuilder#disableRetry}: this client makes all retries that are safe.
     */
    public ClientBuilder<C> channel(Channel channel) {
        this.channel = channel;
        return this;
    }

    /**
     * Where callbacks, futures and token suppliers run. Its threads must not wait for calls of this client: if all of them
     * did, none would be left to end the calls. Default: threads of gRPC's own.
     */
    public ClientBuilder<C> executor(Executor executor) {
        this.executor = executor;
        return this;
    }

    /** How long a turn may take, waits and retries included, unless its options say otherwise. Default: 120 s. */
    public ClientBuilder<C> chatTimeout(Duration timeout) {
        chatTimeout = positive(timeout);
        return this;
    }

    /** How long any other call for one response may take, waits and retries included. Default: 10 s. */
    public ClientBuilder<C> readTimeout(Duration timeout) {
        readTimeout = positive(timeout);
        return this;
    }

    /**
     * Makes the client. Nothing is connected yet.
     *
     * @throws IllegalArgumentException these settings do not go together, or a file holds no certificate or key
     * @throws UncheckedIOException a file cannot be read
     */
    public C build() {
        boolean isTls = caFile != null || certificateFile != null;
        if (isTls && isPlaintext) {
            throw new IllegalArgumentException("certificates are for TLS: leave out plaintext(), or them");
        }
        if (channel != null && (isTls || isPlaintext)) {
            throw new IllegalArgumentException("a channel of your own has its own security: set it there");
        }
        ManagedChannel own = channel == null ? opened(isTls) : null;
        Channel used = own == null ? channel : own;
        return client.apply(new Connection(used, own, token, executor, chatTimeout, readTimeout));
    }

    static Duration positive(Duration timeout) {
        if (timeout.isZero() || timeout.isNegative()) {
            throw new IllegalArgumentException("a timeout is more than 0, and not " + timeout);
        }
        return timeout;
    }

    private ManagedChannel opened(boolean isTls) {
        boolean speaksTls = isTls || !(isPlaintext || Addresses.isOnThisMachine(address));
        ChannelCredentials credentials = speaksTls ? tls() : InsecureChannelCredentials.create();
        ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(address, credentials);
        builder.disableRetry().defaultLoadBalancingPolicy("round_robin"); // for retries see Tries
        if (!speaksTls || Addresses.isOnThisMachine(address)) {
            // A proxy that the JVM's settings name would see tokens, and has no business on this machine.
            builder.proxyDetector(target -> null);
        }
        // A server that vanished without a word is noticed within 40 s, while a call is under way.
        builder.keepAliveTime(30, TimeUnit.SECONDS).keepAliveTimeout(10, TimeUnit.SECONDS);
        if (executor != null) {
            builder.executor(executor);
        }
        configuration.accept(builder);
        return builder.build();
    }

    private ChannelCredentials tls() {
        TlsChannelCredentials.Builder builder = TlsChannelCredentials.newBuilder();
        try {
            if (caFile != null) {
                builder.trustManager(caFile.toFile());
            }
            if (certificateFile != null) {
                builder.keyManager(certificateFile.toFile(), keyFile.toFile());
            }
        } catch (IOException unreadable) {
            throw new UncheckedIOException(unreadable);
        }
        return builder.build();
    }
}

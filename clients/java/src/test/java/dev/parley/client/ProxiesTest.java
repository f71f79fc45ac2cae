package dev.parley.client;

import static dev.parley.client.support.Messages.anAnswer;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.ScriptedServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.SocketAddress;
import java.net.URI;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Isolated;

/** Proxies that the JVM's settings name: none gets to see what has to go straight to the server. */
@Isolated
class ProxiesTest {

    private final ProxySelector usual = ProxySelector.getDefault();
    private final List<String> asked = new CopyOnWriteArrayList<>();

    /** Names a proxy for every host, where nothing listens. */
    private final class Recording extends ProxySelector {
        @Override
        public List<Proxy> select(URI uri) {
            asked.add(uri.getHost());
            return List.of(new Proxy(Proxy.Type.HTTP, new InetSocketAddress("127.0.0.1", 1)));
        }

        @Override
        public void connectFailed(URI uri, SocketAddress address, IOException failure) {}
    }

    @BeforeEach
    void nameAProxy() {
        ProxySelector.setDefault(new Recording());
    }

    @AfterEach
    void nameTheUsualOne() {
        ProxySelector.setDefault(usual);
    }

    @Test
    void noProxyStandsBeforeAServerOnThisMachine() throws Exception {
        try (var server = ScriptedServer.start(sends(anAnswer("HELLO")));
                var client = ParleyClient.builder().address(server.address()).build()) {
            assertEquals("HELLO", client.chat("hello").text());
        }
        assertEquals(List.of(), asked);
    }

    @Test
    void noProxyIsSentPlaintextForAnotherMachine() {
        var soon = ChatOptions.defaults().timeout(Duration.ofSeconds(2));
        try (var client = ParleyClient.builder().address("parley.invalid:50051").plaintext().build()) {
            assertThrows(ParleyException.class, () -> client.chat("hello", soon));
        }
        assertEquals(List.of(), asked);
    }

    @Test
    void tlsToAnotherMachineGoesThroughTheProxy() {
        var soon = ChatOptions.defaults().timeout(Duration.ofSeconds(2));
        try (var client = ParleyClient.builder().address("parley.invalid:443").build()) {
            assertThrows(ParleyException.class, () -> client.chat("hello", soon));
        }
        assertTrue(asked.contains("parley.invalid"), asked.toString());
    }
}

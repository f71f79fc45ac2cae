package dev.parley.client;

import static dev.parley.client.support.Messages.anAnswer;
import static dev.parley.client.support.ScriptedServer.Step.sends;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.parley.client.support.Certificates;
import dev.parley.client.support.ScriptedServer;
import io.grpc.TlsServerCredentials;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Whom the client trusts, and what it shows of itself. */
class SecurityTest {

    @TempDir
    private Path folder;

    private static TlsServerCredentials.Builder shown(Certificates.Pair certificate) throws IOException {
        return TlsServerCredentials.newBuilder()
                .keyManager(certificate.certificateFile().toFile(), certificate.keyFile().toFile());
    }

    @Test
    void aServerIsTrustedThroughItsAuthority() throws Exception {
        var ours = Certificates.authority(folder.resolve("ours"));
        var others = Certificates.authority(folder.resolve("others"));
        var credentials = shown(ours.signed("server")).build();
        try (var server = ScriptedServer.startWith(credentials, sends(anAnswer("HELLO")));
                var trusting = ParleyClient.builder().address(server.address()).caFile(ours.caFile()).build();
                var wary = ParleyClient.builder().address(server.address()).caFile(others.caFile()).build();
                var plain = ParleyClient.builder().address(server.address()).plaintext().build()) {
            assertEquals("HELLO", trusting.chat("hello").text());
            var soon = ChatOptions.defaults().timeout(Duration.ofSeconds(1));
            assertThrows(ParleyException.Unavailable.class, () -> wary.chat("hello", soon));
            assertThrows(ParleyException.class, () -> plain.chat("hello", soon));
            assertEquals(1, server.asked().size());
        }
    }

    @Test
    void aClientShowsItsCertificate() throws Exception {
        var ours = Certificates.authority(folder.resolve("ours"));
        var mine = ours.signed("client");
        var credentials = shown(ours.signed("server")).trustManager(ours.caFile().toFile())
                .clientAuth(TlsServerCredentials.ClientAuth.REQUIRE).build();
        try (var server = ScriptedServer.startWith(credentials, sends(anAnswer("HELLO")));
                var known = ParleyClient.builder().address(server.address()).caFile(ours.caFile())
                        .clientCertificate(mine.certificateFile(), mine.keyFile()).build();
                var unknown = ParleyClient.builder().address(server.address()).caFile(ours.caFile()).build()) {
            assertEquals("HELLO", known.chat("hello").text());
            var soon = ChatOptions.defaults().timeout(Duration.ofSeconds(1));
            assertThrows(ParleyException.class, () -> unknown.chat("hello", soon));
            assertEquals(1, server.asked().size());
        }
    }

    /** Whoever reads a token can use it: TLS is the default, plaintext has to be asked for. */
    @Test
    void plaintextToAnotherMachineHasToBeAskedFor() {
        for (String here : List.of("localhost:1", "127.0.0.1:1", "[::1]:1", "::1", "dns:///localhost:1", "unix:/run/p")) {
            assertTrue(Addresses.isOnThisMachine(here), here);
        }
        for (String away : List.of("parley.internal:443", "10.0.0.1:1", "localhost.evil.example:1", "1:2",
                "ipv4:127.0.0.1:1,10.0.0.1:1", "dns://127.0.0.1/parley.internal:1", "0.0.0.0:1", "127.0.0.1.example:1")) {
            assertFalse(Addresses.isOnThisMachine(away), away);
        }
    }

    @Test
    void settingsThatCannotBeAreRefusedAtOnce() throws IOException {
        Path empty = Files.createFile(folder.resolve("empty.pem"));
        var builder = ParleyClient.builder();
        assertThrows(IllegalArgumentException.class, () -> builder.caFile(empty).plaintext().build());
        assertThrows(UncheckedIOException.class,
                () -> ParleyClient.builder().caFile(folder.resolve("missing.pem")).build());
        assertThrows(IllegalArgumentException.class, () -> ParleyClient.builder().token("two\nlines"));
        assertThrows(IllegalArgumentException.class, () -> ParleyClient.builder().readTimeout(Duration.ZERO));
    }

    @Test
    void aTokenFileIsReadAgainWhenItChanges() throws IOException {
        Path file = Files.writeString(folder.resolve("token"), "one\n");
        try (var server = ScriptedServer.start(sends(anAnswer("x")));
                var client = ParleyClient.builder().address(server.address()).tokenFile(file).build()) {
            client.chat("hello");
            client.chat("hello");
            Files.writeString(file, "another\n");
            client.chat("hello");
            assertEquals(List.of("Bearer one", "Bearer one", "Bearer another"),
                    server.asked().stream().map(ScriptedServer.Asked::token).toList());
            Files.delete(file);
            var error = assertThrows(ParleyException.Unauthenticated.class, () -> client.chat("hello"));
            assertSame(UncheckedIOException.class, error.getCause().getClass());
            assertEquals(3, server.asked().size());
        }
    }
}

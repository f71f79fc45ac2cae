package dev.parley.client.support;

import com.google.gson.Gson;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** {@code parley-server serve} with a Postgres of its own, on a port that the system has chosen. */
public final class LiveServer implements AutoCloseable {

    private static final File COMMAND = new File("../../.venv/bin/parley-server");
    private static final File SCRIPTS = new File("../conformance");
    private static final String SECRET = "a-secret-of-the-tests-of-32-bytes-and-more";
    private static final Pattern WELCOME = Pattern.compile("Parley serves on (\\S+:\\d+)");

    private final String agent;
    private final Path folder;
    private String address = "127.0.0.1:0";
    private Process process;

    private LiveServer(String agent) {
        this.agent = agent;
        try {
            this.folder = Files.createTempDirectory("parley-java-");
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        }
    }

    /** Starts one with an agent, such as {@code echo} or {@code echo:SECONDS}. */
    public static LiveServer start(String agent) {
        var server = new LiveServer(agent);
        server.serve();
        return server;
    }

    /** One that answers at once, for all tests that do no harm to it. */
    public static LiveServer fast() {
        return Fast.SERVER;
    }

    /** One that thinks before it answers. */
    public static LiveServer slow() {
        return Slow.SERVER;
    }

    /** One whose agent plays the scripts of the conformance scenarios. */
    public static LiveServer toolUser() {
        return ToolUser.SERVER;
    }

    private static final class ToolUser {
        static final LiveServer SERVER = untilTheEnd(start("python:scripted_agent:agent"));
    }

    private static final class Fast {
        static final LiveServer SERVER = untilTheEnd(start("echo"));
    }

    private static final class Slow {
        static final LiveServer SERVER = untilTheEnd(start("echo:2"));
    }

    private static LiveServer untilTheEnd(LiveServer server) {
        Runtime.getRuntime().addShutdownHook(new Thread(server::close));
        return server;
    }

    public String address() {
        return address;
    }

    /** Starts it, again at the same address with the same data if it has been stopped. */
    public void serve() {
        ProcessBuilder builder = new ProcessBuilder(COMMAND.getAbsolutePath(), "serve").redirectOutput(
                ProcessBuilder.Redirect.DISCARD);
        builder.environment().keySet().removeIf(name -> name.startsWith("PARLEY_"));
        builder.environment().putAll(Map.of(
                "PARLEY_LISTEN", address,
                "PARLEY_AGENT", agent,
                "PYTHONPATH", SCRIPTS.getAbsolutePath(),
                "PARLEY_DATA_DIR", folder.toString(),
                "PARLEY_LEASE_S", "2", // a killed worker's turn can be taken over soon
                "PARLEY_AUTH_HS256_SECRET", SECRET,
                "PARLEY_AUTH_ISSUER", "tests",
                "PARLEY_AUTH_AUDIENCE", "parley"));
        try {
            process = builder.start();
            address = welcomed(process.errorReader(StandardCharsets.UTF_8));
        } catch (IOException broken) {
            throw new UncheckedIOException("the tests need a server, which `make setup` installs", broken);
        }
    }

    private static String welcomed(BufferedReader lines) throws IOException {
        StringBuilder said = new StringBuilder();
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            said.append(line).append('\n');
            var found = WELCOME.matcher(line);
            if (found.find()) {
                Thread reader = new Thread(() -> lines.lines().forEach(ignored -> {})); // or it could not write more
                reader.setDaemon(true);
                reader.start();
                return found.group(1);
            }
        }
        throw new IllegalStateException("the server did not start:\n" + said);
    }

    /** Kills it as the system would: nothing is said to anybody. */
    public void kill() {
        process.destroyForcibly();
        process.onExit().join();
    }

    /** Stops it, and removes its data. */
    @Override
    public void close() {
        process.destroy();
        try {
            if (!process.waitFor(30, TimeUnit.SECONDS)) {
                kill();
            }
            try (var files = Files.walk(folder)) {
                files.sorted((one, other) -> other.compareTo(one)).forEach(each -> each.toFile().delete());
            }
        } catch (IOException | InterruptedException broken) {
            throw new IllegalStateException(broken);
        }
    }

    /** Mints a token as an issuer would. */
    public static String tokenOf(String user) {
        return tokenOf(user, Map.of());
    }

    /** The same, with further claims. */
    public static String tokenOf(String user, Map<String, ?> claims) {
        Map<String, Object> all = new TreeMap<>(Map.of(
                "sub", user, "iss", "tests", "aud", "parley", "exp", System.currentTimeMillis() / 1000 + 3600));
        all.putAll(claims);
        String signed = encoded(new Gson().toJson(Map.of("alg", "HS256", "typ", "JWT")).getBytes(StandardCharsets.UTF_8))
                + "." + encoded(new Gson().toJson(all).getBytes(StandardCharsets.UTF_8));
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(SECRET.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
            return signed + "." + encoded(mac.doFinal(signed.getBytes(StandardCharsets.UTF_8)));
        } catch (java.security.GeneralSecurityException broken) {
            throw new IllegalStateException(broken);
        }
    }

    private static String encoded(byte[] part) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(part);
    }
}

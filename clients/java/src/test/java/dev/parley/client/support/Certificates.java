package dev.parley.client.support;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;

/** A certificate authority whose certificates are real: the JDK's keytool makes them. */
public record Certificates(Path folder, Path caFile) {

    private static final String PASSWORD = "changeit";

    /** A certificate with its key, PEM. */
    public record Pair(Path certificateFile, Path keyFile) {}

    public static Certificates authority(Path folder) throws IOException {
        Files.createDirectories(folder);
        keytool(folder, "-genkeypair", "-alias", "ca", "-keyalg", "EC", "-dname", "CN=tests", "-ext", "bc:c");
        return new Certificates(folder, keytool(folder, "-exportcert", "-alias", "ca", "-rfc", "-file", "ca.pem"));
    }

    /** Signs a certificate for this machine. */
    public Pair signed(String name) throws IOException, GeneralSecurityException {
        keytool(folder, "-genkeypair", "-alias", name, "-keyalg", "EC", "-dname", "CN=" + name);
        keytool(folder, "-certreq", "-alias", name, "-file", name + ".csr");
        Path certificate = keytool(folder, "-gencert", "-alias", "ca", "-infile", name + ".csr", "-rfc",
                "-ext", "san=ip:127.0.0.1", "-outfile", name + ".pem");
        KeyStore store = KeyStore.getInstance(folder.resolve("store.p12").toFile(), PASSWORD.toCharArray());
        byte[] key = store.getKey(name, PASSWORD.toCharArray()).getEncoded();
        String pem = "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n".formatted(
                Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key));
        return new Pair(certificate, Files.writeString(folder.resolve(name + "-key.pem"), pem));
    }

    /** Runs it in the folder. Returns the file that its last argument names. */
    private static Path keytool(Path folder, String... arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin", "keytool").toString(), arguments[0],
                "-keystore", "store.p12", "-storetype", "PKCS12", "-storepass", PASSWORD));
        command.addAll(List.of(arguments).subList(1, arguments.length));
        Process process = new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true).start();
        String said = new String(process.getInputStream().readAllBytes());
        if (process.onExit().join().exitValue() != 0) {
            throw new IllegalStateException(said);
        }
        return folder.resolve(arguments[arguments.length - 1]);
    }
}

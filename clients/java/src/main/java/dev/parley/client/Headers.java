package dev.parley.client;

import io.grpc.Metadata;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;

/** What calls say in metadata, besides the token. */
final class Headers {

    /** Nothing; like the others, it is read and never changed. */
    static final Metadata NONE = new Metadata();

    /** Tells a proxy, which does not see the request id, that it may send the call to another worker. */
    static final Metadata RETRY_IS_SAFE = of("parley-retry", "safe");

    private static final HexFormat HEX = HexFormat.of().withUpperCase();

    private Headers() {}

    /**
     * Returns what names the user whom a caller acts for.
     *
     * @throws IllegalArgumentException the name is empty, or UTF-8 cannot hold it
     */
    static Metadata naming(String user) {
        if (user.isEmpty()) {
            throw new IllegalArgumentException("the user to act for has no name: give what their tokens have as sub");
        }
        return of("parley-user", encoded(Texts.checked("user", user)));
    }

    /** Percent-encodes what is not visible ASCII; a URL's encoder would make plus signs of spaces. */
    private static String encoded(String name) {
        StringBuilder encoded = new StringBuilder();
        for (byte each : name.getBytes(StandardCharsets.UTF_8)) {
            boolean standsForItself = ' ' < each && each <= '~' && each != '%';
            encoded.append(standsForItself ? String.valueOf((char) each) : "%" + HEX.toHexDigits(each));
        }
        return encoded.toString();
    }

    private static Metadata of(String name, String value) {
        Metadata headers = new Metadata();
        headers.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value);
        return headers;
    }
}

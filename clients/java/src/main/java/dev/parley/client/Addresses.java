package dev.parley.client;

import java.util.regex.Pattern;

/** What an address says about where it leads. */
final class Addresses {

    private static final Pattern SCHEME = Pattern.compile("(dns|ipv4|ipv6):(?://[^/]*/)?(.*)");
    private static final Pattern PORT = Pattern.compile("(.*):\\d+");
    private static final Pattern LOOPBACK = Pattern.compile("localhost|127(\\.\\d{1,3}){3}|::1|(0{1,4}:){7}0{0,3}1");

    private Addresses() {}

    /**
     * Says whether an address, {@code host:port} or a gRPC target, leads to this machine only. An attacker who
     * reads a token can use it, so plaintext to another machine has to be asked for.
     */
    static boolean isOnThisMachine(String address) {
        if (address.startsWith("unix:") || address.startsWith("unix-abstract:")) {
            return true;
        }
        var schemed = SCHEME.matcher(address);
        String place = schemed.matches() ? schemed.group(2) : address;
        if (place.startsWith("[")) {
            return LOOPBACK.matcher(place.substring(1).split("]", 2)[0]).matches();
        }
        var ported = PORT.matcher(place);
        return LOOPBACK.matcher(place).matches() || ported.matches() && LOOPBACK.matcher(ported.group(1)).matches();
    }
}

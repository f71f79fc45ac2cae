package dev.parley.conformance;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberPolicy;
import com.google.gson.annotations.SerializedName;
import dev.parley.client.ParleyClient;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Plays the scenarios that all of Parley's clients have in common, as the README of clients/conformance says. The
 * environment's PARLEY_CONFORMANCE names the parameters.
 */
public final class Runner {

    private static final Gson JSON = new GsonBuilder()
            .setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE)
            .disableHtmlEscaping()
            .create();

    private record Place(String address, String token) {}

    private record Parameters(String scenarios, Map<String, Place> clients) {}

    private record Scenarios(List<Scenario> scenarios) {}

    record Scenario(String name, Map<String, Object> let, List<Step> steps) {}

    record Step(
            String call, String client, Map<String, Object> with, Map<String, Integer> until, boolean background,
            boolean eventually, String as, @SerializedName("wait") String awaited, Map<String, Object> expect) {}

    private record Line(String name, boolean ok, String why, long ms) {}

    private Runner() {}

    /** Plays all of them; no arguments. */
    public static void main(String[] arguments) throws IOException {
        Parameters parameters = read(System.getenv("PARLEY_CONFORMANCE"), Parameters.class);
        Map<String, ParleyClient> clients = new HashMap<>();
        for (Scenario scenario : read(parameters.scenarios(), Scenarios.class).scenarios()) {
            long beganNs = System.nanoTime();
            String why = Playing.whyItFails(
                    scenario, name -> clients.computeIfAbsent(name, each -> made(parameters.clients().get(each))));
            long ms = (System.nanoTime() - beganNs) / 1_000_000;
            System.out.println(JSON.toJson(new Line(scenario.name(), why.isEmpty(), why, ms)));
        }
        clients.values().forEach(ParleyClient::close);
        System.exit(0); // not waiting for what a scenario has left behind
    }

    private static ParleyClient made(Place place) {
        return ParleyClient.builder().address(place.address()).token(place.token()).plaintext().build();
    }

    private static <T> T read(String path, Class<T> kind) throws IOException {
        return JSON.fromJson(Files.readString(Path.of(path)), kind);
    }
}

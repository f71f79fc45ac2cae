package dev.parley.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.parley.client.support.LiveServer;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the README shows works. */
class ReadmeTest {

    private static final String CLASSPATH =
            System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));

    @TempDir
    private Path folder;

    private static List<String> blocks() throws IOException {
        return Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(Files.readString(Path.of("README.md")))
                .results().map(each -> each.group(1)).toList();
    }

    @Test
    void theQuickStartRunsAsItIs() throws IOException, InterruptedException {
        String address = ".address(\"%s\").token".formatted(LiveServer.fast().address());
        Path program = folder.resolve("Hello.java");
        Files.writeString(program, blocks().get(0).replace(".token", address));
        ProcessBuilder java = new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-cp", CLASSPATH,
                program.toString()).redirectErrorStream(true);
        java.environment().put("PARLEY_TOKEN", LiveServer.tokenOf("reader-of-the-readme"));
        Process process = java.start();
        String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(
                List.of("What is my name?", "My name is Ada.", "My name is Ada.", "What is my name?", "What is my name?"),
                said.lines().toList());
        assertEquals(0, process.waitFor());
    }

    /** Fails when a block uses what the library does not have. */
    @Test
    void theOtherBlocksCompile() throws IOException {
        StringBuilder source = new StringBuilder("""
                import dev.parley.client.*;
                import dev.parley.v1.*;
                import java.nio.file.Path;
                import java.util.List;
                import java.util.Map;
                abstract class Blocks {
                    ParleyClient parley; String text; String conversationId; String orderId; String cursor;
                    String requestId; String jobId; long seen;
                    Map<String, Integer> prices;
                    abstract void keep(ChatResponse answer);
                    abstract boolean ask(String name, String arguments);
                """);
        List<String> blocks = blocks().subList(1, blocks().size());
        assertEquals(11, blocks.size());
        for (int n = 0; n < blocks.size(); n++) {
            String kind = Pattern.compile("^(return|    return) ", Pattern.MULTILINE).matcher(blocks.get(n)).find() ? "Answer" : "void";
            source.append("%s block%d() {%n%s%n}%n".formatted(kind, n, blocks.get(n)));
        }
        Path file = folder.resolve("Blocks.java");
        Files.writeString(file, source.append('}').toString());
        assertEquals(0, ToolProvider.getSystemJavaCompiler().run(
                null, null, null, "-proc:none", "-d", folder.toString(), "-cp", CLASSPATH, file.toString()));
    }
}

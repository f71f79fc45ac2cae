package dev.parley.client;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.util.function.Supplier;

/** A file that holds a token. It is read again whenever it changes. */
final class TokenFile implements Supplier<String> {

    private record Seen(FileTime modified, long bytes, Object key) {}

    private final Path path;
    private Seen seen;
    private String token;

    TokenFile(Path path) {
        this.path = path;
    }

    @Override
    public synchronized String get() {
        try {
            var now = Files.readAttributes(path, BasicFileAttributes.class);
            var looksLike = new Seen(now.lastModifiedTime(), now.size(), now.fileKey());
            if (!looksLike.equals(seen)) {
                token = Files.readString(path);
                seen = looksLike;
            }
            return token;
        } catch (IOException unreadable) {
            throw new UncheckedIOException(unreadable);
        }
    }
}

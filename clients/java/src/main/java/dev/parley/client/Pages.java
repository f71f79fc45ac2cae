package dev.parley.client;

import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.function.Function;

/** Items of pages that are fetched as they are needed; every iteration starts with the first page. */
record Pages<P, T>(String firstToken, Function<String, P> page, Function<P, List<T>> items, Function<P, String> nextToken)
        implements Iterable<T> {

    @Override
    public Iterator<T> iterator() {
        return new Iterator<>() {
            private Iterator<T> current = List.<T>of().iterator();
            private String token = firstToken; // null: there are no more pages

            @Override
            public boolean hasNext() {
                while (!current.hasNext() && token != null) {
                    P fetched = page.apply(token);
                    current = items.apply(fetched).iterator();
                    String after = nextToken.apply(fetched);
                    token = after.isEmpty() ? null : after;
                }
                return current.hasNext();
            }

            @Override
            public T next() {
                if (!hasNext()) {
                    throw new NoSuchElementException("there are no more");
                }
                return current.next();
            }
        };
    }
}

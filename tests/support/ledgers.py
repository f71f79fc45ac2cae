"""Whether the ledger says what the turns say, as far as these are still there."""

import psycopg

_QUERY = """
SELECT owner_id, turned.turns, ledger.turns, turned.attempts, ledger.attempts, tokens, used,
    EXISTS (SELECT FROM deletion WHERE deletion.owner_id = turned.owner_id)
FROM (
    SELECT owner_id,
        count(*) FILTER (WHERE state IN ('COMPLETED', 'CANCELLED') AND attempt > 0) AS turns,
        sum(attempt - (state = 'RUNNING' AND NOT is_counted)::int) AS attempts,
        coalesce(sum((usage::json ->> 'input_tokens')::bigint), 0) AS tokens
    FROM turn LEFT JOIN (
        SELECT owner_id, conversation_id, turn_id AS id, usage
        FROM message WHERE role = 'ASSISTANT'
    ) AS answer USING (owner_id, conversation_id, id)
    GROUP BY 1
) AS turned FULL JOIN (
    SELECT owner_id, sum(turns) AS turns, sum(attempts) AS attempts, sum(input_tokens) AS used
    FROM usage_day GROUP BY 1
) AS ledger USING (owner_id)
WHERE owner_id NOT IN (SELECT owner_id FROM erasure)
"""
"""Of an owner that is erased, the day's usage goes, with what is used later on that day."""


def imbalances(url: str) -> list[str]:
    """Return what the ledger does not count once, an owner a line.

    A turn that was cancelled before it began is none.
    Turns and attempts are the same on both sides, unless something was deleted: then the ledger has
    more. Tokens are at least those of the answers.
    """
    found = []
    with psycopg.connect(url) as connection:
        for owner, *numbers, has_deleted in connection.execute(_QUERY):
            turns, counted, attempts, ended, tokens, used = (int(n or 0) for n in numbers)
            is_right = counted >= turns and ended >= attempts and used >= tokens
            if not has_deleted:
                is_right = is_right and (counted, ended) == (turns, attempts)
            if not is_right:
                found.append(
                    f"{owner}: {turns} turns, counted {counted}; {attempts} attempts, counted "
                    f"{ended}; {tokens} tokens of answers, counted {used}"
                )
    return found

-- Note that no call finds anything any more of what an erasure removes, and remove usage.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :request text

WITH begun AS (
  SELECT
    erasure.start_time AS start_time,
    CURRENT_TIMESTAMP AS now
  FROM erasure
  WHERE
    erasure.owner_id = :owner
    AND erasure.request_id = :request
    AND erasure.hide_time IS NULL
), usage_gone AS (
  DELETE FROM usage_day
  WHERE
    usage_day.owner_id = :owner
    AND usage_day.day <= (
      SELECT
        CAST(TIMEZONE('UTC', begun.now) AS DATE) AS timezone_1
      FROM begun
    )
), feed_gone AS (
  DELETE FROM turn_feed
  WHERE
    turn_feed.owner_id = :owner
    AND (
      SELECT
        begun.start_time
      FROM begun
    ) IS NOT NULL
    AND NOT (
      EXISTS(
        SELECT
          1
        FROM turn
        JOIN conversation
          ON conversation.owner_id = :owner AND conversation.id = turn.conversation_id
        WHERE
          turn.owner_id = :owner
          AND turn.id = turn_feed.turn_id
          AND (
            SELECT
              deletion.stage
            FROM deletion
            WHERE
              deletion.owner_id = :owner AND deletion.conversation_id = conversation.id
          ) IS DISTINCT FROM 'ERASING'
      )
    )
)
UPDATE erasure SET hide_time = COALESCE(erasure.hide_time, (
  SELECT
    begun.now
  FROM begun
))
WHERE
  erasure.owner_id = :owner AND erasure.request_id = :request
RETURNING erasure.owner_id, erasure.request_id, erasure.start_time, erasure.hide_time, erasure.end_time, erasure.conversations, erasure.messages, erasure.turns

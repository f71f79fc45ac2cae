-- Open the first turn of a conversation's queue, and take its lease; or say why not.
-- Rendered by `make gen`. DO NOT EDIT.
--
-- :owner uuid
-- :conversation uuid
-- :lease interval
-- :title_characters integer
-- :preview_characters integer

WITH head AS (
  SELECT
    turn_queue.turn_id AS turn_id,
    turn_queue.message AS message,
    turn_queue.expected_sequence AS expected_sequence,
    turn_queue.tenant AS tenant,
    turn_queue.tools AS tools
  FROM turn_queue
  WHERE
    turn_queue.owner_id = :owner AND turn_queue.conversation_id = :conversation
  ORDER BY
    turn_queue.position
  LIMIT 1
), held AS (
  SELECT
    conversation.last_sequence AS last_sequence,
    conversation.fence AS fence,
    conversation.open_turn_id AS open_turn_id,
    conversation.lease_expires_at AS lease_expires_at,
    conversation.update_time AS update_time,
    conversation.instructions AS instructions,
    conversation.agent AS agent,
    conversation.labels AS labels,
    conversation.queue_length AS queue_length,
    conversation.queue_number AS queue_number
  FROM conversation
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND conversation.delete_time IS NULL
  FOR NO KEY UPDATE SKIP LOCKED
), seen AS (
  SELECT
    conversation.queue_number AS queue_number,
    conversation.tenant_id AS tenant_id,
    conversation.user_id AS user_id,
    CURRENT_TIMESTAMP AS now,
    CURRENT_TIMESTAMP + :lease AS lease_end,
    CURRENT_TIMESTAMP + INTERVAL '5 SECONDS' AS soon
  FROM conversation
  WHERE
    conversation.owner_id = :owner AND conversation.id = :conversation
), tried AS (
  UPDATE turn SET agent = CASE
    WHEN (
      head.expected_sequence IS NULL OR head.expected_sequence = held.last_sequence
    )
    THEN COALESCE(NULLIF(turn.agent, ''), held.agent, '')
    ELSE turn.agent
  END, state = CASE
    WHEN (
      head.expected_sequence IS NULL OR head.expected_sequence = held.last_sequence
    )
    THEN 'RUNNING'
    ELSE 'FAILED'
  END, attempt = CASE
    WHEN (
      head.expected_sequence IS NULL OR head.expected_sequence = held.last_sequence
    )
    THEN 1
    ELSE 0
  END, user_sequence = CASE
    WHEN (
      head.expected_sequence IS NULL OR head.expected_sequence = held.last_sequence
    )
    THEN held.last_sequence + 1
    ELSE 0
  END, attempt_time = CASE
    WHEN (
      head.expected_sequence IS NULL OR head.expected_sequence = held.last_sequence
    )
    THEN seen.now
    ELSE NULL
  END, is_started = (
    head.expected_sequence IS NULL OR head.expected_sequence = held.last_sequence
  ), error_reason = CASE
    WHEN (
      head.expected_sequence IS NULL OR head.expected_sequence = held.last_sequence
    )
    THEN NULL
    ELSE 'SEQUENCE_MISMATCH'
  END, error_text = CASE
    WHEN (
      head.expected_sequence IS NULL OR head.expected_sequence = held.last_sequence
    )
    THEN NULL
    ELSE 'the conversation had another last sequence than expected when the turn was to begin'
  END, end_time = CASE
    WHEN (
      head.expected_sequence IS NULL OR head.expected_sequence = held.last_sequence
    )
    THEN NULL
    ELSE seen.now
  END
  FROM head, held, seen
  WHERE
    turn.owner_id = :owner
    AND turn.id = (
      SELECT
        head.turn_id
      FROM head
    )
    AND turn.id = head.turn_id
    AND turn.state = 'QUEUED'
    AND turn.user_sequence = 0
    AND (
      held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP
    )
    AND held.queue_number = seen.queue_number
  RETURNING turn.id, turn.user_sequence, turn.agent, turn.request_id
), begun AS (
  SELECT
    tried.id AS id,
    tried.user_sequence AS user_sequence
  FROM tried
  WHERE
    tried.user_sequence > 0
), said AS (
  INSERT INTO message (
    owner_id,
    conversation_id,
    sequence,
    turn_id,
    role,
    content
  )
  SELECT
    :owner,
    :conversation,
    begun.user_sequence AS user_sequence,
    begun.id AS id,
    'USER',
    head.message AS message
  FROM begun
  JOIN head
    ON TRUE
), taken AS (
  UPDATE conversation SET title = CASE
    WHEN (
      conversation.last_sequence = 0 AND conversation.title = ''
    )
    THEN LEFT((
      SELECT
        head.message
      FROM head
    ), :title_characters)
    ELSE conversation.title
  END, last_sequence = begun.user_sequence, preview = LEFT((
    SELECT
      head.message
    FROM head
  ), :preview_characters), fence = (
    conversation.fence + 1
  ), open_turn_id = begun.id, lease_expires_at = (
    CURRENT_TIMESTAMP + :lease
  ), update_time = CURRENT_TIMESTAMP
  FROM begun
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND begun.id IS NOT NULL
  RETURNING conversation.labels
), labelled AS (
  INSERT INTO conversation_label (
    owner_id,
    conversation_id,
    key,
    value,
    update_time
  )
  SELECT
    :owner,
    :conversation,
    pairs.key AS key,
    pairs.value AS value,
    CURRENT_TIMESTAMP AS now_1
  FROM taken
  JOIN LATERAL JSON_EACH_TEXT(CAST(taken.labels AS JSON)) AS pairs
    ON TRUE
  ON CONFLICT (owner_id, conversation_id, key) DO UPDATE SET value = excluded.value, update_time = excluded.update_time
), refused AS (
  SELECT
    tried.id AS id
  FROM tried
  WHERE
    tried.user_sequence = 0
), let_go AS (
  UPDATE conversation SET queue_length = (
    conversation.queue_length - 1
  ), queue_number = (
    conversation.queue_number + 1
  )
  WHERE
    conversation.owner_id = :owner
    AND conversation.id = :conversation
    AND (
      SELECT
        refused.id
      FROM refused
    ) IS NOT NULL
), later AS (
  UPDATE queue_due SET due_time = CASE
    WHEN (
      held.open_turn_id IS NOT NULL AND held.lease_expires_at IS NULL
    )
    THEN CAST('9999-12-31' AS TIMESTAMPTZ)
    WHEN (
      held.lease_expires_at > seen.now
    )
    THEN held.lease_expires_at
    WHEN (
      (
        SELECT
          begun.id
        FROM begun
      ) IS NOT NULL
    )
    THEN seen.lease_end
    ELSE seen.soon
  END
  FROM held, seen
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = :conversation
    AND held.queue_number = seen.queue_number
    AND (
      SELECT
        refused.id
      FROM refused
    ) IS NULL
), overrun AS (
  UPDATE turn SET state = 'FAILED', error_reason = 'TURN_ABANDONED', error_text = 'the worker that ran the turn went away', end_time = held.lease_expires_at
  FROM begun, held
  WHERE
    turn.owner_id = :owner
    AND turn.id = (
      SELECT
        held.open_turn_id
      FROM held
    )
    AND begun.id <> turn.id
  RETURNING turn.id, turn.attempt, turn.end_time, turn.agent, turn.is_counted, held.labels AS labels
), counted AS (
  INSERT INTO usage_day (
    owner_id,
    day,
    agent,
    labels_digest,
    slot,
    labels,
    attempts,
    failed_attempts
  )
  SELECT
    :owner,
    CAST((
      CURRENT_TIMESTAMP AT TIME ZONE 'UTC'
    ) AS DATE),
    overrun.agent AS agent,
    CAST(MD5(COALESCE(overrun.labels, '')) AS UUID) AS md5_1,
    GET_BYTE(UUID_SEND(:conversation), 15) & 15,
    overrun.labels AS labels,
    CASE WHEN overrun.is_counted THEN 0 ELSE 1 END,
    CASE WHEN overrun.is_counted THEN 0 ELSE 1 END
  FROM overrun
  ON CONFLICT (owner_id, day, agent, labels_digest, slot) DO UPDATE SET attempts = (
    usage_day.attempts + excluded.attempts
  ), failed_attempts = (
    usage_day.failed_attempts + excluded.failed_attempts
  )
), fed AS (
  INSERT INTO turn_feed (
    owner_id,
    xid,
    turn_id,
    tenant,
    attempt,
    error_reason,
    end_time
  )
  SELECT
    :owner,
    CAST(CAST(PG_CURRENT_XACT_ID() AS TEXT) AS BIGINT),
    overrun.id AS id,
    (
      SELECT
        head.tenant
      FROM head
    ),
    overrun.attempt AS attempt,
    'TURN_ABANDONED',
    overrun.end_time AS end_time
  FROM overrun
  WHERE
    (
      SELECT
        head.tenant
      FROM head
    ) IS NOT NULL
), refused_fed AS (
  INSERT INTO turn_feed (
    owner_id,
    xid,
    turn_id,
    tenant,
    attempt,
    error_reason,
    end_time
  )
  SELECT
    :owner,
    CAST(CAST(PG_CURRENT_XACT_ID() AS TEXT) AS BIGINT),
    refused.id AS id,
    (
      SELECT
        head.tenant
      FROM head
    ),
    0,
    'SEQUENCE_MISMATCH',
    CURRENT_TIMESTAMP AS now_2
  FROM refused
  WHERE
    (
      SELECT
        head.tenant
      FROM head
    ) IS NOT NULL
), removed AS (
  DELETE FROM turn_queue
  WHERE
    turn_queue.owner_id = :owner
    AND turn_queue.turn_id = (
      SELECT
        refused.id
      FROM refused
    )
), next_due AS (
  UPDATE queue_due SET due_time = CURRENT_TIMESTAMP, turns = (
    queue_due.turns - 1
  ), accept_time = COALESCE(
    (
      SELECT
        turn_queue.accept_time
      FROM turn_queue
      WHERE
        turn_queue.owner_id = :owner
        AND turn_queue.conversation_id = :conversation
        AND turn_queue.turn_id <> (
          SELECT
            refused.id
          FROM refused
        )
      ORDER BY
        turn_queue.position
      LIMIT 1
    ),
    queue_due.accept_time
  )
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = :conversation
    AND (
      SELECT
        refused.id
      FROM refused
    ) IS NOT NULL
    AND (
      SELECT
        held.queue_length
      FROM held
    ) > 1
), none_due AS (
  DELETE FROM queue_due
  WHERE
    queue_due.owner_id = :owner
    AND queue_due.conversation_id = :conversation
    AND (
      SELECT
        refused.id
      FROM refused
    ) IS NOT NULL
    AND (
      SELECT
        held.queue_length
      FROM held
    ) <= 1
)
SELECT
  held.queue_number = seen.queue_number AS is_current,
  held.open_turn_id IS NULL OR held.lease_expires_at <= CURRENT_TIMESTAMP AS is_free,
  held.fence,
  held.open_turn_id,
  held.instructions,
  seen.tenant_id,
  seen.user_id,
  head.turn_id,
  head.message,
  head.tools,
  tried.user_sequence,
  tried.agent,
  tried.request_id
FROM held
JOIN seen
  ON TRUE
LEFT OUTER JOIN head
  ON TRUE
LEFT OUTER JOIN tried
  ON TRUE

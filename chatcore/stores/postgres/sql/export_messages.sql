-- The messages of some sessions in the order in which they are read.
SELECT m.session_id, (SELECT row_to_json(d)::text FROM (SELECT
    m.message_id,
    CASE m.role WHEN 0 THEN 'user' ELSE 'assistant' END AS role,
    m.content,
    to_char(m.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\:MI\:SS.US"Z"') AS created_at
) AS d)
FROM chatcore.messages AS m
WHERE m.session_id = ANY (:ids) AND m.accepted_at >= CAST(:begin AS timestamptz) AND m.accepted_at < CAST(:end AS timestamptz)
ORDER BY m.session_id, m.accepted_at, m.message_id, m.role

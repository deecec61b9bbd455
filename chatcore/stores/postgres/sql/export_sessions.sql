-- The sessions that an export takes, each with what its document says of it.
SELECT s.id, (SELECT row_to_json(d)::text FROM (SELECT
    s.id AS session_id,
    s.bot,
    to_char(s.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\:MI\:SS.US"Z"') AS created_at,
    to_char(s.seen_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\:MI\:SS.US"Z"') AS seen_at,
    s.origin,
    s.page,
    s.client,
    s.visitor AS "user"
) AS d)
FROM chatcore.sessions AS s
WHERE (CAST(:session AS text) IS NULL OR s.id = :session) AND (CAST(:bot AS text) IS NULL OR s.bot = :bot)
AND (CAST(:user AS text) IS NULL OR s.visitor = :user)
AND (NOT :timed OR EXISTS (
    SELECT FROM chatcore.turns AS t
    WHERE t.session_id = s.id AND t.accepted_at >= CAST(:begin AS timestamptz) AND t.accepted_at < CAST(:end AS timestamptz)
))
ORDER BY s.id

-- How many sessions an export takes.
SELECT count(*) FROM chatcore.sessions AS s
WHERE (CAST(:session AS text) IS NULL OR s.id = :session) AND (CAST(:bot AS text) IS NULL OR s.bot = :bot)
AND (CAST(:user AS text) IS NULL OR s.visitor = :user)
AND (NOT :timed OR EXISTS (
    SELECT FROM chatcore.turns AS t
    WHERE t.session_id = s.id AND t.accepted_at >= CAST(:begin AS timestamptz) AND t.accepted_at < CAST(:end AS timestamptz)
))

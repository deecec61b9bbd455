-- Sessions with messages of one month that match, by their latest one there. `matches` is the number of messages that match;
-- it is `most` where there are more than are looked at.
WITH found AS MATERIALIZED (
    SELECT session_id, accepted_at FROM chatcore.messages
    WHERE accepted_at >= chatcore.moment(:begin_us) AND accepted_at < chatcore.moment(:end_us)
        AND chatcore.words(content) @@ chatcore.wanted(:words)
    LIMIT :most
), latest AS (
    SELECT session_id, max(accepted_at) AS at FROM found GROUP BY session_id
)
SELECT (SELECT count(*) FROM found) AS matches, chatcore.microseconds(shown.at) AS at_us, shown.session_id AS id
FROM (VALUES (1)) AS always
LEFT JOIN LATERAL (
    SELECT l.at, l.session_id FROM latest AS l JOIN chatcore.sessions AS s ON s.id = l.session_id
    WHERE (l.at, l.session_id) < (chatcore.moment(:before_us), CAST(:before_id AS text))
        AND (CAST(:bot AS text) IS NULL OR s.bot = :bot) AND (CAST(:origin AS text) IS NULL OR s.origin = :origin)
    ORDER BY l.at DESC, l.session_id DESC LIMIT :limit
) AS shown ON true
ORDER BY shown.at DESC, shown.session_id DESC

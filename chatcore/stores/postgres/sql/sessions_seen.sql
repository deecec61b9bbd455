-- Sessions by when they were last seen, the latest first; `most` are looked at. The last row, without an id, tells how many were,
-- and where the last of them stands.
WITH looked AS MATERIALIZED (
    SELECT seen_at, id, bot, origin FROM chatcore.sessions
    WHERE seen_at >= chatcore.moment(:begin_us) AND seen_at < chatcore.moment(:end_us)
        AND (seen_at, id) < (chatcore.moment(:before_us), CAST(:before_id AS text))
    ORDER BY seen_at DESC, id DESC LIMIT :most
), wanted AS (
    SELECT seen_at, id FROM looked
    WHERE (CAST(:bot AS text) IS NULL OR bot = :bot) AND (CAST(:origin AS text) IS NULL OR origin = :origin)
    ORDER BY seen_at DESC, id DESC LIMIT :limit
)
SELECT chatcore.microseconds(seen_at) AS at_us, id, 0 AS looked_at, NULL AS last_id FROM wanted
UNION ALL
SELECT chatcore.microseconds(seen_at), NULL, (SELECT count(*) FROM looked), id
FROM (SELECT seen_at, id FROM looked ORDER BY seen_at, id LIMIT 1) AS last
ORDER BY 1 DESC, 2 DESC NULLS LAST

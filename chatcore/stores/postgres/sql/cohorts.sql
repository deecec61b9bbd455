-- Sessions by how many messages they have in some time, with how many of them began in it and how many came back on a later day.
SELECT t.messages, count(*) AS sessions, count(*) FILTER (WHERE s.created_at >= chatcore.moment(:begin_us)) AS fresh,
    count(*) FILTER (
        WHERE CAST(t.latest AT TIME ZONE 'UTC' AS date) > CAST(s.created_at AT TIME ZONE 'UTC' AS date)
    ) AS returning
FROM (
    SELECT session_id, count(*) AS messages, max(accepted_at) AS latest FROM chatcore.turns
    WHERE accepted_at >= chatcore.moment(:begin_us) AND accepted_at < chatcore.moment(:end_us)
        AND (CAST(:bot AS text) IS NULL OR bot = :bot)
    GROUP BY session_id
) AS t
JOIN chatcore.sessions AS s ON s.id = t.session_id AND s.seen_at >= chatcore.moment(:begin_us)
GROUP BY t.messages

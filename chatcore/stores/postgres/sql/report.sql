-- What a report is made of, all of it as it stands at one moment: a row says which part it belongs to. Every instance adds to
-- rows of its own shard, so the shards are added up. The primary keys begin with the time, and a range of it is read.
WITH origins AS (
    SELECT name, sum(sessions)::bigint AS sessions, sum(messages)::bigint AS messages FROM chatcore.origins
    WHERE day >= :first_day AND day < :end AND (CAST(:bot AS text) IS NULL OR bot = :bot)
    GROUP BY name ORDER BY 3 DESC, name COLLATE "C" LIMIT :places
), pages AS (
    SELECT name, sum(sessions)::bigint AS sessions, sum(messages)::bigint AS messages FROM chatcore.pages
    WHERE day >= :first_day AND day < :end AND (CAST(:bot AS text) IS NULL OR bot = :bot)
    GROUP BY name ORDER BY 3 DESC, name COLLATE "C" LIMIT :places
)
SELECT 'figures' AS part, (hour - :begin) / :step AS slot, NULL AS name, sum(sessions)::bigint AS one,
    sum(messages)::bigint AS two, sum(replies)::bigint AS three, sum(errors)::bigint AS four,
    sum(feedback_up)::bigint AS five, sum(feedback_down)::bigint AS six
FROM chatcore.hours
WHERE hour >= :begin AND hour < :end AND (CAST(:bot AS text) IS NULL OR bot = :bot)
GROUP BY 2
UNION ALL
SELECT 'times', (hour - :begin) / :step, NULL, bucket, sum(count)::bigint, 0, 0, 0, 0
FROM chatcore.reply_times
WHERE hour >= :begin AND hour < :end AND (CAST(:bot AS text) IS NULL OR bot = :bot)
GROUP BY 2, bucket
UNION ALL
SELECT 'origins', 0, name, sessions, messages, 0, 0, 0, 0 FROM origins
UNION ALL
SELECT 'pages', 0, name, sessions, messages, 0, 0, 0, 0 FROM pages
UNION ALL
SELECT 'hours', hour / 3600 % 24, NULL, sum(messages)::bigint, 0, 0, 0, 0, 0
FROM chatcore.hours
WHERE hour >= :begin AND hour < :end AND (CAST(:bot AS text) IS NULL OR bot = :bot)
GROUP BY 2

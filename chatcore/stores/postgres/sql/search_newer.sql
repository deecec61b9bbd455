-- Which of some sessions have a later match than the one that was found, and so were told of before.
SELECT f.id
FROM jsonb_to_recordset(CAST(:found AS jsonb)) AS f(id text, at bigint)
JOIN LATERAL (
    SELECT bool_or(chatcore.words(m.content) @@ chatcore.wanted(:words)) AS matches FROM chatcore.messages AS m
    WHERE m.session_id = f.id AND m.accepted_at > chatcore.moment(f.at) AND m.accepted_at < chatcore.moment(:end_us)
) AS later ON later.matches

-- Turns of one month, the latest first, and whether their texts match: for words that so many messages have that the latest ones
-- are found by reading.
SELECT chatcore.microseconds(t.accepted_at) AS at_us, t.session_id AS id, coalesce(said.matches, false) AS matches
FROM (
    SELECT accepted_at, session_id, message_id, bot FROM chatcore.turns
    WHERE accepted_at >= chatcore.moment(:begin_us) AND accepted_at < chatcore.moment(:end_us)
        AND accepted_at <= chatcore.moment(:before_us)
        AND (accepted_at, session_id) < (chatcore.moment(:before_us), CAST(:before_id AS text))
    ORDER BY accepted_at DESC, session_id DESC LIMIT :most
) AS t
LEFT JOIN chatcore.sessions AS s ON s.id = t.session_id
LEFT JOIN LATERAL (
    SELECT bool_or(chatcore.words(m.content) @@ chatcore.wanted(:words)) AS matches FROM chatcore.messages AS m
    WHERE m.session_id = t.session_id AND m.accepted_at = t.accepted_at AND m.message_id = t.message_id
        AND (CAST(:bot AS text) IS NULL OR s.bot = :bot) AND (CAST(:origin AS text) IS NULL OR s.origin = :origin)
) AS said ON true
ORDER BY t.accepted_at DESC, t.session_id DESC

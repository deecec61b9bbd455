-- What a list shows of some sessions, with a piece of the text that matches where words were searched.
SELECT s.id, s.bot, s.origin, s.page, s.client, s.visitor, chatcore.microseconds(s.created_at) AS created_us,
    chatcore.microseconds(s.seen_at) AS seen_us, s.messages, s.replies, s.errors, s.feedback_up, s.feedback_down,
    said.piece, said.cut_before, said.cut_after
FROM jsonb_to_recordset(CAST(:found AS jsonb)) AS f(id text, at bigint)
JOIN chatcore.sessions AS s ON s.id = f.id
LEFT JOIN LATERAL (
    SELECT substr(content, begin, :length) AS piece, begin > 1 AS cut_before,
        begin + :length <= length(content) AS cut_after
    FROM (
        SELECT m.content, greatest(
            1,
            coalesce((
                SELECT min(nullif(regexp_instr(chatcore.plain(m.content), '\m' || chatcore.plain(term) || '\M'), 0))
                FROM jsonb_array_elements_text(CAST(:terms AS jsonb)) AS term
            ), 1) - :lead
        ) AS begin
        FROM chatcore.messages AS m
        WHERE m.session_id = f.id AND m.accepted_at = chatcore.moment(f.at)
            AND chatcore.words(m.content) @@ chatcore.wanted(:words)
        ORDER BY m.role DESC LIMIT 1
    ) AS placed
) AS said ON CAST(:words AS text) IS NOT NULL

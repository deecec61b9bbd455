-- The last messages of a session, those before a place where one is given; the latest first. How a turn went stands with both of
-- its messages: a reply without text has none.
SELECT chatcore.microseconds(m.accepted_at) AS accepted_us, CAST(m.message_id AS text) AS message_id, m.role, m.content,
    chatcore.microseconds(m.created_at) AS created_us, t.state, t.error_code, t.duration_ms, t.rating, t.comment
FROM (
    SELECT accepted_at, message_id, role, content, created_at FROM chatcore.messages
    WHERE session_id = :session AND accepted_at <= chatcore.moment(:accepted_us)
        AND (accepted_at, message_id, role) < (chatcore.moment(:accepted_us), CAST(:message AS uuid), CAST(:role AS smallint))
    ORDER BY accepted_at DESC, message_id DESC, role DESC LIMIT :most
) AS m
LEFT JOIN chatcore.turns AS t ON t.session_id = :session AND t.message_id = m.message_id
ORDER BY m.accepted_at DESC, m.message_id DESC, m.role DESC

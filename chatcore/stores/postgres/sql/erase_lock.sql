-- The session's row, made where there is none, before anything else: whoever writes for the session waits for it, and asks
-- afterwards whether the session was erased (migrations/0001_record.sql). Tells whether there was a row.
INSERT INTO chatcore.sessions AS x (id, bot, created_at, seen_at, origin, page, client)
VALUES (:id, '', now(), now(), '', '', '')
ON CONFLICT (id) DO UPDATE SET seen_at = x.seen_at
RETURNING xmax <> 0

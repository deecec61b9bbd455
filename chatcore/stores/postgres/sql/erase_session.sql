-- The session itself.
DELETE FROM chatcore.sessions WHERE id = :id

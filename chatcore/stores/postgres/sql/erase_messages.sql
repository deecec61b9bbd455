-- What was said.
DELETE FROM chatcore.messages WHERE session_id = :id

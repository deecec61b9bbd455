-- Its message ids.
DELETE FROM chatcore.turns WHERE session_id = :id

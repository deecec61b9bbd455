-- Entries of the audit log as their chain is made of them, from the one behind a number on.
SELECT number, chatcore.microseconds(at) AS at_us, actor, action, session_id, address, detail, key_id, hash
FROM chatcore.audit_log WHERE number > :after ORDER BY number LIMIT :most

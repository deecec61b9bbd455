-- The latest entries of the audit log before a number.
SELECT number, chatcore.microseconds(at) AS at_us, actor, action, session_id, address, detail
FROM chatcore.audit_log WHERE number < :before ORDER BY number DESC LIMIT :most

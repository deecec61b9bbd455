-- The last entry of the audit log.
SELECT number, hash FROM chatcore.audit_log ORDER BY number DESC LIMIT 1

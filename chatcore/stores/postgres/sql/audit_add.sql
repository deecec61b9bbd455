-- Adds an entry to the audit log.
INSERT INTO chatcore.audit_log (number, at, actor, action, session_id, address, detail, key_id, hash)
VALUES (
    :number, chatcore.moment(:at_us), :actor, :action, CAST(:session AS text), :address, CAST(:detail AS jsonb), :key_id,
    decode(:hash, 'hex')
)

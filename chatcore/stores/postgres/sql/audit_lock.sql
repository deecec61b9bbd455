-- Makes whoever adds to the audit log wait for whoever does so already, until that transaction ends.
SELECT pg_advisory_xact_lock(:lock)

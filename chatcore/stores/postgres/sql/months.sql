-- When the first and the last message were accepted.
SELECT chatcore.microseconds(min(accepted_at)) AS first_us, chatcore.microseconds(max(accepted_at)) AS last_us
FROM chatcore.turns

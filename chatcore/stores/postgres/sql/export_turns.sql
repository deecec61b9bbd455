-- How the turns of some sessions ended and were rated.
SELECT t.session_id, (SELECT row_to_json(d)::text FROM (SELECT
    t.message_id, t.state, t.error_code, t.duration_ms, t.rating, t.comment
) AS d)
FROM chatcore.turns AS t
WHERE t.session_id = ANY (:ids) AND t.accepted_at >= CAST(:begin AS timestamptz) AND t.accepted_at < CAST(:end AS timestamptz)
ORDER BY t.session_id, t.accepted_at, t.message_id

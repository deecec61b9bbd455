-- Writes entries of what happened, in one transaction: what many turns of the same few milliseconds did. Every count follows
-- from a row that changed, so that nothing is counted twice. Of one turn there is at most one entry of each kind, and they
-- happened in the order opened, closed, rated, released.
--
-- `run` and the positions say which of a server's entries these are. Where some were written before, nothing is done.
-- Gives {"position": …} with how far that run is written now, and {"taken": [[session, message], …]}: the turns of
-- `opened` that somebody else had opened before.
--
-- Sessions are locked first, in the order of their ids, and whether they were erased is asked afterwards: an erasure
-- locks the same row first, so one of the two sees what the other did. Then rows of the figures: those who add to the same
-- ones (`shard`) wait for each other before they touch any.
--
-- The plans are made once for each connection and must suit large tables also where they were made for small ones: the rows
-- of a table are looked up one by one. (A turn's row keeps its place, since whoever changes it has locked the session.)
CREATE FUNCTION chatcore.record(in_run uuid, in_first bigint, in_last bigint, in_shard smallint, entries jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET lock_timeout = '4s' SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    reached bigint;
    ids     text[];
    present text[];
    begun   text[];
    dead    text[];
    taken   jsonb;
BEGIN
    INSERT INTO chatcore.journals AS j (run, position, written_at) VALUES (in_run, in_last, clock_timestamp())
    ON CONFLICT (run) DO UPDATE SET position = excluded.position, written_at = excluded.written_at
    WHERE j.position < in_first;
    IF NOT FOUND THEN
        SELECT position INTO reached FROM chatcore.journals WHERE run = in_run;
        RETURN jsonb_build_object('position', reached, 'written', false);
    END IF;

    SELECT array_agg(DISTINCT s) INTO ids FROM jsonb_to_recordset(
        (entries -> 'opened') || (entries -> 'closed') || (entries -> 'rated')
    ) AS g(s text);
    SELECT array_agg(id) INTO present FROM (
        SELECT id FROM chatcore.sessions WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE
    ) AS locked;

    -- Sessions that begin. Where another instance was quicker by a moment, its row is locked and stays as it is.
    WITH given AS (
        SELECT DISTINCT ON (s) s, b, o, p, c, u, chatcore.moment(t) AS created,
            chatcore.moment(max(t) OVER (PARTITION BY s)) AS seen
        FROM jsonb_to_recordset(entries -> 'opened')
            AS g(s text, m uuid, b text, o text, p text, c text, u text, t bigint)
        WHERE present IS NULL OR s <> ALL (present)
        ORDER BY s, t, m
    ), made AS (
        INSERT INTO chatcore.sessions AS x (id, bot, created_at, seen_at, origin, page, client, visitor)
        SELECT s, b, created, seen, o, p, c, u FROM given ORDER BY s
        ON CONFLICT (id) DO UPDATE SET seen_at = x.seen_at
        RETURNING id, xmax = 0 AS fresh
    )
    SELECT array_agg(id) FILTER (WHERE fresh) INTO begun FROM made;

    -- A new statement, so that it sees what was erased while this waited for a lock.
    SELECT array_agg(session_id) INTO dead FROM chatcore.erased WHERE session_id = ANY (ids);
    IF dead IS NOT NULL THEN
        DELETE FROM chatcore.sessions WHERE id = ANY (dead);
    END IF;
    PERFORM pg_advisory_xact_lock(1667785060, in_shard);

    WITH opened AS MATERIALIZED (
        SELECT s, m, b, decode(d, 'hex') AS d, chatcore.moment(t) AS at, x, o, p, u,
            coalesce(s = ANY (begun), false) AND row_number() OVER (PARTITION BY s ORDER BY t, m) = 1 AS begins
        FROM jsonb_to_recordset(entries -> 'opened')
            AS g(s text, m uuid, b text, d text, t bigint, x text, o text, p text, u text)
        WHERE dead IS NULL OR s <> ALL (dead)
    ), closed AS MATERIALIZED (
        SELECT s, m, f, e, ms, k, chatcore.moment(t) AS at, x
        FROM jsonb_to_recordset(entries -> 'closed')
            AS g(s text, m uuid, f text, e text, ms integer, k smallint, t bigint, x text)
        WHERE dead IS NULL OR s <> ALL (dead)
    ), claimed AS (
        INSERT INTO chatcore.turns AS k
            (session_id, message_id, bot, digest, accepted_at, state, error_code, duration_ms)
        SELECT s, m, o.b, o.d, o.at, coalesce(c.f, 'open'), c.e, c.ms
        FROM opened AS o LEFT JOIN closed AS c USING (s, m) ORDER BY s, m
        ON CONFLICT (session_id, message_id) DO UPDATE
        SET state = excluded.state, error_code = excluded.error_code, duration_ms = excluded.duration_ms
        WHERE k.state = 'released'
        RETURNING session_id AS s, message_id AS m, bot, accepted_at
    ), ended AS (
        UPDATE chatcore.turns AS k SET state = g.f, error_code = g.e, duration_ms = g.ms
        FROM (
            SELECT c.*, t.place, t.state = 'cut' AS was_cut
            FROM closed AS c CROSS JOIN LATERAL (
                SELECT ctid AS place, state FROM chatcore.turns WHERE session_id = c.s AND message_id = c.m OFFSET 0
            ) AS t
            WHERE t.state IN ('open', 'cut')
        ) AS g
        WHERE k.ctid = g.place AND k.state IN ('open', 'cut')
        RETURNING g.s, g.m, k.bot, k.accepted_at, g.f, g.ms, g.k, g.at, g.x, g.was_cut
    ), done AS MATERIALIZED (
        SELECT s, m, k.bot, k.accepted_at, 1 AS message, o.begins::integer AS begins, o.o, o.p, o.u,
            o.at AS seen, o.x AS said, c.f, c.ms, c.k, c.at, c.x, 0 AS mended
        FROM claimed AS k JOIN opened AS o USING (s, m) LEFT JOIN closed AS c USING (s, m)
        UNION ALL
        SELECT s, m, bot, accepted_at, 0, 0, NULL, NULL, NULL, NULL, NULL, f, ms, k, at, x, was_cut::integer
        FROM ended
    ), kept AS (
        INSERT INTO chatcore.messages (session_id, accepted_at, message_id, role, created_at, content)
        SELECT s, accepted_at, m, 0, accepted_at, said FROM done WHERE message = 1
        UNION ALL
        SELECT s, accepted_at, m, 1, greatest(at, accepted_at), x FROM done WHERE x <> ''
        ON CONFLICT DO NOTHING
    ), in_sessions AS (
        UPDATE chatcore.sessions AS x
        SET messages = x.messages + n.messages, replies = x.replies + n.replies, errors = x.errors + n.errors,
            reply_ms = x.reply_ms + n.ms, seen_at = greatest(x.seen_at, n.seen), visitor = coalesce(x.visitor, n.u)
        FROM (
            SELECT s, sum(message) AS messages, count(*) FILTER (WHERE f <> 'error') AS replies,
                count(*) FILTER (WHERE f = 'error') - sum(mended) AS errors,
                coalesce(sum(ms) FILTER (WHERE f <> 'error'), 0) AS ms,
                max(seen) AS seen, (array_agg(u ORDER BY seen, m) FILTER (WHERE u IS NOT NULL))[1] AS u
            FROM done GROUP BY s
        ) AS n WHERE x.id = n.s
    ), in_hours AS (
        INSERT INTO chatcore.hours AS h (hour, bot, shard, sessions, messages, replies, errors)
        SELECT chatcore.hour_of(accepted_at), bot, in_shard, sum(begins), sum(message),
            count(*) FILTER (WHERE f <> 'error'), count(*) FILTER (WHERE f = 'error') - sum(mended)
        FROM done GROUP BY 1, 2
        ON CONFLICT (hour, bot, shard) DO UPDATE
        SET sessions = h.sessions + excluded.sessions, messages = h.messages + excluded.messages,
            replies = h.replies + excluded.replies, errors = h.errors + excluded.errors
    ), in_reply_times AS (
        INSERT INTO chatcore.reply_times AS r (hour, bot, bucket, shard, count)
        SELECT chatcore.hour_of(accepted_at), bot, k, in_shard, count(*)
        FROM done WHERE f <> 'error' GROUP BY 1, 2, 3
        ON CONFLICT (hour, bot, bucket, shard) DO UPDATE SET count = r.count + excluded.count
    ), origins_come AS (
        -- A name that is new has room while there are fewer than a thousand.
        SELECT day, bot, CASE
            WHEN known OR new <= 1000 - (
                SELECT count(DISTINCT name) FROM chatcore.origins AS y
                WHERE y.day = g.day AND y.bot = g.bot AND name NOT IN ('', '(other)')
            ) THEN o ELSE '(other)' END AS name, begins, messages
        FROM (
            SELECT g.*, row_number() OVER (PARTITION BY day, bot, known ORDER BY seen, o) AS new
            FROM (
                SELECT g.*, o = '' OR EXISTS (
                    SELECT FROM chatcore.origins AS y WHERE y.day = g.day AND y.bot = g.bot AND name = o
                ) AS known
                FROM (
                    SELECT chatcore.day_of(accepted_at) AS day, bot, o, min(seen) AS seen, sum(begins) AS begins,
                        count(*) AS messages
                    FROM done WHERE message = 1 GROUP BY 1, 2, 3
                ) AS g
            ) AS g
        ) AS g
    ), in_origins AS (
        INSERT INTO chatcore.origins AS y (day, bot, name, shard, sessions, messages)
        SELECT day, bot, name, in_shard, sum(begins), sum(messages) FROM origins_come GROUP BY 1, 2, 3
        ON CONFLICT (day, bot, name, shard) DO UPDATE
        SET sessions = y.sessions + excluded.sessions, messages = y.messages + excluded.messages
    ), pages_come AS (
        -- A name that is new has room while there are fewer than a thousand.
        SELECT day, bot, CASE
            WHEN known OR new <= 1000 - (
                SELECT count(DISTINCT name) FROM chatcore.pages AS y
                WHERE y.day = g.day AND y.bot = g.bot AND name NOT IN ('', '(other)')
            ) THEN p ELSE '(other)' END AS name, begins, messages
        FROM (
            SELECT g.*, row_number() OVER (PARTITION BY day, bot, known ORDER BY seen, p) AS new
            FROM (
                SELECT g.*, p = '' OR EXISTS (
                    SELECT FROM chatcore.pages AS y WHERE y.day = g.day AND y.bot = g.bot AND name = p
                ) AS known
                FROM (
                    SELECT chatcore.day_of(accepted_at) AS day, bot, p, min(seen) AS seen, sum(begins) AS begins,
                        count(*) AS messages
                    FROM done WHERE message = 1 GROUP BY 1, 2, 3
                ) AS g
            ) AS g
        ) AS g
    ), in_pages AS (
        INSERT INTO chatcore.pages AS y (day, bot, name, shard, sessions, messages)
        SELECT day, bot, name, in_shard, sum(begins), sum(messages) FROM pages_come GROUP BY 1, 2, 3
        ON CONFLICT (day, bot, name, shard) DO UPDATE
        SET sessions = y.sessions + excluded.sessions, messages = y.messages + excluded.messages
    )
    SELECT jsonb_agg(jsonb_build_array(s, m)) INTO taken
    FROM opened AS o WHERE NOT EXISTS (SELECT FROM claimed AS k WHERE k.s = o.s AND k.m = o.m);

    IF jsonb_array_length(entries -> 'rated') > 0 THEN
        WITH given AS (
            SELECT g.*, t.place, t.rating AS before
            FROM jsonb_to_recordset(entries -> 'rated') AS g(s text, m uuid, r text, c text) CROSS JOIN LATERAL (
                SELECT ctid AS place, rating FROM chatcore.turns WHERE session_id = g.s AND message_id = g.m OFFSET 0
            ) AS t
        ), rated AS (
            UPDATE chatcore.turns AS k SET rating = g.r, comment = g.c
            FROM given AS g WHERE k.ctid = g.place
            RETURNING g.s, k.bot, k.accepted_at,
                (g.r = 'up')::integer - coalesce((g.before = 'up')::integer, 0) AS up,
                (g.r = 'down')::integer - coalesce((g.before = 'down')::integer, 0) AS down
        ), counted AS (
            UPDATE chatcore.sessions AS x
            SET feedback_up = x.feedback_up + n.up, feedback_down = x.feedback_down + n.down
            FROM (SELECT s, sum(up) AS up, sum(down) AS down FROM rated GROUP BY s) AS n WHERE x.id = n.s
        )
        INSERT INTO chatcore.hours AS h (hour, bot, shard, feedback_up, feedback_down)
        SELECT chatcore.hour_of(accepted_at), bot, in_shard, sum(up), sum(down) FROM rated GROUP BY 1, 2
        ON CONFLICT (hour, bot, shard) DO UPDATE
        SET feedback_up = h.feedback_up + excluded.feedback_up, feedback_down = h.feedback_down + excluded.feedback_down;
    END IF;

    IF jsonb_array_length(entries -> 'released') > 0 THEN
        UPDATE chatcore.turns AS k SET state = 'released'
        FROM jsonb_to_recordset(entries -> 'released') AS g(s text, m uuid)
        WHERE k.session_id = g.s AND k.message_id = g.m;
    END IF;
    RETURN jsonb_build_object('position', in_last, 'written', true, 'taken', coalesce(taken, '[]'));
END
$$;

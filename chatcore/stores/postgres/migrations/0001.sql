-- The schema of PostgreSQL mode. All of it belongs to the role of DATABASE_ADMIN_URL; the role of DATABASE_URL is granted
-- what serving needs. Names are qualified everywhere, so that no search_path has to be set behind a pooler.
-- `hour` and `day` columns hold the second (Unix epoch, UTC) at which that hour or day begins.

CREATE TABLE chatcore.meta (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- One row a session, from its first accepted message until MESSAGE_RETENTION_DAYS after its last.
CREATE TABLE chatcore.sessions (
    id            text PRIMARY KEY,
    bot           text NOT NULL,
    created_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    origin        text NOT NULL,
    page          text NOT NULL,
    client        text NOT NULL,
    visitor       text,
    messages      integer NOT NULL DEFAULT 0,
    replies       integer NOT NULL DEFAULT 0,
    errors        integer NOT NULL DEFAULT 0,
    reply_ms      bigint NOT NULL DEFAULT 0,
    feedback_up   integer NOT NULL DEFAULT 0,
    feedback_down integer NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
CREATE INDEX sessions_seen ON chatcore.sessions (seen_at, id);

-- The claim of a message id: whoever inserts the row runs the message, and fixes when it was accepted. `digest` is a keyed
-- hash of the text. 'released': n8n received nothing, so the id may run again. 'cut': its instance ended without a word.
CREATE TABLE chatcore.turns (
    session_id  text NOT NULL,
    message_id  uuid NOT NULL,
    bot         text NOT NULL,
    digest      bytea NOT NULL,
    accepted_at timestamptz NOT NULL,
    state       text NOT NULL DEFAULT 'open'
                CHECK (state IN ('open', 'complete', 'stopped', 'error', 'released', 'cut')),
    error_code  text,
    duration_ms integer,
    rating      text CHECK (rating IN ('up', 'down')),
    comment     text,
    PRIMARY KEY (session_id, message_id)
) WITH (fillfactor = 80);
-- `state` is no part of it, so that closing a turn touches no index.
CREATE INDEX turns_accepted ON chatcore.turns (accepted_at) INCLUDE (session_id, bot);

-- Every message with its text, by the month in which its turn was accepted. Role 0 is the visitor's, 1 the reply.
-- The key is the order in which a session's messages are read.
CREATE TABLE chatcore.messages (
    session_id  text NOT NULL,
    accepted_at timestamptz NOT NULL,
    message_id  uuid NOT NULL,
    role        smallint NOT NULL CHECK (role IN (0, 1)),
    created_at  timestamptz NOT NULL,
    content     text NOT NULL,
    PRIMARY KEY (session_id, accepted_at, message_id, role)
) PARTITION BY RANGE (accepted_at);
CREATE TABLE chatcore.messages_other PARTITION OF chatcore.messages DEFAULT;
-- A month's matches are read newest first only where there are few; the index finds them (chatcore.words: the migration).
CREATE INDEX messages_words ON chatcore.messages USING gin (chatcore.words(content)) WITH (fastupdate = on);

-- Sessions that were erased: no later write brings them back.
CREATE TABLE chatcore.erased (
    session_id text PRIMARY KEY,
    erased_at  timestamptz NOT NULL
);
CREATE INDEX erased_at ON chatcore.erased (erased_at);

-- How far each run of a server has written its entries: what a lost connection leaves in doubt is written exactly once.
CREATE TABLE chatcore.journals (
    run        uuid PRIMARY KEY,
    position   bigint NOT NULL,
    written_at timestamptz NOT NULL
);

-- What happened in each hour. Holds no ids and outlives the rows above. Every instance adds to rows of its own `shard`,
-- so that none waits for another.
CREATE TABLE chatcore.hours (
    hour          bigint NOT NULL,
    bot           text NOT NULL,
    shard         smallint NOT NULL,
    sessions      bigint NOT NULL DEFAULT 0,
    messages      bigint NOT NULL DEFAULT 0,
    replies       bigint NOT NULL DEFAULT 0,
    errors        bigint NOT NULL DEFAULT 0,
    feedback_up   bigint NOT NULL DEFAULT 0,
    feedback_down bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (hour, bot, shard)
) WITH (fillfactor = 50);

-- How long replies that ended well took: counts by bucket (chatcore/analytics.py), in the hour of the message.
CREATE TABLE chatcore.reply_times (
    hour   bigint NOT NULL,
    bot    text NOT NULL,
    bucket smallint NOT NULL,
    shard  smallint NOT NULL,
    count  bigint NOT NULL,
    PRIMARY KEY (hour, bot, bucket, shard)
) WITH (fillfactor = 50);

-- Where messages came from. At most 1,000 names a day, the rest is '(other)'; '' where none was told.
CREATE TABLE chatcore.origins (
    day      bigint NOT NULL,
    bot      text NOT NULL,
    name     text NOT NULL,
    shard    smallint NOT NULL,
    sessions bigint NOT NULL,
    messages bigint NOT NULL,
    PRIMARY KEY (day, bot, name, shard)
) WITH (fillfactor = 50);

CREATE TABLE chatcore.pages (
    day      bigint NOT NULL,
    bot      text NOT NULL,
    name     text NOT NULL,
    shard    smallint NOT NULL,
    sessions bigint NOT NULL,
    messages bigint NOT NULL,
    PRIMARY KEY (day, bot, name, shard)
) WITH (fillfactor = 50);

-- Who read, searched, erased or exported what. The serving role may add and read entries, and nothing else. `hash` is an
-- HMAC over the entry and the hash before it; `key_id` tells which key made it. `address` is a keyed hash.
CREATE TABLE chatcore.audit_log (
    number     bigint PRIMARY KEY,
    at         timestamptz NOT NULL,
    actor      text NOT NULL,
    action     text NOT NULL,
    session_id text,
    address    text NOT NULL,
    detail     jsonb NOT NULL,
    key_id     text NOT NULL,
    hash       bytea NOT NULL
);
CREATE INDEX audit_log_session ON chatcore.audit_log (session_id) WHERE session_id IS NOT NULL;

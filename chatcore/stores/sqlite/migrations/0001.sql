-- Times are seconds since the Unix epoch, UTC; `…day` and `…hour` columns hold the second at which that day or hour
-- begins. No table holds a message's text, a visitor's address or a whole User-Agent.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Every message changes a row in most of these tables, so they have as few indexes as can be: an index is a page more to
-- write for every message, and the clean-up can do without.

-- One row a session, from its first accepted message until SESSION_RETENTION_DAYS after its last.
CREATE TABLE sessions (
    id            TEXT PRIMARY KEY,
    bot           TEXT NOT NULL,
    created_at    REAL NOT NULL,
    seen_at       REAL NOT NULL,
    origin        TEXT NOT NULL,
    page          TEXT NOT NULL,
    client        TEXT NOT NULL,
    messages      INTEGER NOT NULL DEFAULT 0,
    replies       INTEGER NOT NULL DEFAULT 0,
    errors        INTEGER NOT NULL DEFAULT 0,
    reply_ms      INTEGER NOT NULL DEFAULT 0,
    feedback_up   INTEGER NOT NULL DEFAULT 0,
    feedback_down INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The message ids of a day: who sends one again is not answered twice. `digest` is a keyed hash of the text.
CREATE TABLE turns (
    session_id  TEXT NOT NULL,
    message_id  TEXT NOT NULL,
    bot         TEXT NOT NULL,
    digest      BLOB NOT NULL,
    accepted_at REAL NOT NULL,
    open        INTEGER NOT NULL,
    rating      TEXT CHECK (rating IN ('up', 'down')),
    PRIMARY KEY (session_id, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX turns_open ON turns (accepted_at) WHERE open;

-- Sessions whose visitor had them erased: no later write brings them back.
CREATE TABLE erased (
    session_id TEXT PRIMARY KEY,
    erased_at  REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- Rate limits: a bucket that is full again at `until`, or (`used` not null) a window that ends then.
-- `key` is a keyed hash of what is limited.
CREATE TABLE limits (
    key   BLOB PRIMARY KEY,
    until REAL NOT NULL,
    used  INTEGER
) STRICT, WITHOUT ROWID;

-- What happened in each hour. Holds no ids and outlives the rows above.
CREATE TABLE hours (
    hour          INTEGER NOT NULL,
    bot           TEXT NOT NULL,
    sessions      INTEGER NOT NULL DEFAULT 0,
    messages      INTEGER NOT NULL DEFAULT 0,
    replies       INTEGER NOT NULL DEFAULT 0,
    errors        INTEGER NOT NULL DEFAULT 0,
    feedback_up   INTEGER NOT NULL DEFAULT 0,
    feedback_down INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hour, bot)
) STRICT, WITHOUT ROWID;

-- How long replies that ended well took: counts by bucket (chatcore/analytics.py), in the hour of the message.
CREATE TABLE reply_times (
    hour   INTEGER NOT NULL,
    bot    TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (hour, bot, bucket)
) STRICT, WITHOUT ROWID;

-- Where messages came from. At most 1,000 names a day, the rest is '(other)'; '' where none was told.
CREATE TABLE origins (
    day      INTEGER NOT NULL,
    bot      TEXT NOT NULL,
    name     TEXT NOT NULL,
    sessions INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (day, bot, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE pages (
    day      INTEGER NOT NULL,
    bot      TEXT NOT NULL,
    name     TEXT NOT NULL,
    sessions INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (day, bot, name)
) STRICT, WITHOUT ROWID;

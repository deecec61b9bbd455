-- Small functions that the tables and the writing need. {unaccent} is the schema that has the extension of that name.

-- What a text is searched by: its words without accents and endings of any language. Said to be immutable, which
-- unaccent is as long as nobody edits its rules; an index needs that. COST: it takes as long as reading many pages, so the
-- index is worth asking also for a common word.
CREATE FUNCTION chatcore.words(content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT COST 20000
AS $$ SELECT to_tsvector('pg_catalog.simple', {unaccent}.unaccent('{unaccent}.unaccent', left(content, 250000))) $$;

CREATE FUNCTION chatcore.wanted(words text) RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
AS $$ SELECT websearch_to_tsquery('pg_catalog.simple', {unaccent}.unaccent('{unaccent}.unaccent', words)) $$;

-- A text as its words are compared: no accents, lower case.
CREATE FUNCTION chatcore.plain(content text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
AS $$ SELECT lower({unaccent}.unaccent('{unaccent}.unaccent', left(content, 250000))) $$;

-- Microseconds since the Unix epoch as a moment, and back: exactly.
CREATE FUNCTION chatcore.moment(microseconds bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
AS $$ SELECT 'epoch'::timestamptz + microseconds * interval '1 microsecond' $$;

CREATE FUNCTION chatcore.microseconds(moment timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
AS $$ SELECT (extract(epoch FROM moment) * 1000000)::bigint $$;

CREATE FUNCTION chatcore.hour_of(moment timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
AS $$ SELECT floor(extract(epoch FROM moment) / 3600)::bigint * 3600 $$;

CREATE FUNCTION chatcore.day_of(moment timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
AS $$ SELECT floor(extract(epoch FROM moment) / 86400)::bigint * 86400 $$;

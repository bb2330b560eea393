-- Migrations that a binary must know to run on this schema (docs/adr/0044). Empty until a migration breaks older binaries; a binary
-- accepts all other migrations that it does not know.
CREATE TABLE needed_migrations (
    version bigint PRIMARY KEY,
    -- The first release that knows it, for the message.
    release text   NOT NULL
);

-- For a migration that binaries without the migration `needed` cannot work with: they may no longer start. Fails while one of them is
-- connected, with a code after which the migration is tried again.
CREATE FUNCTION need_migration(needed bigint, first_release text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    older bigint;
BEGIN
    -- Connections are named `SCHEMA SHARED/OWN`, with the newest migrations that the binary knows: shared ones are below 1000.
    SELECT count(*) INTO older FROM pg_stat_activity
    WHERE datname = current_database() AND split_part(application_name, ' ', 1) = current_schema()
      AND coalesce(substring(application_name FROM CASE WHEN needed < 1000 THEN ' (\d+)/\d+$' ELSE ' \d+/(\d+)$' END)::bigint, 0) < needed;
    IF older > 0 THEN
        RAISE EXCEPTION 'processes from before Flowmeter % still use the schema % (% connections): stop them first',
            first_release, current_schema(), older USING ERRCODE = 'object_in_use';
    END IF;
    INSERT INTO needed_migrations (version, release) VALUES (needed, first_release) ON CONFLICT DO NOTHING;
END $$;

-- A role for each service, which owns the schema of its name and can read no other. docker-compose.yml runs this at each start, as the
-- superuser: it makes what is missing, so an installation of an older version is brought up to date as well.
\set ON_ERROR_STOP on
\i /run/flowmeter/passwords.psql

SET client_min_messages = warning;

BEGIN;

CREATE TEMPORARY TABLE services (name text, password text) ON COMMIT DROP;
INSERT INTO services VALUES
    ('collector', :'collector_password'),
    ('aggregator', :'aggregator_password'),
    ('billing', :'billing_password'),
    ('alerts', :'alerts_password'),
    ('gateway', :'gateway_password');

SELECT format('CREATE ROLE %I', name) FROM services
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', name, password) FROM services \gexec
SELECT format('CREATE SCHEMA IF NOT EXISTS %I', name) FROM services \gexec
SELECT format('ALTER SCHEMA %I OWNER TO %I', name, name) FROM services \gexec

SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', current_database(), name) FROM services \gexec

-- Earlier versions had one role for all. A sequence that belongs to a column changes its owner with the table.
SELECT format('ALTER TABLE %s OWNER TO %I', pg_class.oid::regclass, name)
FROM services
JOIN pg_namespace ON nspname = name
JOIN pg_class ON relnamespace = pg_namespace.oid
WHERE pg_get_userbyid(relowner) <> name
  AND (relkind IN ('r', 'p', 'v', 'm')
       OR relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i'))) \gexec
SELECT format('ALTER ROUTINE %s OWNER TO %I', pg_proc.oid::regprocedure, name)
FROM services
JOIN pg_namespace ON nspname = name
JOIN pg_proc ON pronamespace = pg_namespace.oid
WHERE pg_get_userbyid(proowner) <> name \gexec

COMMIT;

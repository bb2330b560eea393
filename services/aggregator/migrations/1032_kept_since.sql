-- Since when all executions are kept: older months may have been dropped, and with them what their figures are made of.
CREATE TABLE executions_kept (
    one   boolean     PRIMARY KEY DEFAULT true CHECK (one),
    since timestamptz NOT NULL
);
INSERT INTO executions_kept (since) VALUES ('1970-01-01T00:00:00Z');

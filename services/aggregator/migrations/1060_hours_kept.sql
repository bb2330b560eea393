-- Since when figures by hour are kept: older ones were removed. Figures by day, workflow and period stay for ever.
CREATE TABLE hours_kept (
    one   boolean     PRIMARY KEY DEFAULT true CHECK (one),
    since timestamptz NOT NULL
);
INSERT INTO hours_kept (since) VALUES ('1970-01-01T00:00:00Z');

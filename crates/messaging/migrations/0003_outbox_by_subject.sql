-- Finds the earlier messages of a subject, for which later ones wait.
CREATE INDEX outbox_by_subject ON outbox (subject, id);

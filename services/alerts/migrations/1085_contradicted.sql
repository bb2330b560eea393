-- The operator is informed of sources whose own list contradicts what was pushed.
ALTER TABLE notices DROP CONSTRAINT notices_topic_check;
ALTER TABLE notices ADD CONSTRAINT notices_topic_check
    CHECK (topic IN ('gap', 'failing', 'recovered', 'loss', 'dead', 'report', 'drift', 'loop', 'contradicted'));

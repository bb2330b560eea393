-- The operator is told of workflows that seem to start themselves.
ALTER TABLE notices DROP CONSTRAINT notices_topic_check;
ALTER TABLE notices ADD CONSTRAINT notices_topic_check
    CHECK (topic IN ('gap', 'failing', 'recovered', 'loss', 'dead', 'report', 'drift', 'loop'));

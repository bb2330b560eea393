-- Publishing asks in each round which sources are behind. Those that were removed stay for ever, and hold nothing up.
CREATE INDEX sources_behind ON sources (complete_until) WHERE active AND complete_until IS DISTINCT FROM counted_until;

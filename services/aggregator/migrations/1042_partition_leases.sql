-- Who reads which partition of the executions topic. A lease only spares work: that nothing counts twice rests on the
-- locks of the recording transaction. All times are the database's, never the simulated clock's.
CREATE TABLE replicas (
    replica_id uuid        PRIMARY KEY,
    alive_until timestamptz NOT NULL
);
CREATE TABLE partition_leases (
    partition   integer     PRIMARY KEY,
    replica_id  uuid,
    leased_until timestamptz
);

-- When the limit check allowed an execution, by its slot of five seconds, as the source's hook says. The counted ones settle
-- their reservations. Kept for an hour: what is older was settled by the end of what is complete.
CREATE TABLE admitted (
    source_number integer NOT NULL,
    epoch         integer NOT NULL,
    execution_id  bigint  NOT NULL,
    slot          bigint  NOT NULL,
    PRIMARY KEY (source_number, epoch, execution_id)
);
CREATE INDEX admitted_by_slot ON admitted (slot);

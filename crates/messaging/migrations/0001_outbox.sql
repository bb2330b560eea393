-- What the service has decided to tell the world, written in the transaction that decided it.
-- A row is deleted once the broker has it.
CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject     text        NOT NULL,
    message_id  text        NOT NULL,
    payload     bytea       NOT NULL,
    traceparent text,
    occurred_at timestamptz NOT NULL,
    attempts    integer     NOT NULL DEFAULT 0,
    -- The machine's time, not the simulated one: it paces retries only.
    not_before  timestamptz NOT NULL DEFAULT now()
);

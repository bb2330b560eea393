-- Ids of many chunks in one statement, always by the key: a plan that was made for a small table would read all of a large
-- one. `place` is the chunk's place in the question, from 1.
CREATE FUNCTION recorded_in_chunks(sources integer[], epochs integer[], chunks bigint[])
RETURNS TABLE (place bigint, ids bigint[])
LANGUAGE sql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT asked.place, array_agg(execution_id)
    FROM unnest(sources, epochs, chunks) WITH ORDINALITY AS asked (source, epoch, chunk, place)
    JOIN executions ON executions.source_number = asked.source AND executions.epoch = asked.epoch
        AND execution_id BETWEEN asked.chunk << 16 AND (asked.chunk << 16) | 65535
    GROUP BY asked.place
$$;

CREATE FUNCTION crashed_in_chunks(sources integer[], epochs integer[], chunks bigint[])
RETURNS TABLE (place bigint, ids bigint[])
LANGUAGE sql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT asked.place, array_agg(execution_id)
    FROM unnest(sources, epochs, chunks) WITH ORDINALITY AS asked (source, epoch, chunk, place)
    JOIN executions ON executions.source_number = asked.source AND executions.epoch = asked.epoch
        AND execution_id BETWEEN asked.chunk << 16 AND (asked.chunk << 16) | 65535 AND status = 2
    GROUP BY asked.place
$$;

CREATE FUNCTION retired_in_chunks(sources integer[], epochs integer[], chunks bigint[])
RETURNS TABLE (place bigint, ids bytea)
LANGUAGE sql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT asked.place, retired_ids.ids
    FROM unnest(sources, epochs, chunks) WITH ORDINALITY AS asked (source, epoch, chunk, place)
    JOIN retired_ids ON retired_ids.source_number = asked.source AND retired_ids.epoch = asked.epoch
        AND retired_ids.chunk = asked.chunk
$$;

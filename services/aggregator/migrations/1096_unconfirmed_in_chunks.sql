-- As `crashed_in_chunks`: the ids of many chunks that no poll has shown yet, by their own index.
CREATE FUNCTION unconfirmed_in_chunks(sources integer[], epochs integer[], chunks bigint[])
RETURNS TABLE (place bigint, ids bigint[])
LANGUAGE sql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT asked.place, array_agg(execution_id)
    FROM unnest(sources, epochs, chunks) WITH ORDINALITY AS asked (source, epoch, chunk, place)
    JOIN executions ON executions.source_number = asked.source AND executions.epoch = asked.epoch
        AND execution_id BETWEEN asked.chunk << 16 AND (asked.chunk << 16) | 65535 AND NOT executions.confirmed
    GROUP BY asked.place
$$;

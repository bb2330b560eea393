-- The executions of each partition are in a stream of their own now, whose sequence begins again: one of the stream before
-- would never be reached.
UPDATE sources SET published_through = 0;

-- The operator is told of recipients that mail servers refuse. The names of the topics are the program's.
ALTER TABLE notices DROP CONSTRAINT notices_topic_check;
ALTER TABLE notices ADD CONSTRAINT notices_topic_check CHECK (topic ~ '^[a-z]+$');

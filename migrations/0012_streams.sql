-- How far each partition of a stream is taken in. It moves in the transaction of the messages it speaks of, and only from where its
-- writer found it: whoever has lost the partition finds it elsewhere, and stores nothing.
create table stream_offsets (
    stream      text collate "C" not null,
    topic       text collate "C" not null,
    partition   int not null,
    -- Which topic of that name: one that is deleted and made anew has another id. Nil where the brokers give none.
    topic_id    uuid not null,
    -- The first offset that is not taken in.
    next_offset bigint not null,
    -- The end of what can be read, and when somebody last looked.
    end_offset  bigint not null,
    looked_at   timestamptz not null default now(),
    primary key (stream, topic, partition)
);

-- How far each SQL source is read. It moves in the transaction of the messages it speaks of.
create table sources (
    name       text collate "C" primary key,
    -- A digest of the statement and its columns: with another one, reading begins anew.
    definition text not null,
    -- Of a cursor column: the greatest value that was read, as text.
    position   text,
    -- Of an xid cursor: the oldest transaction that had not ended when the rows were read, and in which cluster that was.
    oldest_xid text,
    cluster    text,
    -- Counts pulls, so that what a row says again later is told again.
    pulls      bigint not null default 0,
    -- The traits that the source ever gave: null is told for them when a person vanishes.
    traits     text[] not null default '{}',
    -- The last pull that came to its end: as of when, and what became of its rows.
    pulled_at  timestamptz,
    took_ms    bigint,
    rows       bigint,
    stored     bigint,
    refused    bigint,
    -- Pulls that failed since, and why the last one did.
    attempts   int not null default 0,
    error      text,
    retry_at   timestamptz
);

-- Of a source that is read whole each time: whom it told of, and a digest of what it said.
create table source_rows (
    source text collate "C" not null references sources (name) on delete cascade,
    key    text collate "C" not null,
    digest uuid not null,
    primary key (source, key)
);

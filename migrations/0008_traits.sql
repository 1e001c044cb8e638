-- Computed traits: an audience whose members carry a value. Its runs, memberships, schedules and log are those of audiences;
-- `entered` are those who got a value or another one, `exited` those whose value ceased to exist.

alter table audiences add column class text not null default 'audience' check (class in ('audience', 'trait'));
-- The keys under which a trait of several values tells; null where it is its own.
alter table audiences add column columns text[];

-- The values as last computed. A chunk covers 65,536 consecutive profile ids: their ids and values as one compressed
-- column, so that a person takes a few bytes, and only chunks with a change are written again.
create table trait_values (
    audience_id bigint not null references audiences,
    chunk       int not null check (chunk between 0 and 65535),
    values      bytea not null,
    primary key (audience_id, chunk)
);
alter table trait_values alter column values set storage external;

-- What a run tells, sealed with it: the values of everybody in the `entered` of its run and of its places in the log. Only appended to:
-- where the rows of a run name somebody twice, the later one counts. `digest` is SHA-256 of the values as they were sealed, and part of
-- the chain; `rewritten` that of what forgetting somebody left of them.
create table run_values (
    id        bigint generated always as identity primary key,
    run_id    bigint not null references runs,
    chunk     int not null check (chunk between 0 and 65535),
    values    bytea not null,
    digest    bytea not null,
    rewritten bytea
);
create index run_values_by_run on run_values (run_id, chunk);
alter table run_values alter column values set storage external;

-- The values of its run that a row of the log tells: those up to this row of `run_values`. Null where it tells none.
alter table deltas add column values_through bigint;

-- What the chain holds of them.
create function rollcall_sealed_values(run bigint, through bigint) returns bytea language sql stable as $$
    select sha256(string_agg(int8send(v.id) || int4send(v.chunk) || v.digest, '' order by v.id))
    from run_values v where v.run_id = run and v.id <= through
$$;

-- The chunks that a held run found, until a person has decided; without bytes where nobody has a value any more.
create table held_values (
    run_id bigint not null references runs,
    chunk  int not null check (chunk between 0 and 65535),
    values bytea not null,
    primary key (run_id, chunk)
);
alter table held_values alter column values set storage external;

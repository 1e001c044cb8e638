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

-- What a run tells, sealed with it: the values of everybody in the `entered` of its run and of its places in the log.
create table run_values (
    run_id bigint not null references runs,
    chunk  int not null check (chunk between 0 and 65535),
    values bytea not null,
    primary key (run_id, chunk)
);
alter table run_values alter column values set storage external;

-- The chunks that a held run found, until a person has decided; without bytes where nobody has a value any more.
create table held_values (
    run_id bigint not null references runs,
    chunk  int not null check (chunk between 0 and 65535),
    values bytea not null,
    primary key (run_id, chunk)
);
alter table held_values alter column values set storage external;

-- What we know of people: profiles, their identifiers, traits and events.
-- Every per-profile table carries profile_id, its distribution column on Citus.
-- `xid` is the watermark: rows newer than a stored snapshot are those with
--   xid >= pg_snapshot_xmin(prev) and not pg_visible_in_snapshot(xid, prev)
-- Never a timestamp or a sequence alone: commits happen out of order.

create sequence profile_ids as bigint minvalue 1 maxvalue 4294967295;

-- Ids are dense (a sequence value is drawn for a new profile only) and fit 32 bits: a set of them is one small bitmap.
create table profiles (
    id         bigint primary key check (id between 1 and 4294967295),
    traits     jsonb not null default '{}',
    created_at timestamptz not null default now(),
    xid        xid8 not null default pg_current_xact_id()
);

-- One row per (type, value): user_id, anonymous_id, email, … "Latest" is by added_at, then value (byte order).
create table identifiers (
    type       text collate "C" not null,
    value      text collate "C" not null,
    profile_id bigint not null,
    added_at   timestamptz not null,
    xid        xid8 not null default pg_current_xact_id(),
    primary key (type, value)
);
create index identifiers_by_profile on identifiers (profile_id, type, added_at desc, value) ;
create index identifiers_by_xid on identifiers (xid);

create table event_names (
    id   int generated always as identity primary key,
    name text collate "C" not null unique
);

-- Which number of which event stands in a typed column: promoted[slot] = events.number_<slot>.
create table promotions (
    name_id int not null references event_names,
    path    text[] not null,
    slot    smallint not null check (slot in (1, 2)),
    -- Whether the column is filled for every event stored; until then only writers heed it, evaluation does not.
    ready   boolean not null default true,
    primary key (name_id, slot),
    unique (name_id, path)
);

create table events (
    profile_id  bigint not null,
    name_id     int not null,
    occurred_at timestamptz not null,
    message_id  text collate "C" not null,
    source_id   text,
    properties  jsonb not null default '{}',
    context     jsonb not null default '{}',
    number_1    numeric,
    number_2    numeric,
    xid         xid8 not null default pg_current_xact_id()
) partition by range (occurred_at);
create index events_by_name on events (name_id, occurred_at) include (profile_id, number_1, number_2);
create index events_by_profile on events (profile_id, name_id, occurred_at);
create table events_default partition of events default;

-- A message counts once, however often it arrives: 128 bits of its id's SHA-256.
create table messages (
    digest uuid primary key
);

-- Calls that later capabilities act on; kept, so that nothing sent is lost.
create table groups (
    group_id text collate "C" primary key,
    traits   jsonb not null default '{}'
);
create table group_members (
    profile_id bigint not null,
    group_id   text collate "C" not null,
    primary key (profile_id, group_id)
);
create table aliases (
    message_id  text collate "C" not null,
    previous_id text collate "C" not null,
    user_id     text collate "C" not null,
    occurred_at timestamptz not null,
    xid         xid8 not null default pg_current_xact_id()
);

-- How far a file has been imported; advanced in the transaction that stores its messages.
create table imports (
    digest     text primary key,
    name       text not null,
    -- Messages and what was refused, from the first: several may stand on one line.
    records    bigint not null default 0,
    line       bigint not null default 0,
    bytes      bigint not null default 0,
    accepted   bigint not null default 0,
    repeated   bigint not null default 0,
    refused    bigint not null default 0,
    finished   boolean not null default false,
    updated_at timestamptz not null default now()
);

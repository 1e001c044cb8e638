-- Who is who: merges of profiles, the times of traits that decide a merge, people who are not to come back.

-- A trait's time is trait_times ->> name (microseconds since 1970), else traits_at: the newest. A removed trait keeps its time.
-- `merges` counts the profiles that this one took in.
alter table profiles
    add column traits_at timestamptz,
    add column trait_times jsonb,
    add column merges int not null default 0;

-- The id graph's log: profiles that are no more. Ids grow in the order of commits, since every writer of this table holds the
-- lock on identities until it commits. `into_id` is null where the profile was forgotten. No profile id is given twice.
create table merges (
    id        bigint generated always as identity primary key,
    from_id   bigint not null unique,
    into_id   bigint,
    reason    text not null check (reason in ('shared_identifier', 'alias', 'forgotten')),
    -- The identifier types that each had, which says under which audiences it can have been told.
    from_types text[] not null default '{}',
    into_types text[] not null default '{}',
    merged_at timestamptz not null default now(),
    xid       xid8 not null default pg_current_xact_id()
);
create index merges_by_into on merges (into_id);
create index merges_by_xid on merges (xid);

-- Which merges the run's snapshot has seen: those up to this id. What was sealed with the run is as of then.
create function rollcall_last_merge() returns bigint language sql stable
return (select coalesce(max(id), 0) from merges);
alter table runs add column last_merge bigint not null default rollcall_last_merge();
-- What was told is as of this merge: it follows them when it is next compared.
alter table told add column last_merge bigint not null default rollcall_last_merge();

-- What merges alone did to a membership before a run compared it, so that the runs can be undone exactly.
create table run_merges (
    run_id bigint primary key references runs on delete cascade,
    went   bytea not null,
    came   bytea not null
);
alter table run_merges alter column went set storage external, alter column came set storage external;

-- Identifiers that nothing is taken in of: a salted digest each, from which nobody can be read. `profile_id` is whose it is,
-- while that profile is there.
create table suppressions (
    digest        bytea primary key,
    profile_id    bigint,
    suppressed_at timestamptz not null default now()
);
create index suppressions_by_profile on suppressions (profile_id) where profile_id is not null;
create table suppression_salt (salt bytea not null);
insert into suppression_salt select sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));

-- People who asked to be forgotten. requested: nothing more is taken in. sealed: what was told true is told false, by the log.
-- told: every destination is told so far. erased: nothing is left but this row.
create table forgets (
    id           bigint generated always as identity primary key,
    profile_id   bigint not null,
    state        text not null default 'requested' check (state in ('requested', 'sealed', 'told', 'erased')),
    tombstone    boolean not null,
    requested_at timestamptz not null default now(),
    erased_at    timestamptz,
    -- Rows by table, before and after; no value of anybody.
    report       jsonb
);
create unique index forgets_open on forgets (profile_id) where state <> 'erased';

-- How far each destination has to be told before the identifiers may go.
create table forget_positions (
    forget_id      bigint not null references forgets,
    destination_id int not null references destinations,
    position       bigint not null,
    primary key (forget_id, destination_id)
);

-- A run whose records go out with a null value: the last word on somebody forgotten.
alter table runs add column tombstone boolean not null default false;

-- Runs that wait for a person, and what the configuration last said of each audience and destination.

-- 'sealed' and 'released' runs are accepted: the membership, what was told and the log go by them alone. A 'held' run has its
-- result and nothing else; a person makes it 'released' or 'discarded', the audience's next run makes it 'superseded'.
alter table runs
    add column state text not null default 'sealed' check (state in ('sealed', 'held', 'released', 'discarded', 'superseded')),
    -- Why it was held; kept after the decision.
    add column held_because text,
    add column decided_at timestamptz,
    -- What it found, until it is decided.
    add column held_members bytea,
    add check ((held_members is not null) = (state = 'held'));
alter table runs alter column held_members set storage external;
create unique index one_held_run on runs (audience_id) where state = 'held';

-- What a person has seen and confirmed with `apply`: the audience's next accepted run may change that much. It takes the row away.
create table confirmations (
    audience_id        bigint primary key references audiences,
    definition_version int not null,
    entered            bigint not null,
    exited             bigint not null,
    confirmed_at       timestamptz not null default clock_timestamp()
);

-- What the configuration last said, beside name and definition: schedule, destinations, guard. Null: nothing is known of it.
alter table audiences add column settings jsonb;

-- The same of destinations; a table of its own, since only the seal writes a destination's row. It holds no secret, and of
-- mappings a digest each.
create table destination_settings (
    name     text collate "C" primary key,
    settings jsonb not null
);

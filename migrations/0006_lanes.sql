-- A destination has two lanes, so that millions of changes do not hold up a few. Each is a row of `destinations` with a stream,
-- positions, a chain, a cursor and a transactional id of its own. The bulk lane's row is made when it is first needed.
alter table destinations add column lane text not null default 'live' check (lane in ('live', 'bulk'));
alter table destinations drop constraint destinations_name_key;
alter table destinations add unique (name, lane);

-- What is too much to be told at once, or the whole told again: told by the bulk lane, slice by slice.
-- The state is a person's to decide; what is left is in `backfill_rests`, which only the writers of the log touch. So pausing
-- never waits for a run, and never makes one fail.
create table backfills (
    id             bigint generated always as identity primary key,
    -- The row of the live lane, as in `told`.
    destination_id int not null references destinations,
    audience_id    bigint not null references audiences,
    kind           text not null check (kind in ('changes', 'resync', 'retry')),
    state          text not null default 'running' check (state in ('running', 'paused', 'cancelled', 'done')),
    created_at     timestamptz not null default clock_timestamp(),
    -- From when on its pace is measured (it was made or resumed), and what was done by then.
    since          timestamptz not null default clock_timestamp(),
    since_done     bigint not null default 0,
    finished_at    timestamptz
);
create unique index backfills_open on backfills (destination_id, audience_id, kind) where state in ('running', 'paused');
create index backfills_by_audience on backfills (destination_id, audience_id);

create table backfill_rests (
    backfill_id bigint primary key references backfills,
    -- All changes that it ever took in, and those that are not yet in the log.
    total       bigint not null,
    remaining   bigint not null,
    entered     bytea not null,
    exited      bytea not null,
    -- Changes a second, where that is limited.
    rate_limit  int check (rate_limit > 0),
    -- When its last slice was made, and where in the bulk lane's log it ends.
    sliced_at   timestamptz,
    ends_at     bigint not null default 0
);
alter table backfill_rests alter column entered set storage external, alter column exited set storage external;

-- A change is told only when the other lane is told up to `after_position`: the order of an audience's changes is kept.
alter table deltas add column after_position bigint not null default 0, add column backfill_id bigint references backfills;
create index deltas_by_backfill on deltas (backfill_id, from_position) where backfill_id is not null;

-- What became of a record in quarantine. Its row stays at its place in the log, as the account of that place:
--   open        told to nobody;
--   retried     told at `retried_position` of the bulk lane's log, as it was by then: the backfill's place there tells nothing else;
--   superseded  never told, as a later change of that person was.
alter table quarantine
    add column state text not null default 'open' check (state in ('open', 'retried', 'superseded')),
    -- The backfill to which it was given when somebody asked for it to be told again.
    add column backfill_id bigint references backfills,
    add column retried_position bigint check ((retried_position is not null) = (state = 'retried'));
create index quarantine_by_backfill on quarantine (backfill_id) where backfill_id is not null;
create index quarantine_retried on quarantine (retried_position) where retried_position is not null;

-- Where the audience's last change in each lane's log ends; and who was told true once and false since.
alter table told
    add column live_end bigint not null default 0,
    add column bulk_end bigint not null default 0,
    add column former bytea;
alter table told alter column former set storage external;
update told set live_end = coalesce(
    (select max(d.to_position) from deltas d join runs r on r.id = d.run_id
     where d.destination_id = told.destination_id and r.audience_id = told.audience_id), 0);

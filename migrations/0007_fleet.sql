-- For which tick a run was sealed, and at which try; null where a person asked. So that "each tick once" can be looked up.
alter table runs
    add column scheduled_for timestamptz,
    add column attempt int check (attempt > 0),
    add check ((scheduled_for is null) = (attempt is null));

-- When a message first came, by day: a message id is recognised for as long as `retention.message_ids` says. The table
-- grows at its end, so the smallest kind of index finds old days.
alter table messages add column came_on date not null default current_date;
create index messages_by_day on messages using brin (came_on);

-- When a work that one instance does for all was last begun.
create table upkeep (
    name     text primary key,
    begun_at timestamptz not null
);

-- Who asks for the log of a run, and whoever deletes runs.
create index deltas_by_run on deltas (run_id);
create index quarantine_by_run_alone on quarantine (run_id);

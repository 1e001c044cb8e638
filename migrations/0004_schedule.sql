-- The last tick of each audience that fired, and what became of it. States are named here as in the enum and the docs.

-- One row an audience, which only goes forward: (scheduled_for, attempt) grows, so a tick fires once even if a clock
-- runs backwards. `attempt` counts the tries since the last run that was done.
create table schedules (
    audience_id   bigint primary key references audiences,
    scheduled_for timestamptz not null,
    attempt       int not null check (attempt > 0),
    state         text not null check (state in ('running', 'done', 'failed')),
    -- Who runs it, by the name of its lease. When the lease has ended while it runs, another may take over.
    lease         text not null,
    retry_at      timestamptz check ((retry_at is not null) = (state = 'failed')),
    reason        text check ((reason is not null) = (state = 'failed')),
    fired_at      timestamptz not null default clock_timestamp(),
    finished_at   timestamptz check ((finished_at is null) = (state = 'running'))
);

-- Runs that failed, the latest of each audience: nothing of them was sealed. Those that succeeded are in `runs`.
create table failed_runs (
    id            bigint generated always as identity primary key,
    audience_id   bigint not null references audiences,
    -- The tick, and at which try; none where a person asked.
    scheduled_for timestamptz,
    attempt       int check ((attempt is null) = (scheduled_for is null)),
    evaluated_at  timestamptz not null,
    reason        text not null,
    -- Unknown where the instance that computed it went away.
    took_ms       bigint,
    failed_at     timestamptz not null default clock_timestamp()
);
create index failed_runs_by_audience on failed_runs (audience_id, id);

-- Whether a lease is in force that ends then. One that seems to last for more than a minute was granted before Postgres' clock was set
-- back: its holder, if it lives, renews it within seconds, and one that is dead must not keep it for as long as the clock was set back.
create function rollcall_is_in_force(expires_at timestamptz) returns boolean language sql volatile as
    $$ select expires_at > clock_timestamp() and expires_at < clock_timestamp() + interval '1 minute' $$;

-- All leases draw their epochs here: they grow, even for a lease whose row was deleted.
create sequence lease_epochs as bigint;

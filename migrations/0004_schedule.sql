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

-- All leases draw their epochs here: they grow, even for a lease whose row was deleted.
create sequence lease_epochs as bigint;

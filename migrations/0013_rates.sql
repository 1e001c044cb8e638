-- An audience's limit counts Identify events, and is what the configuration said last: so a changed one acts on open backfills too.
-- The limit of a backfill is now that of a resync which was given one of its own.
alter table audiences add column rate_limit bigint generated always as ((settings ->> 'rate_limit')::bigint) stored;
alter table backfill_rests alter column rate_limit type bigint;
update backfill_rests r set rate_limit = null from backfills b where b.id = r.backfill_id and b.kind = 'changes';

-- When the last slice of a limited backfill of this audience was made, and of how many Identify events it is.
alter table told add column sliced_at timestamptz, add column sliced_events bigint not null default 0;

-- Cancelled because its destination was taken from the audience: what was left of changes is told if it is given back.
alter table backfills add column withdrawn boolean not null default false;

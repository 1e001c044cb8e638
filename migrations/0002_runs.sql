-- Whom we mean, who is in, and what was told. States are named here as in the enums, the docs and the command line.

create table audiences (
    id             bigint generated always as identity primary key,
    key            text collate "C" not null unique,
    name           text not null,
    computation_id text not null unique,
    state          text not null default 'enabled' check (state in ('enabled', 'disabled', 'deleted')),
    created_at     timestamptz not null default now(),
    deleted_at     timestamptz
);

-- Definitions are never changed, only followed by the next version.
create table definitions (
    audience_id bigint not null references audiences,
    version     int not null,
    query       text not null,
    options     jsonb not null default '{}',
    created_at  timestamptz not null default now(),
    primary key (audience_id, version)
);

-- One evaluation of one audience. The bitmaps (portable roaring format) are the delta against the run before.
create table runs (
    id                 bigint generated always as identity primary key,
    audience_id        bigint not null references audiences,
    definition_version int not null,
    evaluated_at       timestamptz not null,
    sealed_at          timestamptz not null default clock_timestamp(),
    snapshot           text not null,
    members            bigint not null,
    entered_count      bigint not null,
    exited_count       bigint not null,
    entered            bytea not null,
    exited             bytea not null,
    evaluate_ms        bigint not null,
    -- Of a statement's rows, how many put nobody in, by why.
    passed_over        jsonb
);
create index runs_by_audience on runs (audience_id, id);
alter table runs alter column entered set storage external, alter column exited set storage external;

create table memberships (
    audience_id bigint primary key references audiences,
    run_id      bigint not null references runs,
    members     bytea not null
);
alter table memberships alter column members set storage external;

-- A destination is a stream of its own: positions [0, next_position) without a gap.
-- Only the seal writes this row: its transaction would fail on anyone else's update.
create table destinations (
    id            int generated always as identity primary key,
    name          text collate "C" not null unique,
    stream        uuid not null default gen_random_uuid(),
    next_position bigint not null default 0,
    chain         bytea not null default '\x',
    created_at    timestamptz not null default now()
);

-- How far a destination was delivered, and whether it may go on. Only `deliver` writes here.
-- cursor_position mirrors the committed cursor; under exactly_once it is advisory, the truth is in Kafka.
create table deliveries (
    destination_id  int primary key references destinations,
    -- The stream that the row is about: what is still to be written of an older one finds another stream here, and writes nothing.
    stream          uuid not null,
    -- Grows with each session that begins to deliver; only the latest may say what it found.
    claim           bigint not null default 0,
    cursor_position bigint not null default 0,
    -- Where the cursor topic ended before the stream's first transaction: none of its cursors stands before.
    cursor_from     bigint,
    state           text not null default 'live' check (state in ('live', 'halted')),
    halt_reason     text,
    halt_detail     text,
    updated_at      timestamptz not null default now()
);

-- What a destination was told of an audience, so the next run tells it the difference.
create table told (
    destination_id int not null references destinations,
    audience_id    bigint not null references audiences,
    run_id         bigint not null references runs,
    members        bytea not null,
    primary key (destination_id, audience_id)
);
alter table told alter column members set storage external;

-- The delta log. Position from_position + n is the n-th id: entered ascending, then exited ascending.
-- Bitmaps are null where they are the run's own. `chain` is a hash over this row and all before it. `nonce` is drawn for each row, so
-- that a database which went back to a backup never comes to the chain that was told, even where all else in the row is the same.
-- A run that changes nothing for a destination has no row here.
create table deltas (
    destination_id  int not null references destinations,
    from_position   bigint not null,
    to_position     bigint not null check (to_position > from_position),
    run_id          bigint not null references runs,
    mapping_version text not null,
    entered         bytea,
    exited          bytea,
    nonce           uuid not null,
    chain           bytea not null,
    primary key (destination_id, from_position)
);
alter table deltas alter column entered set storage external, alter column exited set storage external;

-- Records that can never be delivered: skipped by every later instance, their neighbours are not.
-- A change may be several Identify events (by ID Sync). `identity` says which, not its number: a merge that adds identities to the
-- person does not make the row speak of another one.
create table quarantine (
    id             bigint generated always as identity unique,
    destination_id int not null references destinations,
    position       bigint not null,
    mapping        text not null,
    run_id         bigint not null references runs,
    profile_id     bigint not null,
    -- Under which of the person's names it was to be told: the same wherever it is told again, see `Identity::digest`.
    identity       bigint not null,
    reason         text not null,
    detail         text not null,
    created_at     timestamptz not null default now(),
    primary key (destination_id, position, identity, mapping)
);
create index quarantine_by_run on quarantine (destination_id, run_id);

-- Which topics a stream was told to, by Kafka's topic id: written before the first record, so that a topic that was
-- deleted and created again is recognised. The cursor topic is among them.
create table delivery_topics (
    stream   uuid not null,
    topic    text collate "C" not null,
    topic_id uuid not null,
    primary key (stream, topic)
);

-- Streams that a new one took the place of, until a session has fenced them: an instance that was stopped in the middle of
-- a transaction must not commit it after the new stream was told.
create table retired_streams (
    stream      uuid primary key,
    destination text collate "C" not null
);

-- Who may work on what, for a while. Safety never depends on it: it keeps two instances from taking turns.
create table leases (
    name       text primary key,
    holder     uuid not null,
    epoch      bigint not null,
    expires_at timestamptz not null,
    -- Until then somebody waits for it: the holder ends what it is at and gives it back.
    asked_until timestamptz
);

-- What live sources sent that was refused: how often and why, never what. One row a reason, so it stays small.
create table refusals (
    -- The name of the write key; empty where none is asked for.
    source   text collate "C" not null,
    field    text collate "C" not null,
    reason   text collate "C" not null,
    messages bigint not null,
    -- Whether they are stored all the same, with another time than they name.
    is_stored boolean not null default false,
    first_at timestamptz not null default now(),
    last_at  timestamptz not null default now(),
    primary key (source, field, reason)
);

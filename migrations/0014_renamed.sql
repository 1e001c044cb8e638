-- People who are told under another identifier than before.

-- A moment (a snapshot's text): the changes of this part of the log go out under those identifiers alone that came since. They were
-- told under the others. Null: under all.
alter table deltas add column identified_since text;

-- `identifiers.xid` is from now on the transaction that gave the identifier to somebody; a merge, which moves it, leaves it as it is.

-- What is left is as of this merge, and follows those since when the next slice is taken.
alter table backfill_rests add column last_merge bigint not null default rollcall_last_merge();

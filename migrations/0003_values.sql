-- What a value means to a condition, where one expression cannot say it. The rules are those of docs/audience-language.md;
-- `audience::value` reads them in Rust, and property tests hold the two against each other.
-- None of these raises an error, whatever the text.

-- The number that a text wholly is.
create function rollcall_number(value text) returns numeric
language sql immutable strict parallel safe cost 5
return case
    when length(value) <= 64 and value ~ '^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$' then value::numeric
end;

-- The instant that a text in ISO 8601 is; UTC without a zone, digits past the microsecond are cut off.
create function rollcall_instant(value text) returns timestamptz
language plpgsql immutable strict parallel safe cost 20 as $$
declare
    shape text := translate(value, '123456789', '000000000');
    part text[];
    year int;
    month int;
    day int;
begin
    -- What programs write is recognised without a regular expression, many times faster; the rest is taken apart below.
    if shape in ('0000-00-00', '0000-00-00T00:00:00Z', '0000-00-00T00:00:00.000Z')
        and left(value, 4) <> '0000'
        and substr(value, 6, 2) collate "C" between '01' and '12'
        and substr(value, 9, 2) collate "C" between '01' and '28'
        and substr(value, 12, 2) collate "C" <= '23'
        and substr(value, 15, 2) collate "C" <= '59'
        and substr(value, 18, 2) collate "C" <= '59'
    then
        return (case when length(value) = 10 then value || 'T00:00:00Z' else value end)::timestamptz;
    end if;
    -- The longest is 2000-01-01T00:00:00.123456789+00:00.
    if length(value) not between 10 and 35 then
        return null;
    end if;
    part := regexp_match(value, '^([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])(?:[T ]([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{1,9}))?)?(?:Z|([+-])(0[0-9]|1[0-5])(?::?([0-5][0-9]))?)?)?$');
    if part is null then
        return null;
    end if;
    year := part[1];
    month := part[2];
    day := part[3];
    if year = 0 or day > (case
        when month in (4, 6, 9, 11) then 30
        when month <> 2 then 31
        when year % 4 = 0 and (year % 100 <> 0 or year % 400 = 0) then 29
        else 28
    end) then
        return null;
    end if;
    return (
        make_timestamp(year, month, day, coalesce(part[4], '0')::int, coalesce(part[5], '0')::int, coalesce(part[6], '0')::int)
        + rpad(left(coalesce(part[7], '0'), 6), 6, '0')::int * interval '1 microsecond'
        - case part[8] when '-' then -1 else 1 end
          * (coalesce(part[9], '0')::int * interval '1 hour' + coalesce(part[10], '0')::int * interval '1 minute')
    ) at time zone 'UTC';
end
$$;

-- An instant as text, the form in which it compares with text.
create function rollcall_instant_text(value timestamptz) returns text
language sql immutable strict parallel safe cost 5
as $$ select to_char(value at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

-- A set of profiles per identifier type: who has one. Kept up to date by the watermark, so that a tick need not read all
-- identifiers. A mere cache: rows may be deleted at any time, and are built anew in full.
-- Whoever deletes identifiers or gives them to another profile deletes the row of their type in the same transaction:
-- the watermark sees rows that came, not rows that went.
create table universes (
    id_type           text collate "C" primary key,
    snapshot          text not null,
    system_identifier bigint not null,
    members           bytea not null
);
alter table universes alter column members set storage external;

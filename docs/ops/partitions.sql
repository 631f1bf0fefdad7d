-- Outcomes and attempts in one partition a day, tried on PostgreSQL 15. See docs/scaling.md.
--
-- Ids are UUIDs of version 7: they begin with their time, so a range of ids is a range of days, and
-- the primary key can stay as it is. Ids that callers have chosen lie in the default partition.

-- The least id of a day, in UTC, of whatever process.
CREATE FUNCTION tasks_app_first_id(day date) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$
    SELECT rpad(lpad(to_hex((day - date '1970-01-01') * 86400000::bigint), 12, '0'), 32, '0')::uuid
$$;

-- Once, in a transaction of its own: what the table holds becomes its first partition, unmoved.
-- `key` is the column that holds an outcome's id, `primary_key` what the primary key becomes,
-- `first_day` the first one to have a partition: not before the day after tomorrow, wherever you are.
CREATE PROCEDURE tasks_app_partition(name text, key text, primary_key text, first_day date)
LANGUAGE plpgsql AS $$
DECLARE
    definitions text[];
    index_name text;
    definition text;
    column_name text;
BEGIN
    EXECUTE format('LOCK TABLE %I', name);
    SELECT array_agg(pg_get_indexdef(indexrelid)) INTO definitions
    FROM pg_index WHERE indrelid = name::regclass AND NOT indisprimary;
    FOR index_name IN SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
                      WHERE indrelid = name::regclass
    LOOP
        EXECUTE format('ALTER INDEX %I RENAME TO %I', index_name, left(index_name, 56) || '_before');
    END LOOP;
    EXECUTE format('ALTER TABLE %I RENAME TO %I', name, name || '_before');
    EXECUTE format(
        'CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING IDENTITY'
        ' INCLUDING STORAGE) PARTITION BY RANGE (%I)', name, name || '_before', key);
    EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (%s)', name, primary_key);
    FOREACH definition IN ARRAY definitions LOOP
        EXECUTE definition;
    END LOOP;
    FOR column_name IN SELECT attname FROM pg_attribute
                       WHERE attrelid = name::regclass AND attidentity <> ''
    LOOP
        -- Numbers go on where they were.
        EXECUTE format(
            'SELECT setval(pg_get_serial_sequence(%L, %L), nextval(pg_get_serial_sequence(%L, %L)))',
            name, column_name, name || '_before', column_name);
        EXECUTE format(
            'ALTER TABLE %I ALTER COLUMN %I DROP IDENTITY', name || '_before', column_name);
    END LOOP;
    EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', name || '_default', name);
    -- What a caller has named by an id of its own may lie beyond that day.
    EXECUTE format(
        'WITH moved AS (DELETE FROM %I WHERE %I >= %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
        name || '_before', key, tasks_app_first_id(first_day), name || '_default');
    IF primary_key <> 'id' THEN
        -- The wider one is built when the table is attached.
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', name || '_before', name || '_pkey_before');
    END IF;
    EXECUTE format(
        'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)',
        name, name || '_before', tasks_app_first_id(first_day));
END $$;

-- Each day, some days ahead: a place for a day's rows. Where it is missing they go to the default one,
-- and a day that has rows there can have no partition any more.
CREATE PROCEDURE tasks_app_add_day(name text, day date)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
        name || to_char(day, '_YYYYMMDD'), name,
        tasks_app_first_id(day), tasks_app_first_id(day + 1));
END $$;

-- Each day, in a transaction of its own: the rows of a partition go at once (`20261121`, `before`),
-- those with a reason to stay to the default one. What waits or runs stays, what has not succeeded,
-- and what ended later than `kept` ago. Attempts stay with their outcomes.
CREATE PROCEDURE tasks_app_drop_partition(suffix text, kept interval)
LANGUAGE plpgsql AS $$
DECLARE
    outcomes text := 'tasks_app_outcome_' || suffix;
    attempts text := 'tasks_app_attempt_' || suffix;
BEGIN
    -- Whoever writes is waited for, and makes others wait meanwhile: not for long.
    SET LOCAL lock_timeout = '2s';
    LOCK TABLE tasks_app_outcome, tasks_app_attempt IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('ALTER TABLE tasks_app_outcome DETACH PARTITION %I', outcomes);
    EXECUTE format('ALTER TABLE tasks_app_attempt DETACH PARTITION %I', attempts);
    EXECUTE format(
        'INSERT INTO tasks_app_outcome SELECT * FROM %I'
        ' WHERE state <> ''succeeded'' OR finished_at > now() - %L::interval', outcomes, kept);
    EXECUTE format(
        'INSERT INTO tasks_app_attempt SELECT attempt.* FROM %I AS attempt'
        ' JOIN tasks_app_outcome_default AS outcome ON outcome.id = attempt.outcome_id', attempts);
    EXECUTE format('DROP TABLE %I, %I', outcomes, attempts);
END $$;

-- After it, in transactions of their own: what other tables say of outcomes that are gone, of the days
-- before one.
CREATE PROCEDURE tasks_app_sweep(day date)
LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['cause', 'idempotencykey', 'repeat', 'subject'] LOOP
        EXECUTE format(
            'DELETE FROM %I AS about WHERE outcome_id < %L'
            ' AND NOT EXISTS (SELECT FROM tasks_app_outcome WHERE id = about.outcome_id)',
            'tasks_app_' || name, tasks_app_first_id(day));
        COMMIT;
    END LOOP;
END $$;

"""The queries of `storage.prepare`, in the order in which they run; each makes one table from the ones before.

Words: `file_row` is the row number in the source; a moment is all rows of one user with one timestamp. Nothing depends
on the order in which DuckDB happens to see rows: wherever order matters, an ORDER BY over a unique key decides.
"""

from __future__ import annotations

DEDUPLICATED = """
CREATE TABLE kept AS
SELECT * FROM raw
QUALIFY row_number() OVER (PARTITION BY user_id, item_id ORDER BY timestamp DESC, file_row DESC) = 1
"""
"""Of the rows of one (user, item) pair the last one."""

USERS_BY_ID = "SELECT DISTINCT user_id FROM raw ORDER BY user_id"

SPLIT_GIVEN = "CREATE TABLE divided AS SELECT * FROM kept"

SPLIT_PER_USER = """
CREATE TABLE divided AS
WITH moments AS (
    SELECT user_id, timestamp, count(*) AS size,
           coalesce(sum(count(*)) OVER (PARTITION BY user_id ORDER BY timestamp DESC
                                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS later,
           sum(count(*)) OVER (PARTITION BY user_id) AS total
    FROM kept GROUP BY user_id, timestamp
)
SELECT kept.* EXCLUDE (split),
       CASE WHEN later + size / 2 < round(total * $test_fraction) THEN 'test'
            WHEN later + size / 2 < round(total * ($test_fraction + $valid_fraction)) THEN 'valid'
            ELSE 'train' END AS split
FROM kept JOIN moments USING (user_id, timestamp)
"""
"""A moment goes where its middle row falls, counted from the user's end. For moments of one row this is the last
round(n * fraction) rows; a longer one is never divided, so a user's train rows are strictly earlier than the valid
rows, and those strictly earlier than the test rows."""

SPLIT_GLOBAL = """
CREATE TABLE divided AS
WITH ranked AS (
    SELECT timestamp, row_number() OVER (ORDER BY timestamp DESC, file_row DESC) AS place, count(*) OVER () AS total
    FROM kept
),
bounds AS (
    SELECT min(timestamp) FILTER (place <= round(total * ($test_fraction + $valid_fraction))) AS valid_from,
           min(timestamp) FILTER (place <= round(total * $test_fraction)) AS test_from
    FROM ranked
)
SELECT kept.* EXCLUDE (split),
       CASE WHEN timestamp >= test_from THEN 'test' WHEN timestamp >= valid_from THEN 'valid' ELSE 'train' END AS split
FROM kept, bounds
"""
"""One time line: the first row of a share gives its bound, and all rows of that second are on the later side."""

VOCABULARY = """
CREATE TABLE {table} AS
WITH firsts AS (
    SELECT {id}, min(timestamp) AS first_timestamp,
           CASE WHEN regexp_full_match({id}, '[0-9]{{1,30}}') THEN CAST({id} AS HUGEINT) END AS number
    FROM divided GROUP BY {id}
),
numeric AS (SELECT count(number) = count(*) AS all_numbers FROM firsts)
SELECT {id}, CAST(row_number() OVER (
           ORDER BY first_timestamp, CASE WHEN all_numbers THEN number END, {id}) AS INTEGER) AS {idx}
FROM firsts, numeric
"""
"""1.. in the order (first timestamp, raw id); raw ids compare as numbers where all of them are numbers."""

NUMBERED = """
CREATE TABLE numbered AS
WITH train_users AS (SELECT DISTINCT user_id FROM divided WHERE split = 'train'),
     train_items AS (SELECT DISTINCT item_id FROM divided WHERE split = 'train')
SELECT divided.*, user_idx, item_idx,
       user_id IN (FROM train_users) AND item_id IN (FROM train_items) AS not_cold
FROM divided JOIN users USING (user_id) JOIN items USING (item_id)
"""

HISTORY_ROWS = """
CREATE TABLE histories AS
SELECT user_idx,
       list(item_idx ORDER BY timestamp, file_row) AS items,
       list(label ORDER BY timestamp, file_row) AS labels
FROM numbered WHERE {eligible} GROUP BY user_idx
"""
"""Per user all rows that may stand in a history, oldest first; a row's history is a prefix of it, cut at its length."""

SAMPLES = """
CREATE TABLE samples AS
WITH counted AS (
    SELECT *, CAST(coalesce(sum(CASE WHEN {eligible} THEN 1 ELSE 0 END) OVER (
        PARTITION BY user_idx ORDER BY {order}), 0) AS BIGINT) AS earlier
    FROM numbered
)
SELECT user_id, item_id, user_idx, item_idx, label, timestamp, split, not_cold, file_row,
       CASE WHEN earlier = 0 THEN [] ELSE items[greatest(earlier - $max_history, 0) + 1 : earlier] END
           AS history_item_idx,
       CASE WHEN earlier = 0 THEN [] ELSE labels[greatest(earlier - $max_history, 0) + 1 : earlier] END
           AS history_label
FROM counted LEFT JOIN histories USING (user_idx)
"""
"""One prefix per row by the number of eligible earlier rows: no self-join, one list per user. The target is not in it,
since a pair (user, item) has one row."""

STRICTLY_EARLIER = "timestamp RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
EARLIER_IN_FILE = "timestamp, file_row ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"

SAMPLES_OF = """
SELECT user_id, item_id, user_idx, item_idx, label, timestamp, split, not_cold, history_item_idx, history_label
FROM samples WHERE split = $split ORDER BY timestamp, user_idx, item_idx, file_row
"""

INTERACTIONS = """
SELECT user_id, item_id, user_idx, item_idx, label, timestamp, split
FROM numbered ORDER BY timestamp, user_idx, item_idx, file_row
"""

ITEMS = """
SELECT item_idx, item_id, title, keywords FROM items JOIN raw_items USING (item_id) ORDER BY item_idx
"""

PER_SPLIT = """
SELECT split, count(*) AS rows, CAST(sum(label) AS BIGINT) AS positives, count(DISTINCT user_idx) AS users,
       count(DISTINCT item_idx) AS items, CAST(count(*) FILTER (not_cold) AS BIGINT) AS warm,
       min(timestamp) AS first_timestamp, max(timestamp) AS last_timestamp
FROM numbered GROUP BY split
"""

UAUC_USERS = """
SELECT count(*) FROM (
    SELECT user_idx FROM numbered WHERE split = 'test' GROUP BY user_idx HAVING min(label) < max(label)
)
"""
"""Users with both classes (and so at least two rows) among their test rows."""

"""The queries of `storage.prepare`, in the order in which they run; each makes one table from the ones before.

Words: `file_row` is the row number in the source; a moment is all rows of one user with one timestamp; `u` and `i` are
codes of raw ids that only these queries know. Nothing depends on the order in which DuckDB happens to see rows: wherever
order matters, an ORDER BY over a unique key decides.
"""

from __future__ import annotations

USERS_BY_ID = "SELECT DISTINCT user_id FROM raw ORDER BY user_id"

TOO_LATE = "DELETE FROM raw WHERE timestamp >= $before"

CODES = "CREATE TABLE {table} AS SELECT {id}, CAST(row_number() OVER () AS INTEGER) AS {code} FROM (SELECT DISTINCT {id} FROM raw)"

CODED = """
CREATE TABLE kept AS
SELECT u, i, label, timestamp, split, file_row
FROM raw JOIN user_codes USING (user_id) JOIN item_codes USING (item_id)
"""
"""Ids as integers: every later query moves a third of the bytes."""

REPEATED = """
CREATE TABLE repeated AS
WITH pairs AS (SELECT u, i FROM kept GROUP BY u, i HAVING count(*) > 1)
SELECT file_row, row_number() OVER (PARTITION BY u, i ORDER BY timestamp {order}, file_row {order}) AS place
FROM kept JOIN pairs USING (u, i)
"""
"""Rows of (user, item) pairs that occur more than once; the one with place 1 stays."""

DEDUPLICATED = "DELETE FROM kept WHERE file_row IN (SELECT file_row FROM repeated WHERE place > 1)"

RARE = """
DELETE FROM kept
WHERE u IN (SELECT u FROM kept GROUP BY u HAVING count(*) < $core)
   OR i IN (SELECT i FROM kept GROUP BY i HAVING count(*) < $core)
"""
"""One pass of the k-core: both counts are taken before any row goes."""

OUTSIDE = "DELETE FROM kept WHERE timestamp < $first OR timestamp >= $until"

SPLIT_GIVEN = "CREATE TABLE divided AS SELECT * FROM kept"

SPLIT_PER_USER = """
CREATE TABLE divided AS
WITH moments AS (
    SELECT u, timestamp, count(*) AS size,
           coalesce(sum(count(*)) OVER (PARTITION BY u ORDER BY timestamp DESC
                                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS later,
           sum(count(*)) OVER (PARTITION BY u) AS total
    FROM kept GROUP BY u, timestamp
)
SELECT kept.* EXCLUDE (split),
       CASE WHEN later + size / 2 < round(total * $test_fraction) THEN 'test'
            WHEN later + size / 2 < round(total * ($test_fraction + $valid_fraction)) THEN 'valid'
            ELSE 'train' END AS split
FROM kept JOIN moments USING (u, timestamp)
"""
"""A moment goes where its middle row falls, counted from the user's end. For moments of one row this is the last
round(n * fraction) rows; a longer one is never divided, so a user's train rows are strictly earlier than the valid
rows, and those strictly earlier than the test rows."""

GLOBAL_BOUNDS = """
WITH seconds AS (SELECT timestamp, count(*) AS size FROM kept WHERE timestamp >= $first GROUP BY timestamp),
counted AS (
    SELECT timestamp, sum(size) OVER (ORDER BY timestamp DESC) - size AS later, sum(size) OVER () AS total FROM seconds
)
SELECT min(timestamp) FILTER (later < round(total * ($test_fraction + $valid_fraction))),
       min(timestamp) FILTER (later < round(total * $test_fraction))
FROM counted
"""
"""One time line: the first row of a share gives its bound, and all rows of that second are on the later side."""

SPLIT_AT = """
CREATE TABLE divided AS
SELECT * EXCLUDE (split),
       CASE WHEN timestamp >= $test_from THEN 'test' WHEN timestamp >= $valid_from THEN 'valid' ELSE 'train' END AS split
FROM kept
"""

SPLIT_HALVED = """
CREATE TABLE divided AS
WITH late AS (
    SELECT file_row, row_number() OVER (ORDER BY timestamp, file_row) * 2 <= count(*) OVER () AS is_first_half
    FROM kept WHERE timestamp >= $valid_from
)
SELECT kept.* EXCLUDE (split),
       CASE is_first_half WHEN true THEN 'valid' WHEN false THEN 'test' ELSE 'train' END AS split
FROM kept LEFT JOIN late USING (file_row)
"""
"""The rows from `valid_from` on in two halves of equal size, which may divide a second."""

VOCABULARY = """
CREATE TABLE {table} AS
WITH firsts AS (
    SELECT {id}, {code}, first_timestamp,
           CASE WHEN regexp_full_match({id}, '[0-9]{{1,30}}') THEN CAST({id} AS HUGEINT) END AS number
    FROM (SELECT {code}, min(timestamp) AS first_timestamp FROM divided GROUP BY {code}) JOIN {codes} USING ({code})
),
numeric AS (SELECT count(number) = count(*) AS all_numbers FROM firsts)
SELECT {id}, {code}, CAST(row_number() OVER (
           ORDER BY first_timestamp, CASE WHEN all_numbers THEN number END, {id}) AS INTEGER) AS {idx}
FROM firsts, numeric
"""
"""1.. in the order (first timestamp, raw id); raw ids compare as numbers where all of them are numbers."""

KNOWN_BY_SNAPSHOT = """
CREATE TABLE known_{table} AS
WITH seen AS (SELECT {id}, snapshot, min(timestamp) AS first_timestamp FROM raw GROUP BY {id}, snapshot),
firsts AS (
    SELECT {id}, min(snapshot) AS snapshot, arg_min(first_timestamp, snapshot) AS first_timestamp,
           CASE WHEN regexp_full_match({id}, '[0-9]{{1,30}}') THEN CAST({id} AS HUGEINT) END AS number
    FROM seen GROUP BY {id}
),
numeric AS (SELECT snapshot, count(number) = count(*) AS all_numbers FROM firsts GROUP BY snapshot)
SELECT {id}, CAST(row_number() OVER (
           ORDER BY snapshot, first_timestamp, CASE WHEN all_numbers THEN number END, {id}) AS INTEGER) AS {idx}
FROM firsts JOIN numeric USING (snapshot)
"""
"""1.. in the order (snapshot, first timestamp in it, raw id) over all rows read: no later snapshot and no filter changes an
id. Raw ids compare as numbers where all that are new in their snapshot are numbers."""

KNOWN = "CREATE TABLE {table} AS SELECT {id}, {code}, {idx} FROM known_{table} LEFT JOIN {codes} USING ({id})"
"""In place of VOCABULARY; the code is null where no row was left."""

NUMBERED = """
CREATE TABLE numbered AS
WITH train_users AS (SELECT DISTINCT u FROM divided WHERE split = 'train'),
     train_items AS (SELECT DISTINCT i FROM divided WHERE split = 'train')
SELECT user_idx, item_idx, label, timestamp, split, file_row,
       u IN (FROM train_users) AND i IN (FROM train_items) AS not_cold
FROM divided JOIN users USING (u) JOIN items USING (i)
"""

HISTORY_ROWS = "SELECT item_idx, label FROM numbered WHERE {eligible} ORDER BY user_idx, timestamp, file_row"
"""All rows that may stand in a history, by user, oldest first: a row's history is a slice of this."""

HISTORY_STARTS = """
SELECT users.user_idx, count(numbered.user_idx) FROM users
LEFT JOIN (SELECT user_idx FROM numbered WHERE {eligible}) AS numbered USING (user_idx)
GROUP BY users.user_idx ORDER BY users.user_idx
"""

SAMPLES = """
CREATE TABLE samples AS
SELECT user_idx, item_idx, label, timestamp, split, not_cold, CAST({earlier} AS INTEGER) AS earlier
FROM numbered ORDER BY timestamp, user_idx, item_idx
"""
"""Each row with the number of rows of its user that may stand in its history. The target is never one of them, since a
pair (user, item) has one row."""

STRICTLY_EARLIER = """
(sum(CASE WHEN {eligible} THEN 1 ELSE 0 END) OVER (PARTITION BY user_idx ORDER BY timestamp)
 - sum(CASE WHEN {eligible} THEN 1 ELSE 0 END) OVER (PARTITION BY user_idx, timestamp))
"""
"""Up to and with this moment, less this moment."""
EARLIER_IN_FILE = """
coalesce(sum(CASE WHEN {eligible} THEN 1 ELSE 0 END) OVER (PARTITION BY user_idx ORDER BY timestamp, file_row
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
"""

ROWS_IN_ORDER = "SELECT user_idx, item_idx, label, timestamp, split, not_cold, earlier FROM samples"

ITEMS = """
SELECT item_idx, item_id, title, keywords FROM items JOIN raw_items USING (item_id) ORDER BY item_idx
"""

DESCRIPTIONS = """
SELECT item_idx, description FROM items JOIN raw_items USING (item_id) WHERE description <> '' ORDER BY item_idx
"""

WITH_KEYWORDS = "SELECT count(*) FROM items JOIN raw_items USING (item_id) WHERE keywords <> ''"

PER_SPLIT = """
SELECT split, count(*) AS rows, CAST(sum(label) AS BIGINT) AS positives, count(DISTINCT user_idx) AS users,
       count(DISTINCT item_idx) AS items, CAST(count(*) FILTER (not_cold) AS BIGINT) AS warm,
       min(timestamp) AS first_timestamp, max(timestamp) AS last_timestamp
FROM numbered GROUP BY split
"""

USER_LABELS = """
CREATE TABLE user_labels AS
SELECT user_idx, split, min(label) AS low, max(label) AS high FROM numbered GROUP BY user_idx, split
"""

CLASSES_PER_SPLIT = """
SELECT split, count(*) FILTER (low < high) AS both_classes, count(*) FILTER (low = high) AS one_class
FROM user_labels GROUP BY split
"""
"""Users with both classes (and so at least two rows) and users with one, among their rows of the split."""

ONE_CLASS = "SELECT count(*) FROM (SELECT user_idx FROM user_labels GROUP BY user_idx HAVING min(low) = max(high))"

BURSTS = """
SELECT CAST(coalesce(sum(n), 0) AS BIGINT), coalesce(max(n), 1)
FROM (SELECT count(*) AS n FROM numbered GROUP BY user_idx, timestamp HAVING n > 1)
"""
"""Rows that share their second with another row of the same user, and the most of them in one second."""

WITH_ROWS = "SELECT count(DISTINCT user_idx), count(DISTINCT item_idx) FROM numbered"

HISTORY_LENGTHS = """
SELECT split, quantile_disc(length, [0.25, 0.5, 0.75]), {counts}
FROM (SELECT split, least(earlier, $max_history) AS length FROM samples) GROUP BY split
"""

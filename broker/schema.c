/* schema.c - the journal's tables, version SCHEMA_VERSION. docs/JOURNAL.md says in prose what the rows promise.
 * A change here is a new version: raise SCHEMA_VERSION and add a step to schema_step[]; released steps are never edited. */
#include "broker/schema.h"

const char *const schema_step[SCHEMA_VERSION] = {
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;\n"
    "CREATE TABLE job (\n"
    "    id              INTEGER PRIMARY KEY AUTOINCREMENT,\n"          /* never again the same, even when the highest is forgotten */
    "    key             BLOB NOT NULL UNIQUE,\n"                       /* 16 bytes, the client's */
    "    name            TEXT NOT NULL,\n"
    "    model           TEXT NOT NULL,\n"                              /* what an empty model means in this job; '' until its first lease */
    "    n_tasks         INTEGER NOT NULL,\n"
    "    created_wall_ms INTEGER NOT NULL,\n"
    "    changed_wall_ms INTEGER NOT NULL,\n"
    "    canceled        INTEGER NOT NULL\n"
    ");\n"
    "CREATE TABLE batch (\n"                                            /* one SUBMIT */
    "    id      INTEGER PRIMARY KEY,\n"                                /* job << 20 | first_task */
    "    n_tasks INTEGER NOT NULL,\n"
    "    sha256  BLOB NOT NULL\n"
    ");\n"
    "CREATE TABLE item (\n"                                             /* n_images tasks that differ in the seed */
    "    id       INTEGER PRIMARY KEY,\n"                               /* job << 20 | first task */
    "    n_images INTEGER NOT NULL,\n"
    "    bytes    BLOB NOT NULL,\n"
    "    crc      INTEGER NOT NULL\n"
    ");\n"
    "CREATE TABLE task (\n"                                             /* no row: QUEUED, never leased */
    "    id                INTEGER PRIMARY KEY,\n"                      /* job << 20 | index */
    "    state             INTEGER NOT NULL,\n"
    "    seq               INTEGER NOT NULL,\n"                         /* of its last event; the cursor of EVENTS */
    "    epoch             INTEGER NOT NULL,\n"                         /* of its last lease */
    "    leases            INTEGER NOT NULL,\n"
    "    crashes           INTEGER NOT NULL,\n"
    "    transients        INTEGER NOT NULL,\n"
    "    nans              INTEGER NOT NULL,\n"
    "    took_ms           INTEGER NOT NULL,\n"
    "    collected_wall_ms INTEGER NOT NULL,\n"
    "    worker            TEXT NOT NULL,\n"
    "    error             TEXT NOT NULL,\n"
    "    parts             BLOB NOT NULL,\n"                            /* n * (kind u8, size u64 little endian, sha256) */
    "    crc               INTEGER NOT NULL\n"
    ");\n",
    /* 2: whose share a job takes */
    "ALTER TABLE job ADD COLUMN client TEXT NOT NULL DEFAULT '';\n"
    "ALTER TABLE job ADD COLUMN job_class INTEGER NOT NULL DEFAULT 2;\n",      /* enum job_class */
    /* 3: small results are rows; every row has its checksum (row_crc: journal_db.c) */
    "CREATE TABLE result (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL, crc INTEGER NOT NULL);\n"
    "ALTER TABLE task ADD COLUMN home0 INTEGER NOT NULL DEFAULT 0;\n"          /* of its parts: the result's id, 0 = a file */
    "ALTER TABLE task ADD COLUMN home1 INTEGER NOT NULL DEFAULT 0;\n"
    "ALTER TABLE job ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;\n"
    "UPDATE job SET crc = row_crc(id, key, name, model, n_tasks, created_wall_ms, changed_wall_ms, canceled, client, job_class);\n"
    "ALTER TABLE batch ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;\n"
    "UPDATE batch SET crc = row_crc(id, n_tasks, sha256);\n"
    "ALTER TABLE meta ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;\n"
    "UPDATE meta SET crc = row_crc(name, value);\n",
    /* 4: deadlines; what people decided of clients and workers */
    "ALTER TABLE job ADD COLUMN deadline_ms INTEGER NOT NULL DEFAULT 0;\n"    /* after created_wall_ms; 0: none */
    "UPDATE job SET crc = row_crc(id, key, name, model, n_tasks, created_wall_ms, changed_wall_ms, canceled, client, job_class, deadline_ms);\n"
    "CREATE TABLE setting (kind INTEGER NOT NULL, name TEXT NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;\n",
};

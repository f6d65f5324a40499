/* journal_rows.c - rows out of the journal's file: all of them at the start, a result's bytes later.
 * Believes: J8 of journal.h - what fails its checksum or is out of every range is damaged, and is named; it is never handed on.
 * Not here: writing (journal_db.c), whether rows contradict each other (restore.c). */
#include "broker/journal_db.h"

#include <endian.h>
#include <string.h>

#include "base/hash.h"

static struct str col_text(sqlite3_stmt *s, int at)
{
    const char *p = (const char *)sqlite3_column_text(s, at);

    return (struct str){p, p ? (size_t)sqlite3_column_bytes(s, at) : 0};
}

static int damaged(const struct db *d, const char *what, uint64_t id, struct err *e)
{
    return err_set(e, ERR_FORMAT, "%s/journal.db: %s %llu is damaged; restore a copy of the folder", d->dir, what, (unsigned long long)id);
}

static bool col_blob(sqlite3_stmt *s, int at, uint8_t *out, size_t len)
{
    if ((size_t)sqlite3_column_bytes(s, at) != len) return false;
    memcpy(out, sqlite3_column_blob(s, at), len);
    return true;
}

static int load_job(struct db *d, sqlite3_stmt *s, const struct journal_reader *r, struct err *e)
{
    struct job_row row = {.job = (uint64_t)sqlite3_column_int64(s, 0), .name = col_text(s, 2), .model = col_text(s, 3),
                          .n_tasks = (uint32_t)sqlite3_column_int64(s, 4), .created_wall_ms = sqlite3_column_int64(s, 5),
                          .changed_wall_ms = sqlite3_column_int64(s, 6), .canceled = sqlite3_column_int(s, 7) != 0, .client = col_text(s, 8),
                          .job_class = (uint32_t)sqlite3_column_int64(s, 9), .deadline_ms = (uint64_t)sqlite3_column_int64(s, 11)};

    if (!col_blob(s, 1, row.key, KEY_BYTES) || row.name.len > NAME_MAX_BYTES || row.model.len > MODEL_MAX_BYTES || row.n_tasks < 1 ||
        row.n_tasks > JOB_TASKS_MAX || row.client.len > NAME_MAX_BYTES || row.job_class < CLASS_INTERACTIVE || row.job_class > CLASS_BULK ||
        row.deadline_ms > DEADLINE_MAX_MS || !sqlite3_column_int(s, 12))
        return damaged(d, "job", row.job, e);
    return r->job(r->ctx, &row, e);
}

static int load_setting(struct db *d, sqlite3_stmt *s, const struct journal_reader *r, struct err *e)
{
    int        kind = sqlite3_column_int(s, 0);
    struct str name = col_text(s, 1);

    if (kind < SETTING_FARM_PAUSED || kind > SETTING_WORKER_DRAINED || name.len > NAME_MAX_BYTES || !sqlite3_column_int(s, 3))
        return damaged(d, "setting of kind", (uint64_t)kind, e);
    return r->setting ? r->setting(r->ctx, (enum setting_kind)kind, name, e) : 0;
}

static int load_batch(struct db *d, sqlite3_stmt *s, const struct journal_reader *r, struct err *e)
{
    uint64_t         id = (uint64_t)sqlite3_column_int64(s, 0);
    struct batch_row row = {.job = id >> 20, .first_task = ROW_INDEX(id), .n_tasks = (uint32_t)sqlite3_column_int64(s, 1)};

    if (!col_blob(s, 2, row.sha256, 32) || !sqlite3_column_int(s, 4)) return damaged(d, "batch", id, e);
    return r->batch(r->ctx, &row, e);
}

static int load_item(struct db *d, sqlite3_stmt *s, const struct journal_reader *r, struct err *e)
{
    uint64_t        id = (uint64_t)sqlite3_column_int64(s, 0);
    struct item_row row = {.job = id >> 20, .first_task = ROW_INDEX(id), .n_images = (uint32_t)sqlite3_column_int64(s, 1)};

    row.bytes = (struct str){sqlite3_column_blob(s, 2), (size_t)sqlite3_column_bytes(s, 2)};
    if (crc32c(0, row.bytes.at, row.bytes.len) != (uint32_t)sqlite3_column_int64(s, 3)) return damaged(d, "item", id, e);
    return r->item(r->ctx, &row, e);
}

static int load_task(struct db *d, sqlite3_stmt *s, const struct journal_reader *r, struct err *e)
{
    uint64_t v[10];
    size_t   parts_bytes = (size_t)sqlite3_column_bytes(s, 12);
    const uint8_t *parts = sqlite3_column_blob(s, 12);

    for (int i = 0; i < 10; i++) v[i] = (uint64_t)sqlite3_column_int64(s, i);
    struct task_row row = {.task = v[0], .state = (uint32_t)v[1], .seq = v[2], .epoch = v[3], .leases = (uint32_t)v[4],
                           .crashes = (uint32_t)v[5], .transients = (uint32_t)v[6], .nans = (uint32_t)v[7], .took_ms = (uint32_t)v[8],
                           .collected_wall_ms = (int64_t)v[9], .worker = col_text(s, 10), .error = col_text(s, 11),
                           .home = {(uint64_t)sqlite3_column_int64(s, 14), (uint64_t)sqlite3_column_int64(s, 15)}};

    if (parts_bytes % PART_BYTES || parts_bytes > PARTS_MAX * PART_BYTES ||
        db_task_crc(&row, parts, parts_bytes) != (uint32_t)sqlite3_column_int64(s, 13) || row.worker.len > NAME_MAX_BYTES)
        return damaged(d, "task", row.task, e);
    for (; row.n_parts < parts_bytes / PART_BYTES; row.n_parts++, parts += PART_BYTES) {
        struct part *p = &row.part[row.n_parts];

        p->kind = (enum part_kind)parts[0];
        memcpy(&p->size_bytes, parts + 1, 8);
        p->size_bytes = le64toh(p->size_bytes);
        memcpy(p->sha256, parts + 9, 32);
    }
    return r->task(r->ctx, &row, e);
}

int db_load(struct db *d, const struct journal_reader *r, struct err *e)
{
    static const struct {
        const char *sql;
        int (*row)(struct db *d, sqlite3_stmt *s, const struct journal_reader *r, struct err *e);
    } table[] = {{"SELECT *, crc = row_crc(kind, name) FROM setting", load_setting},
                 {"SELECT *, crc = row_crc(id, key, name, model, n_tasks, created_wall_ms, changed_wall_ms, canceled, client, job_class, deadline_ms)"
                  " FROM job ORDER BY id", load_job},
                 {"SELECT *, crc = row_crc(id, n_tasks, sha256) FROM batch ORDER BY id", load_batch},
                 {"SELECT * FROM item ORDER BY id", load_item},
                 {"SELECT * FROM task ORDER BY seq", load_task}};
    int rc = 0;

    for (size_t i = 0; i < sizeof table / sizeof *table && rc == 0; i++) {
        sqlite3_stmt *s = NULL;
        int           got = sqlite3_prepare_v2(d->db, table[i].sql, -1, &s, NULL);

        if (got == SQLITE_OK)
            while (rc == 0 && (got = sqlite3_step(s)) == SQLITE_ROW) rc = table[i].row(d, s, r, e);
        if (rc == 0 && got != SQLITE_DONE) rc = db_err(d, got, "reading", e);
        sqlite3_finalize(s);
    }
    return rc;
}

int db_read_result(struct db *d, uint64_t row, struct buf *out, struct err *e)
{
    sqlite3_stmt *s = d->stmt[GET_RESULT];
    struct str    bytes;
    int           got, rc;

    sqlite3_bind_int64(s, 1, (sqlite3_int64)row);
    got = sqlite3_step(s);
    if (got == SQLITE_ROW) {
        bytes = (struct str){sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0)};
        if (db_result_crc(row, bytes) != (uint32_t)sqlite3_column_int64(s, 1))
            rc = err_set(e, ERR_FORMAT, "%s/journal.db: result %llu fails its checksum", d->dir, (unsigned long long)row);
        else if ((rc = buf_put(out, bytes.at, bytes.len)))
            err_set(e, rc, "no memory for a result of %zu bytes", bytes.len);
    } else if (got == SQLITE_DONE) {
        rc = err_set(e, ERR_NOTFOUND, "%s/journal.db: result %llu is missing", d->dir, (unsigned long long)row);
    } else {
        rc = err_set(e, ERR_IO, "%s/journal.db: reading result %llu: %s", d->dir, (unsigned long long)row, sqlite3_errmsg(d->db));
    }
    sqlite3_reset(s);
    return rc;
}

/* journal_db.c - the journal's file: SQLite, WAL, one connection in exclusive mode.
 * Believes: J4, J7, J8 of journal.h; one thread at a time. synchronous is FULL for a transaction that releases a promise and NORMAL
 * for one of leases alone; the WAL is copied back in db_tidy() at CHECKPOINT_BYTES, never by SQLite in the middle of a commit.
 * With journal_rows.c the only room that says sqlite3_*. Not here: who waits for what (journal.c), reading (journal_rows.c), tables (schema.c). */
#include "broker/journal_db.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "broker/schema.h"

#define CHECKPOINT_BYTES (16 << 20)
#define BALLAST_BYTES    (64 << 20)
#define BALLAST_PART     8         /* of a small disk, at most one in so many bytes that are free */
#define UNCLEAN_MS       300000    /* ends in disorder within so long of each other are counted together */

static const char *const statement_sql[N_STATEMENTS] = {
    [PUT_JOB] = "INSERT INTO job VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,row_crc(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11),?11) ON CONFLICT (id) DO UPDATE SET"
                " model=excluded.model, changed_wall_ms=excluded.changed_wall_ms, canceled=excluded.canceled,"
                " crc=row_crc(id, key, name, excluded.model, n_tasks, created_wall_ms, excluded.changed_wall_ms, excluded.canceled, client, job_class,"
                " deadline_ms)",
    [PUT_BATCH] = "INSERT INTO batch VALUES (?1,?2,?3,row_crc(?1,?2,?3))",
    [PUT_ITEM] = "INSERT INTO item VALUES (?,?,?,?)",
    [PUT_TASK] = "INSERT OR REPLACE INTO task VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [PUT_RESULT] = "INSERT INTO result VALUES (?,?,?)",
    [GET_RESULT] = "SELECT bytes, crc FROM result WHERE id = ?",
    [FORGET_RESULT] = "DELETE FROM result WHERE id = ?",
    [FORGET_TASKS] = "DELETE FROM task WHERE id BETWEEN ? AND ?",
    [FORGET_ITEMS] = "DELETE FROM item WHERE id BETWEEN ? AND ?",
    [FORGET_BATCHES] = "DELETE FROM batch WHERE id BETWEEN ? AND ?",
    [FORGET_JOB] = "DELETE FROM job WHERE id = ?",
    [PUT_SETTING] = "INSERT OR REPLACE INTO setting VALUES (?1,?2,row_crc(?1,?2))",
    [FORGET_SETTING] = "DELETE FROM setting WHERE kind = ?1 AND name = ?2",
    [SET_META] = "INSERT OR REPLACE INTO meta VALUES (?1,?2,row_crc(?1,?2))",
};

/* ---- SQLite's words into ours ---- */
int db_err(struct db *d, int rc, const char *doing, struct err *e)
{
    switch (rc & 0xff) {
    case SQLITE_FULL: return err_set(e, ERR_LIMIT, "%s/journal.db: %s: the disk is full", d->dir, doing);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return err_set(e, ERR_FORMAT, "%s/journal.db: %s: the file is damaged (%s)", d->dir, doing, sqlite3_errmsg(d->db));
    default: return err_set(e, ERR_IO, "%s/journal.db: %s: %s", d->dir, doing, sqlite3_errmsg(d->db));
    }
}

static int run(struct db *d, const char *sql, const char *doing, struct err *e)
{
    int rc = sqlite3_exec(d->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : db_err(d, rc, doing, e);
}

static int ask_text(struct db *d, const char *sql, char *text, size_t cap, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int           rc = sqlite3_prepare_v2(d->db, sql, -1, &s, NULL);

    text[0] = 0;
    if (rc == SQLITE_OK) rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) snprintf(text, cap, "%s", sqlite3_column_text(s, 0) ? (const char *)sqlite3_column_text(s, 0) : "");
    rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : db_err(d, rc, sql, e);
    sqlite3_finalize(s);
    return rc;
}

static int ask_int(struct db *d, const char *sql, int64_t *out, struct err *e)
{
    char text[32];
    int  rc = ask_text(d, sql, text, sizeof text, e);

    *out = 0;
    if (rc == 0 && text[0] && str_to_i64(str_of(text), out)) rc = err_set(e, ERR_FORMAT, "%s/journal.db: %s gave '%s'", d->dir, sql, text);
    return rc;
}

static uint32_t crc_u64(uint32_t crc, uint64_t v)
{
    uint64_t le = htole64(v);

    return crc32c(crc, &le, sizeof le);
}

size_t db_pack_parts(const struct task_row *t, uint8_t *out)
{
    for (size_t i = 0; i < t->n_parts; i++) {
        uint64_t size = htole64(t->part[i].size_bytes);

        *out++ = (uint8_t)t->part[i].kind;
        memcpy(out, &size, 8);
        memcpy(out + 8, t->part[i].sha256, 32);
        out += 40;
    }
    return t->n_parts * PART_BYTES;
}

uint32_t db_task_crc(const struct task_row *t, const uint8_t *parts, size_t parts_bytes)
{
    const uint64_t v[] = {t->task, t->state, t->seq, t->epoch, t->leases, t->crashes, t->transients, t->nans, t->took_ms,
                          (uint64_t)t->collected_wall_ms, t->worker.len, t->error.len};
    uint32_t       crc = 0;

    for (size_t i = 0; i < sizeof v / sizeof *v; i++) crc = crc_u64(crc, v[i]);
    crc = crc32c(crc, t->worker.at, t->worker.len);
    crc = crc32c(crc, t->error.at, t->error.len);
    crc = crc32c(crc, parts, parts_bytes);
    for (size_t i = 0; i < PARTS_MAX; i++)
        if (t->home[i]) crc = crc_u64(crc_u64(crc, i), t->home[i]); /* rows of version 2 have none, and their crc stays */
    return crc;
}

uint32_t db_result_crc(uint64_t row, struct str bytes)
{
    return crc32c(crc_u64(0, row), bytes.at, bytes.len);
}

/* row_crc(column, ...) in SQL: one function for rows written, read and migrated. Numbers as 8 bytes, texts and blobs behind their length. */
static void sql_row_crc(sqlite3_context *ctx, int n, sqlite3_value **v)
{
    uint32_t crc = 0;

    for (int i = 0; i < n; i++) {
        if (sqlite3_value_type(v[i]) == SQLITE_INTEGER) {
            crc = crc_u64(crc, (uint64_t)sqlite3_value_int64(v[i]));
        } else {
            const void *at = sqlite3_value_blob(v[i]);
            size_t      len = (size_t)sqlite3_value_bytes(v[i]);

            crc = crc32c(crc_u64(crc, len), at, len);
        }
    }
    sqlite3_result_int64(ctx, crc);
}

/* ---- writing ---- */
static void bind_text(sqlite3_stmt *s, int at, struct str v)
{
    sqlite3_bind_text(s, at, v.len ? v.at : "", (int)v.len, SQLITE_STATIC);
}

static int step(sqlite3_stmt *s)
{
    int rc = sqlite3_step(s);

    sqlite3_reset(s);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int write_job(struct db *d, const struct job_row *r)
{
    sqlite3_stmt *s = d->stmt[PUT_JOB];

    sqlite3_bind_int64(s, 1, (sqlite3_int64)r->job);
    sqlite3_bind_blob(s, 2, r->key, KEY_BYTES, SQLITE_STATIC);
    bind_text(s, 3, r->name);
    bind_text(s, 4, r->model);
    sqlite3_bind_int64(s, 5, r->n_tasks);
    sqlite3_bind_int64(s, 6, r->created_wall_ms);
    sqlite3_bind_int64(s, 7, r->changed_wall_ms);
    sqlite3_bind_int(s, 8, r->canceled);
    bind_text(s, 9, r->client);
    sqlite3_bind_int64(s, 10, r->job_class);
    sqlite3_bind_int64(s, 11, (sqlite3_int64)r->deadline_ms);
    return step(s);
}

static int write_task(struct db *d, const struct task_row *r)
{
    sqlite3_stmt *s = d->stmt[PUT_TASK];
    uint8_t       parts[PARTS_MAX * PART_BYTES];
    size_t        n = db_pack_parts(r, parts);
    const uint64_t v[] = {r->task, r->state, r->seq, r->epoch, r->leases, r->crashes, r->transients, r->nans, r->took_ms,
                          (uint64_t)r->collected_wall_ms};

    for (int i = 0; i < 10; i++) sqlite3_bind_int64(s, i + 1, (sqlite3_int64)v[i]);
    bind_text(s, 11, r->worker);
    bind_text(s, 12, r->error);
    sqlite3_bind_blob(s, 13, parts, (int)n, SQLITE_STATIC);
    sqlite3_bind_int64(s, 14, db_task_crc(r, parts, n));
    for (int i = 0; i < PARTS_MAX; i++) sqlite3_bind_int64(s, 15 + i, (sqlite3_int64)r->home[i]);
    return step(s);
}

static int set_meta(struct db *d, const char *name, sqlite3_int64 value)
{
    sqlite3_bind_text(d->stmt[SET_META], 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(d->stmt[SET_META], 2, value);
    return step(d->stmt[SET_META]);
}

static int forget_job(struct db *d, uint64_t job, uint64_t seq)
{
    int rc = SQLITE_OK;

    for (int i = FORGET_TASKS; i <= FORGET_BATCHES && rc == SQLITE_OK; i++) {
        sqlite3_bind_int64(d->stmt[i], 1, ROW_ID(job, 0));
        sqlite3_bind_int64(d->stmt[i], 2, ROW_ID(job, 0xfffff));
        rc = step(d->stmt[i]);
    }
    sqlite3_bind_int64(d->stmt[FORGET_JOB], 1, (sqlite3_int64)job);
    if (rc == SQLITE_OK) rc = step(d->stmt[FORGET_JOB]);
    return rc == SQLITE_OK ? set_meta(d, "seq", (sqlite3_int64)seq) : rc;
}

static int write_op(struct db *d, const struct op *o)
{
    sqlite3_stmt *s;

    switch (o->kind) {
    case OP_JOB: return write_job(d, &o->job);
    case OP_TASK: return write_task(d, &o->task);
    case OP_RESULT:
        s = d->stmt[PUT_RESULT];
        sqlite3_bind_int64(s, 1, (sqlite3_int64)o->result.row);
        sqlite3_bind_blob(s, 2, o->result.bytes.at, (int)o->result.bytes.len, SQLITE_STATIC);
        sqlite3_bind_int64(s, 3, db_result_crc(o->result.row, o->result.bytes));
        return step(s);
    case OP_FORGET_RESULT:
        sqlite3_bind_int64(d->stmt[FORGET_RESULT], 1, (sqlite3_int64)o->result.row);
        return step(d->stmt[FORGET_RESULT]);
    case OP_FORGET: return forget_job(d, o->forget.job, o->forget.seq);
    case OP_SETTING:
        s = d->stmt[o->setting.on ? PUT_SETTING : FORGET_SETTING];
        sqlite3_bind_int(s, 1, (int)o->setting.kind);
        bind_text(s, 2, o->setting.name);
        return step(s);
    case OP_BATCH:
        s = d->stmt[PUT_BATCH];
        sqlite3_bind_int64(s, 1, ROW_ID(o->batch.job, o->batch.first_task));
        sqlite3_bind_int64(s, 2, o->batch.n_tasks);
        sqlite3_bind_blob(s, 3, o->batch.sha256, 32, SQLITE_STATIC);
        return step(s);
    case OP_ITEM:
        s = d->stmt[PUT_ITEM];
        sqlite3_bind_int64(s, 1, ROW_ID(o->item.job, o->item.first_task));
        sqlite3_bind_int64(s, 2, o->item.n_images);
        sqlite3_bind_blob(s, 3, o->item.bytes.at, (int)o->item.bytes.len, SQLITE_STATIC);
        sqlite3_bind_int64(s, 4, crc32c(0, o->item.bytes.at, o->item.bytes.len));
        return step(s);
    }
    abort();
}

int db_commit(struct db *d, const struct journal_req *first, uint64_t *n_ops, struct err *e)
{
    bool full = false, any = false;
    int  rc;

    for (const struct journal_req *r = first; r; r = r->next) {
        full |= r->mode != JOURNAL_WAL && r->op;
        any |= r->op != NULL;
    }
    if (!any) return 0;
    if (full != d->sync_full && (rc = run(d, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", "setting synchronous", e)))
        return rc;
    d->sync_full = full;
    if ((rc = run(d, "BEGIN IMMEDIATE", "beginning", e))) return rc;
    rc = full ? set_meta(d, "commits", (sqlite3_int64)d->n_commits + 1) : SQLITE_OK;
    for (const struct journal_req *r = first; r && rc == SQLITE_OK; r = r->next)
        for (const struct op *o = r->op; o && rc == SQLITE_OK; o = o->next, ++*n_ops) rc = write_op(d, o);
    if (rc == SQLITE_OK) rc = sqlite3_exec(d->db, "COMMIT", NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        d->n_commits += full;
        if (full) mark_set(d);
        return 0;
    }
    rc = db_err(d, rc, "committing", e);
    if (!sqlite3_get_autocommit(d->db)) sqlite3_exec(d->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

static void ballast_make(struct db *d)
{
    char    path[4096];
    int64_t bytes = file_free_bytes(d->dir);
    int     fd;

    if (d->ballast || bytes < BALLAST_PART << 17 || file_join(path, sizeof path, d->dir, "ballast", NULL)) return;
    bytes = bytes / BALLAST_PART < BALLAST_BYTES ? bytes / BALLAST_PART : BALLAST_BYTES;
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return;
    d->ballast = posix_fallocate(fd, 0, bytes) == 0;
    close(fd);
    if (!d->ballast) unlink(path);
}

bool db_give_ballast(struct db *d)
{
    char path[4096];

    if (!d->ballast || file_join(path, sizeof path, d->dir, "ballast", NULL)) return false;
    d->ballast = false;
    return unlink(path) == 0;
}

int db_tidy(struct db *d, struct err *e)
{
    int rc;

    if (d->wal_pages * d->page_bytes <= CHECKPOINT_BYTES) return 0;
    /* RESTART, not TRUNCATE: a file that does not grow again needs no journal commit of its filesystem for every fdatasync */
    rc = sqlite3_wal_checkpoint_v2(d->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    if (rc == SQLITE_OK) {
        d->wal_pages = 0;
        ballast_make(d);
    }
    return rc == SQLITE_OK || (rc & 0xff) == SQLITE_FULL ? 0 : db_err(d, rc, "checkpointing", e);
}

static int on_wal(void *ctx, sqlite3 *db, const char *name, int pages)
{
    (void)db, (void)name;
    ((struct db *)ctx)->wal_pages = pages;
    return SQLITE_OK;
}

/* ---- opening ---- */
static int take_lock(struct db *d, struct err *e)
{
    char    path[4096], text[32] = "";
    ssize_t n;

    if (file_join(path, sizeof path, d->dir, "lock", e)) return e->code;
    d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (d->lock_fd < 0) return err_errno(e, ERR_IO, "opening %s", path);
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB)) {
        n = pread(d->lock_fd, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = 0;
        text[strcspn(text, "\n")] = 0;
        return err_set(e, ERR_BUSY, "the data folder %s is in use by another zfarm-broker (pid %s): stop it or choose another --data", d->dir,
                       text[0] ? text : "unknown");
    }
    n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(d->lock_fd, 0) || pwrite(d->lock_fd, text, (size_t)n, 0) != n) return err_errno(e, ERR_IO, "writing %s", path);
    return 0;
}

static int migrate(struct db *d, struct err *e)
{
    int64_t version;
    char    sql[64];
    int     rc = ask_int(d, "PRAGMA user_version", &version, e);

    if (rc == 0 && (version < 0 || version > SCHEMA_VERSION))
        rc = err_set(e, ERR_FORMAT, "%s/journal.db is of version %lld, this broker knows up to %d: use the newer zfarm-broker", d->dir,
                     (long long)version, SCHEMA_VERSION);
    for (; rc == 0 && version < SCHEMA_VERSION; version++) {
        snprintf(sql, sizeof sql, "PRAGMA user_version=%lld", (long long)version + 1);
        if ((rc = run(d, "BEGIN IMMEDIATE", "migrating", e)) || (rc = run(d, schema_step[version], "migrating", e)) ||
            (rc = run(d, sql, "migrating", e)) || (rc = run(d, "COMMIT", "migrating", e)))
            return rc;
    }
    return rc;
}

/* meta's "running" is 0 after an end in order. Else: when the row of ends in disorder began (ms), times 16, and how many starts it has seen.
 * What to write there for this start. */
static int64_t unclean_since(struct db *d, int64_t running, int64_t wall)
{
    int64_t began_ms = running >> 4, n = running & 15;

    if (!running) return wall << 4;
    if (wall < began_ms || wall - began_ms > UNCLEAN_MS) return wall << 4 | (d->ids.n_unclean = 1);
    d->ids.n_unclean = (int)(n < 15 ? n + 1 : 15);
    return began_ms << 4 | d->ids.n_unclean;
}

/* Names the store when it is new, counts this start, and reads where ids stand. */
static int read_meta(struct db *d, struct err *e)
{
    char    text[2 * KEY_BYTES + 1];
    int64_t boot, next_job, result, seq_row, seq_meta, commits, running;
    int     rc = ask_text(d, "SELECT name FROM meta WHERE crc IS NOT row_crc(name, value)", text, sizeof text, e);

    if (rc == 0 && text[0]) rc = err_set(e, ERR_FORMAT, "%s/journal.db: the row '%s' of meta is damaged; restore a copy of the folder", d->dir, text);
    if (rc == 0) rc = ask_text(d, "SELECT value FROM meta WHERE name='store'", text, sizeof text, e);
    if (rc == 0) rc = ask_int(d, "SELECT value FROM meta WHERE name='boot'", &boot, e);
    if (rc == 0) rc = ask_int(d, "SELECT value FROM meta WHERE name='commits'", &commits, e);
    if (rc == 0) rc = ask_int(d, "SELECT value FROM meta WHERE name='running'", &running, e);
    if (rc == 0) rc = ask_int(d, "SELECT seq FROM sqlite_sequence WHERE name='job'", &next_job, e);
    if (rc == 0) rc = ask_int(d, "SELECT max(id) FROM result", &result, e);
    if (rc == 0) rc = ask_int(d, "SELECT max(seq) FROM task", &seq_row, e);
    if (rc == 0) rc = ask_int(d, "SELECT value FROM meta WHERE name='seq'", &seq_meta, e);
    if (rc) return rc;
    if (text[0] == 0) {
        random_bytes(d->ids.store, KEY_BYTES);
        hex_of(d->ids.store, KEY_BYTES, text);
    } else if (hex_to(text, d->ids.store, KEY_BYTES)) {
        return err_set(e, ERR_FORMAT, "%s/journal.db: the store's name '%s' is damaged", d->dir, text);
    }
    if (boot < 0 || boot >= INT32_MAX || next_job < 0 || result < 0 || commits < 0 || running < 0)
        return err_set(e, ERR_FORMAT, "%s/journal.db: the counter of starts or jobs is damaged", d->dir);
    d->n_commits = (uint64_t)commits;
    if ((rc = mark_open(d, e))) return rc;
    d->ids.boot_id = (uint64_t)boot + 1;
    running = unclean_since(d, running, wall_ms());
    d->ids.next_job = (uint64_t)next_job + 1;
    d->ids.next_result = (uint64_t)result + 1;
    d->ids.seq = (uint64_t)(seq_row > seq_meta ? seq_row : seq_meta);
    if ((rc = run(d, "BEGIN IMMEDIATE", "counting the start", e))) return rc;
    sqlite3_bind_text(d->stmt[SET_META], 1, "store", -1, SQLITE_STATIC);
    bind_text(d->stmt[SET_META], 2, str_of(text));
    rc = step(d->stmt[SET_META]);
    if (rc == SQLITE_OK) rc = set_meta(d, "boot", (sqlite3_int64)d->ids.boot_id);
    if (rc == SQLITE_OK) rc = set_meta(d, "running", running);
    if (rc == SQLITE_OK) rc = set_meta(d, "commits", (sqlite3_int64)++d->n_commits);
    if (rc != SQLITE_OK) return db_err(d, rc, "counting the start", e);
    return run(d, "COMMIT", "counting the start", e);
}

static int open_db(struct db *d, struct err *e)
{
    char path[4096], text[400];
    int  rc = file_join(path, sizeof path, d->dir, "journal.db", e);

    if (rc) return rc;
    rc = sqlite3_open_v2(path, &d->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) return db_err(d, rc, "opening", e);
    rc = run(d,
             "PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;"
             "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=0; PRAGMA cell_size_check=ON; PRAGMA mmap_size=0",
             "opening", e);
    d->sync_full = true;
    if (rc == 0) rc = ask_int(d, "PRAGMA page_size", &d->page_bytes, e);
    if (rc == 0) rc = ask_text(d, "PRAGMA journal_mode", text, sizeof text, e);
    if (rc == 0 && strcmp(text, "wal") != 0) rc = err_set(e, ERR_IO, "%s: SQLite gave journal mode '%s' instead of wal", path, text);
    if (rc == 0) rc = ask_text(d, "PRAGMA quick_check(1)", text, sizeof text, e);
    if (rc == 0 && strcmp(text, "ok") != 0) rc = err_set(e, ERR_FORMAT, "%s is damaged: %s; restore a copy of the folder", path, text);
    if (rc == 0 && sqlite3_create_function(d->db, "row_crc", -1, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL, sql_row_crc, NULL, NULL) != SQLITE_OK)
        rc = err_set(e, ERR_NOMEM, "%s: SQLite takes no function", path);
    if (rc == 0) rc = migrate(d, e);
    for (int i = 0; rc == 0 && i < N_STATEMENTS; i++) {
        int s = sqlite3_prepare_v3(d->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &d->stmt[i], NULL);

        if (s != SQLITE_OK) rc = db_err(d, s, "preparing", e);
    }
    sqlite3_wal_hook(d->db, on_wal, d);
    return rc ? rc : read_meta(d, e);
}

int db_open(struct db **out, const char *dir, struct err *e)
{
    struct db *d = calloc(1, sizeof *d);
    int        rc;

    if (!d) return err_set(e, ERR_NOMEM, "no memory for the journal");
    d->lock_fd = d->mark_fd = -1;
    if (strlen(dir) >= sizeof d->dir) {
        rc = err_set(e, ERR_LIMIT, "the name of the data folder has more than %zu bytes", sizeof d->dir - 1);
    } else {
        snprintf(d->dir, sizeof d->dir, "%s", dir);
        rc = file_make_folder(dir, e);
        if (rc == 0) rc = take_lock(d, e);
        if (rc == 0) rc = open_db(d, e);
    }
    if (rc) {
        db_close(d);
        return rc;
    }
    ballast_make(d);
    *out = d;
    return 0;
}

int db_end(struct db *d)
{
    int rc = set_meta(d, "running", 0);

    return rc == SQLITE_OK ? 0 : ERR_IO;
}

void db_close(struct db *d)
{
    if (!d) return;
    for (int i = 0; i < N_STATEMENTS; i++) sqlite3_finalize(d->stmt[i]);
    sqlite3_close(d->db);
    if (d->mark_fd >= 0) close(d->mark_fd);
    if (d->lock_fd >= 0) close(d->lock_fd); /* the file stays: removing it would let two brokers lock two files of one name */
    free(d);
}

const struct db_ids *db_ids(const struct db *d)
{
    return &d->ids;
}

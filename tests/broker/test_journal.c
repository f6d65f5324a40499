/* test_journal.c - what was completed with 0 is there after any end: reopened, killed, or with the n-th write or fsync failing.
 * The file system's faults come in by a VFS of SQLite that counts, under the journal's feet. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/journal.h"
#include "broker/schema.h"
#include "tests/tmp.h"

/* ---- a file system that fails at the n-th call, and ever after ---- */
static atomic_int fault_left, fault_code, n_calls;

struct shim {
    sqlite3_file  base;
    sqlite3_file *real;
};

static int due(void)
{
    atomic_fetch_add(&n_calls, 1);
    if (atomic_load(&fault_left) == 0) return SQLITE_OK;
    return atomic_fetch_sub(&fault_left, 1) == 1 ? (atomic_store(&fault_left, 1), atomic_load(&fault_code)) : SQLITE_OK; /* stays broken */
}

#define REAL(f) (((struct shim *)(f))->real)
static int sh_close(sqlite3_file *f)
{
    int rc = REAL(f)->pMethods ? REAL(f)->pMethods->xClose(REAL(f)) : SQLITE_OK;

    free(REAL(f));
    return rc;
}
static int sh_read(sqlite3_file *f, void *at, int n, sqlite3_int64 o) { return REAL(f)->pMethods->xRead(REAL(f), at, n, o); }
static int sh_write(sqlite3_file *f, const void *at, int n, sqlite3_int64 o)
{
    int rc = due();

    return rc ? rc : REAL(f)->pMethods->xWrite(REAL(f), at, n, o);
}
static int sh_truncate(sqlite3_file *f, sqlite3_int64 n) { return REAL(f)->pMethods->xTruncate(REAL(f), n); }
static int sh_sync(sqlite3_file *f, int flags)
{
    int rc = due();

    if (rc) return rc == SQLITE_FULL ? SQLITE_OK : SQLITE_IOERR_FSYNC;
    return REAL(f)->pMethods->xSync(REAL(f), flags);
}
static int sh_size(sqlite3_file *f, sqlite3_int64 *n) { return REAL(f)->pMethods->xFileSize(REAL(f), n); }
static int sh_lock(sqlite3_file *f, int l) { return REAL(f)->pMethods->xLock(REAL(f), l); }
static int sh_unlock(sqlite3_file *f, int l) { return REAL(f)->pMethods->xUnlock(REAL(f), l); }
static int sh_reserved(sqlite3_file *f, int *out) { return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out); }
static int sh_control(sqlite3_file *f, int op, void *arg) { return REAL(f)->pMethods->xFileControl(REAL(f), op, arg); }
static int sh_sector(sqlite3_file *f) { return REAL(f)->pMethods->xSectorSize(REAL(f)); }
static int sh_device(sqlite3_file *f) { return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f)); }

static const sqlite3_io_methods methods = {.iVersion = 1, .xClose = sh_close, .xRead = sh_read, .xWrite = sh_write, .xTruncate = sh_truncate,
                                           .xSync = sh_sync, .xFileSize = sh_size, .xLock = sh_lock, .xUnlock = sh_unlock,
                                           .xCheckReservedLock = sh_reserved, .xFileControl = sh_control, .xSectorSize = sh_sector,
                                           .xDeviceCharacteristics = sh_device};
static sqlite3_vfs *real_vfs, shim_vfs;

static int sh_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
    int rc;

    (void)v;
    ((struct shim *)f)->real = calloc(1, (size_t)real_vfs->szOsFile);
    rc = real_vfs->xOpen(real_vfs, name, REAL(f), flags, out_flags);
    f->pMethods = &methods;
    return rc;
}

static int shim_setup(void **state)
{
    (void)state;
    log_level_set(LOG_NONE);
    real_vfs = sqlite3_vfs_find(NULL);
    shim_vfs = *real_vfs;
    shim_vfs.zName = "shim";
    shim_vfs.szOsFile = sizeof(struct shim);
    shim_vfs.xOpen = sh_open;
    shim_vfs.pNext = NULL;
    return sqlite3_vfs_register(&shim_vfs, 1);
}

/* ---- helpers ---- */
struct memory { /* what a load gives */
    size_t   n_jobs, n_batches, n_items, n_tasks;
    uint64_t last_job, last_seq;
    uint32_t state[1000];
    char     error[100], model[100], client[100];
    uint32_t job_class;
    uint64_t deadline_ms;
    char     settings[200]; /* "kind name;" of each */
};

static int got_setting(void *ctx, enum setting_kind kind, struct str name, struct err *e)
{
    struct memory *m = ctx;
    size_t         used = strlen(m->settings);

    (void)e;
    snprintf(m->settings + used, sizeof m->settings - used, "%d %.*s;", (int)kind, (int)name.len, name.at);
    return 0;
}

static int got_job(void *ctx, const struct job_row *r, struct err *e)
{
    struct memory *m = ctx;

    (void)e;
    m->n_jobs++;
    m->last_job = r->job;
    snprintf(m->model, sizeof m->model, "%.*s", (int)r->model.len, r->model.at);
    snprintf(m->client, sizeof m->client, "%.*s", (int)r->client.len, r->client.at);
    m->job_class = r->job_class;
    m->deadline_ms = r->deadline_ms;
    return 0;
}
static int got_batch(void *ctx, const struct batch_row *r, struct err *e)
{
    (void)r, (void)e;
    ((struct memory *)ctx)->n_batches++;
    return 0;
}
static int got_item(void *ctx, const struct item_row *r, struct err *e)
{
    (void)e;
    assert_true(r->bytes.len == 9 && memcmp(r->bytes.at, "the item\n", 9) == 0);
    ((struct memory *)ctx)->n_items++;
    return 0;
}
static int got_task(void *ctx, const struct task_row *r, struct err *e)
{
    struct memory *m = ctx;

    (void)e;
    assert_true(r->seq >= m->last_seq);
    m->n_tasks++;
    m->last_seq = r->seq;
    m->state[r->task >> 20] = r->state;
    snprintf(m->error, sizeof m->error, "%.*s", (int)r->error.len, r->error.at);
    if (r->state == TASK_DONE) assert_true(r->n_parts == 2 && r->part[1].size_bytes == 1234567890123 && r->part[1].sha256[31] == 0xab && r->took_ms == 77);
    return 0;
}

static struct memory load(struct journal *j)
{
    struct memory         m = {0};
    struct journal_reader r = {&m, got_job, got_batch, got_item, got_task, got_setting};
    struct err            e = {0};

    if (journal_load(j, &r, &e)) fail_msg("%s", e.text);
    return m;
}

struct waiting {
    int n_ok, n_failed, last_rc;
    int order_ok, next;
};
struct one {
    struct waiting *w;
    int             number;
};

static void done(void *ctx, int rc, const struct err *e)
{
    struct one *o = ctx;

    (void)e;
    if (rc == 0) {
        o->w->n_ok++;
        o->w->order_ok += o->number == o->w->next++;
    } else {
        o->w->n_failed++;
    }
    o->w->last_rc = rc;
    free(o);
}

static struct journal_req *req(struct waiting *w, enum journal_mode mode, int number)
{
    struct one *o = malloc(sizeof *o);

    *o = (struct one){w, number};
    return journal_req(mode, done, o);
}

/* Job i: a job, its batch and item, and its task DONE. */
static void send_job(struct journal *j, struct waiting *w, uint64_t i, int number)
{
    struct journal_req *r = req(w, JOURNAL_NEW, number);
    struct job_row      job = {.job = i, .name = str_of("name"), .model = str_of("turbo"), .client = str_of("me@here"), .job_class = CLASS_BULK, .n_tasks = 1};
    struct task_row     task = {.task = i << 20, .state = TASK_DONE, .seq = i, .n_parts = 2, .took_ms = 77, .worker = str_of("w"), .error = str_of("")};

    memcpy(job.key, &i, sizeof i);
    task.part[0] = (struct part){.kind = PART_IMAGE, .size_bytes = 5};
    task.part[1] = (struct part){.kind = PART_LATENTS, .size_bytes = 1234567890123, .sha256 = {[31] = 0xab}};
    journal_put_job(r, &job);
    journal_put_batch(r, &(struct batch_row){.job = i, .n_tasks = 1});
    journal_put_item(r, &(struct item_row){.job = i, .n_images = 1, .bytes = str_of("the item\n")});
    journal_put_task(r, &task);
    journal_send(j, r);
}

static void wait_for(struct journal *j, const struct waiting *w, int n)
{
    for (int64_t until = now_ms() + 60000; w->n_ok + w->n_failed < n && now_ms() < until;) {
        struct pollfd p = {.fd = journal_fd(j), .events = POLLIN};

        poll(&p, 1, 1000);
        journal_reap(j);
    }
    assert_int_equal(w->n_ok + w->n_failed, n);
}

static struct journal *open_journal(const char *dir)
{
    struct journal *j = NULL;
    struct err      e = {0};

    if (journal_open(&j, dir, &e)) fail_msg("%s", e.text);
    return j;
}

static void start(struct journal *j)
{
    struct err e;

    assert_int_equal(journal_start(j, &e), 0);
}

/* ---- tests ---- */
static void test_reopen_equals(void **state)
{
    struct tmp          t;
    struct journal     *j;
    struct waiting      w = {0};
    struct memory       m;
    struct journal_req *r;
    uint8_t             store[KEY_BYTES];

    (void)state;
    tmp_open(&t);
    j = open_journal(t.dir);
    assert_int_equal(journal_boot_id(j), 1);
    assert_int_equal(journal_next_job(j), 1);
    memcpy(store, journal_store(j), KEY_BYTES);
    start(j);
    for (int i = 1; i <= 300; i++) send_job(j, &w, (uint64_t)i, i - 1);
    r = req(&w, JOURNAL_SYNC, 300);
    journal_put_task(r, &(struct task_row){.task = 5 << 20, .state = TASK_QUEUED, .seq = 301, .error = str_of("last words"), .worker = str_of("")});
    journal_put_job(r, &(struct job_row){.job = 300, .n_tasks = 1, .model = str_of("base"), .name = str_of("ignored"), .client = str_of("ignored"), .job_class = CLASS_BULK, .canceled = true});
    journal_send(j, r);
    wait_for(j, &w, 301);
    assert_int_equal(w.n_ok, 301);
    assert_int_equal(w.order_ok, 301); /* J2 */
    r = req(&w, JOURNAL_SYNC, 301);
    journal_forget_job(r, 299, 999);
    journal_send(j, r);
    wait_for(j, &w, 302);
    journal_close(j);

    j = open_journal(t.dir);
    assert_int_equal(journal_boot_id(j), 2);
    assert_memory_equal(journal_store(j), store, KEY_BYTES);
    assert_int_equal(journal_next_job(j), 301);
    assert_int_equal(journal_seq(j), 999); /* forgotten rows do not give their seq back */
    m = load(j);
    assert_int_equal(m.n_jobs, 299);
    assert_int_equal(m.n_batches, 299);
    assert_int_equal(m.n_items, 299);
    assert_int_equal(m.n_tasks, 299);
    assert_int_equal(m.state[5], TASK_QUEUED);
    assert_string_equal(m.error, "last words"); /* the last by seq */
    assert_string_equal(m.model, "base");
    journal_close(j);
    tmp_close(&t);
}

/* The highest id is never given again, even when its row is gone. */
static void test_ids_only_grow(void **state)
{
    struct tmp          t;
    struct journal     *j;
    struct waiting      w = {0};
    struct journal_req *r;

    (void)state;
    tmp_open(&t);
    j = open_journal(t.dir);
    start(j);
    send_job(j, &w, 1, 0);
    send_job(j, &w, 2, 1);
    r = req(&w, JOURNAL_SYNC, 2);
    journal_forget_job(r, 2, 2);
    journal_send(j, r);
    wait_for(j, &w, 3);
    journal_close(j);
    j = open_journal(t.dir);
    assert_int_equal(journal_next_job(j), 3);
    journal_close(j);
    tmp_close(&t);
}

static void test_one_at_a_time(void **state)
{
    struct tmp      t;
    struct journal *j, *other = NULL;
    struct err      e = {0};
    char            pid[40];

    (void)state;
    tmp_open(&t);
    j = open_journal(t.dir);
    assert_int_equal(journal_open(&other, t.dir, &e), ERR_BUSY);
    snprintf(pid, sizeof pid, "pid %d", (int)getpid());
    assert_non_null(strstr(e.text, pid));
    journal_close(j);
    j = open_journal(t.dir);
    assert_int_equal(journal_boot_id(j), 2); /* the refused one did not count */
    journal_close(j);
    tmp_close(&t);
}

/* Every write and every fsync fails once, and all after it: nothing after the failure is completed with 0, and what was is there. */
static void test_every_call_fails(void **state)
{
    int reached = 0;

    (void)state;
    for (int n = 1; n < 400; n++) {
        struct tmp      t;
        struct journal *j;
        struct waiting  w = {0};
        struct memory   m;
        int             ok_before;

        tmp_open(&t);
        j = open_journal(t.dir);
        start(j);
        atomic_store(&fault_code, SQLITE_IOERR_WRITE);
        atomic_store(&fault_left, n);
        for (int i = 1; i <= 10; i++) {
            send_job(j, &w, (uint64_t)i, i - 1);
            if (i % 3 == 0) wait_for(j, &w, i);
        }
        wait_for(j, &w, 10);
        reached = atomic_load(&fault_left) == 1 && w.n_failed;
        ok_before = w.n_ok;
        if (w.n_failed) { /* J5: for ever */
            assert_int_equal(w.last_rc, ERR_IO);
            send_job(j, &w, 11, 10);
            wait_for(j, &w, 11);
            assert_int_equal(w.n_ok, ok_before);
        }
        journal_close(j);
        atomic_store(&fault_left, 0);
        j = open_journal(t.dir);
        m = load(j);
        assert_true(m.n_jobs >= (size_t)ok_before); /* J1 */
        assert_true(m.n_jobs == m.n_items && m.n_items == m.n_tasks && m.n_tasks == m.n_batches); /* J2: wholly or not */
        journal_close(j);
        tmp_close(&t);
        if (!reached) {
            assert_true(n > 15);
            return;
        }
    }
    fail_msg("the faults never ran out");
}

/* J6: full, new work is refused and the rest waits; when there is room again, it is written, in order. */
static void test_full(void **state)
{
    struct tmp          t;
    struct journal     *j;
    struct waiting      w = {0}, old = {0};
    struct journal_req *r;

    (void)state;
    tmp_open(&t);
    j = open_journal(t.dir);
    start(j);
    send_job(j, &w, 1, 0);
    wait_for(j, &w, 1);
    atomic_store(&fault_code, SQLITE_FULL);
    atomic_store(&fault_left, 1);
    r = req(&old, JOURNAL_SYNC, 0);
    journal_put_task(r, &(struct task_row){.task = 1 << 20, .state = TASK_CANCELED, .seq = 50, .worker = str_of(""), .error = str_of("")});
    journal_send(j, r);
    send_job(j, &w, 2, 1);
    wait_for(j, &w, 2);
    assert_int_equal(w.last_rc, ERR_LIMIT);
    assert_true(journal_full(j));
    journal_reap(j);
    assert_int_equal(old.n_ok + old.n_failed, 0);
    atomic_store(&fault_left, 0);
    wait_for(j, &old, 1);
    assert_int_equal(old.n_ok, 1);
    assert_false(journal_full(j));
    w.next = 2;
    send_job(j, &w, 2, 2);
    wait_for(j, &w, 3);
    assert_int_equal(w.last_rc, 0);
    journal_close(j);
    j = open_journal(t.dir);
    assert_int_equal(load(j).state[1], TASK_CANCELED);
    journal_close(j);
    tmp_close(&t);
}

/* A process that ends anywhere in its work: what it said was written is there. */
static void test_kill(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct tmp      t;
        struct journal *j;
        struct memory   m;
        int             said[2], n_said = 0, status;
        char            byte;
        pid_t           pid;

        tmp_open(&t);
        assert_int_equal(pipe(said), 0);
        pid = fork();
        if (pid == 0) {
            struct waiting w = {0};
            int            told = 0;

            prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nothing behind */
            j = open_journal(t.dir);
            start(j);
            for (int i = 1;; i++) {
                if (i < 1000)
                    send_job(j, &w, (uint64_t)i, i - 1);
                else
                    sleep_ms(1);
                journal_reap(j);
                for (; told < w.n_ok; told++)
                    if (write(said[1], "x", 1) != 1) _exit(1);
            }
        }
        close(said[1]);
        for (int i = 0; i < 1 + round * 7; i++) n_said += read(said[0], &byte, 1) == 1;
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        while (read(said[0], &byte, 1) == 1) n_said++;
        close(said[0]);
        j = open_journal(t.dir);
        m = load(j);
        assert_true(m.n_jobs >= (size_t)n_said);
        assert_int_equal(m.n_jobs, m.last_job); /* no holes: in order */
        assert_true(m.n_jobs == m.n_items && m.n_items == m.n_tasks);
        journal_close(j);
        tmp_close(&t);
    }
}

/* J8: a bit that fell over in a row, or in the file, stops the start with a sentence. */
static void test_damage_is_seen(void **state)
{
    static const char *const harm[] = {"UPDATE item SET bytes = x'00'", "UPDATE task SET seq = seq + 1", "UPDATE task SET parts = x'00'",
                                       "UPDATE job SET n_tasks = 0", "UPDATE job SET job_class = 9", "UPDATE batch SET sha256 = x'00'", "PRAGMA user_version = 99"};
    char                     path[300];

    (void)state;
    for (size_t i = 0; i < sizeof harm / sizeof *harm; i++) {
        struct tmp            t;
        struct journal       *j = NULL;
        struct waiting        w = {0};
        struct memory         m = {0};
        struct journal_reader r = {&m, got_job, got_batch, got_item, got_task, got_setting};
        struct err            e = {0};
        sqlite3              *db;
        int                   rc;

        tmp_open(&t);
        j = open_journal(t.dir);
        start(j);
        send_job(j, &w, 1, 0);
        wait_for(j, &w, 1);
        journal_close(j);
        snprintf(path, sizeof path, "%s/journal.db", t.dir);
        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, real_vfs->zName), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, harm[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        j = NULL;
        rc = journal_open(&j, t.dir, &e);
        if (rc == 0) rc = journal_load(j, &r, &e);
        assert_int_equal(rc, ERR_FORMAT);
        assert_non_null(strstr(e.text, "journal.db"));
        journal_close(j);
        tmp_close(&t);
    }
}

/* What people decided stays until they decide otherwise; a deadline belongs to its job. */
static void test_settings(void **state)
{
    struct tmp          t;
    struct err          e = {0};
    struct journal     *j;
    struct journal_req *r;
    struct job_row      job = {.job = 1, .name = str_of("j"), .model = str_of(""), .client = str_of("a"), .n_tasks = 5, .job_class = CLASS_BULK, .deadline_ms = 60000};
    struct memory       m;

    (void)state;
    tmp_open(&t);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(journal_open(&j, t.dir, &e), 0);
        m = load(j);
        assert_string_equal(m.settings, round ? "1 ;2 b:1;3 w" "\xc3\xa9" ";" : "");
        if (round) assert_int_equal(m.deadline_ms, 60000);
        assert_int_equal(journal_start(j, &e), 0);
        r = journal_req(JOURNAL_SYNC, NULL, NULL);
        if (!round) journal_put_job(r, &job);
        journal_put_setting(r, SETTING_FARM_PAUSED, str_of(""), round == 0);
        journal_put_setting(r, SETTING_CLIENT_PAUSED, str_of("a"), true);
        journal_put_setting(r, SETTING_CLIENT_PAUSED, str_of("b:1"), true);
        journal_put_setting(r, SETTING_CLIENT_PAUSED, str_of("a"), false);
        journal_put_setting(r, SETTING_WORKER_DRAINED, str_of("w" "\xc3\xa9"), true);
        journal_send(j, r);
        journal_close(j);
    }
    assert_int_equal(journal_open(&j, t.dir, &e), 0);
    assert_string_equal(load(j).settings, "2 b:1;3 w" "\xc3\xa9" ";");
    journal_close(j);
    tmp_close(&t);
}

static void no_crc(sqlite3_context *ctx, int n, sqlite3_value **v)
{
    (void)n, (void)v;
    sqlite3_result_int(ctx, 0);
}

/* A journal of every older version is brought to this one, once, and its jobs are those of nobody, CLASS_NORMAL. */
static void test_older_versions(void **state)
{
    (void)state;
    for (int version = 1; version < SCHEMA_VERSION; version++) {
        struct tmp      t;
        struct journal *j;
        struct waiting  w = {0};
        struct memory   m;
        sqlite3        *db;
        char            path[300], sql[64];

        tmp_open(&t);
        snprintf(path, sizeof path, "%s/journal.db", t.dir);
        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, real_vfs->zName), SQLITE_OK);
        assert_int_equal(sqlite3_create_function(db, "row_crc", -1, SQLITE_UTF8, NULL, no_crc, NULL, NULL), SQLITE_OK); /* the next step makes them */
        for (int v = 0; v < version; v++) assert_int_equal(sqlite3_exec(db, schema_step[v], NULL, NULL, NULL), SQLITE_OK);
        snprintf(sql, sizeof sql, "PRAGMA user_version=%d", version);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "INSERT INTO job (id, key, name, model, n_tasks, created_wall_ms, changed_wall_ms, canceled)"
                                          " VALUES (1, x'00112233445566778899aabbccddeeff', 'old', 'turbo', 1, 5, 5, 0)", NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        j = open_journal(t.dir);
        m = load(j);
        assert_int_equal(m.n_jobs, 1);
        assert_string_equal(m.client, "");
        assert_int_equal(m.job_class, CLASS_NORMAL);
        start(j);
        send_job(j, &w, 2, 0);
        wait_for(j, &w, 1);
        journal_close(j);
        j = open_journal(t.dir);
        m = load(j);
        assert_int_equal(m.n_jobs, 2);
        assert_string_equal(m.client, "me@here");
        assert_int_equal(m.job_class, CLASS_BULK);
        journal_close(j);
        tmp_close(&t);
    }
}

static void test_file_is_garbage(void **state)
{
    struct tmp      t;
    struct journal *j = NULL;
    struct err      e = {0};
    char            junk[8192];

    (void)state;
    memset(junk, 'z', sizeof junk);
    tmp_open(&t);
    tmp_write(&t, "journal.db", junk, sizeof junk);
    assert_int_equal(journal_open(&j, t.dir, &e), ERR_FORMAT);
    tmp_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reopen_equals), cmocka_unit_test(test_ids_only_grow),    cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_every_call_fails), cmocka_unit_test(test_full),
        cmocka_unit_test(test_settings), cmocka_unit_test(test_older_versions), cmocka_unit_test(test_kill),   cmocka_unit_test(test_damage_is_seen),   cmocka_unit_test(test_file_is_garbage),
    };

    return cmocka_run_group_tests(tests, shim_setup, NULL);
}

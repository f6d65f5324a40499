/* test_damage.c - one bit falls over, or a file is cut short, anywhere in a journal: the start says so and names the file, or everything is as
 * it was. Nothing wrong is ever handed on, nothing that was acknowledged is forgotten in silence.
 * ZFARM_FLIPS=N in the environment: so many tries instead of 240. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "broker/journal.h"
#include "tests/near.h"
#include "tests/tmp.h"

enum { JOBS = 60 };

struct seen { /* everything a journal says, as one digest, and its results */
    struct sha256 sha;
    uint64_t      home[JOBS];
    size_t        n_homes, n_right, n_bad, n_wrong;
};

static void add(struct seen *s, const void *at, size_t len)
{
    sha256_put(&s->sha, &len, sizeof len);
    sha256_put(&s->sha, at, len);
}

static int saw_job(void *ctx, const struct job_row *r, struct err *e)
{
    (void)e;
    add(ctx, &r->job, sizeof r->job);
    add(ctx, r->key, KEY_BYTES);
    add(ctx, r->name.at, r->name.len);
    add(ctx, r->model.at, r->model.len);
    add(ctx, r->client.at, r->client.len);
    add(ctx, &r->n_tasks, sizeof r->n_tasks);
    add(ctx, &r->job_class, sizeof r->job_class);
    add(ctx, &r->created_wall_ms, sizeof r->created_wall_ms);
    add(ctx, &r->canceled, sizeof r->canceled);
    return 0;
}

static int saw_batch(void *ctx, const struct batch_row *r, struct err *e)
{
    (void)e;
    add(ctx, &r->job, sizeof r->job);
    add(ctx, &r->first_task, sizeof r->first_task);
    add(ctx, r->sha256, 32);
    return 0;
}

static int saw_item(void *ctx, const struct item_row *r, struct err *e)
{
    (void)e;
    add(ctx, &r->job, sizeof r->job);
    add(ctx, r->bytes.at, r->bytes.len);
    return 0;
}

static int saw_task(void *ctx, const struct task_row *r, struct err *e)
{
    struct seen *s = ctx;

    (void)e;
    add(s, &r->task, sizeof r->task);
    add(s, &r->state, sizeof r->state);
    add(s, &r->seq, sizeof r->seq);
    add(s, &r->epoch, sizeof r->epoch);
    add(s, r->worker.at, r->worker.len);
    add(s, r->error.at, r->error.len);
    add(s, r->part[0].sha256, 32);
    if (r->home[0] && s->n_homes < JOBS) s->home[s->n_homes++] = r->home[0];
    return 0;
}

/* The bytes of job i's image. */
static struct str bytes_of(uint64_t i)
{
    static char at[4000];

    for (size_t k = 0; k < sizeof at; k++) at[k] = (char)(i * 31 + k * 7);
    return (struct str){at, 100 + i * 60};
}

static void was_read(void *ctx, int rc, struct str bytes, const struct err *e)
{
    struct seen *s = ctx;
    bool         right = false;

    for (uint64_t i = 1; i <= JOBS && !right; i++) right = rc == 0 && str_eq(bytes, bytes_of(i));
    if (right) s->n_right++;
    else if (rc == ERR_FORMAT || rc == ERR_NOTFOUND || rc == ERR_IO) s->n_bad++;
    else s->n_wrong++;
    if (rc) assert_non_null(strstr(e->text, "journal.db"));
}

static void count(void *ctx, int rc, const struct err *e)
{
    (void)e;
    *(int *)ctx += rc == 0;
}

static void write_job(struct journal *j, uint64_t i, int *n_done)
{
    struct journal_req *r = journal_req(JOURNAL_SYNC, count, n_done);
    struct job_row      job = {.job = i, .name = str_of("name"), .model = str_of("turbo"), .client = str_of("me"), .job_class = CLASS_NORMAL, .n_tasks = 1};
    struct task_row     task = {.task = i << 20, .state = TASK_DONE, .seq = i, .epoch = i, .n_parts = 1, .home = {i}, .worker = str_of("w"), .error = str_of("")};

    memcpy(job.key, &i, sizeof i);
    task.part[0] = (struct part){.kind = PART_IMAGE, .size_bytes = bytes_of(i).len};
    sha256_of(bytes_of(i).at, bytes_of(i).len, task.part[0].sha256);
    journal_put_job(r, &job);
    journal_put_batch(r, &(struct batch_row){.job = i, .n_tasks = 1, .sha256 = {7}});
    journal_put_item(r, &(struct item_row){.job = i, .n_images = 1, .bytes = str_of("an item, more or less")});
    journal_put_result(r, i, bytes_of(i));
    journal_put_task(r, &task);
    journal_send(j, r);
    for (int64_t until = now_ms() + 60000; *n_done < (int)i && now_ms() < until; sleep_ms(1)) journal_reap(j);
    if (*n_done < (int)i) abort();
}

/* A journal of a process that was killed: all of it is in the WAL, or (half) some of it was copied back by an end in order before. */
static void make(const char *dir, bool half)
{
    for (int life = half ? 0 : 1; life < 2; life++) {
        pid_t pid = fork();
        int   status;

        if (pid == 0) {
            struct journal              *j = NULL;
            struct seen                  s = {0};
            const struct journal_reader  r = {&s, saw_job, saw_batch, saw_item, saw_task, NULL};
            int                          n = life && half ? JOBS / 2 : 0;

            if (journal_open(&j, dir, NULL) || journal_load(j, &r, NULL) || journal_start(j, NULL)) _exit(1);
            while (n < (life ? JOBS : JOBS / 2)) write_job(j, (uint64_t)n + 1, &n);
            if (!life) journal_close(j);
            _exit(0); /* the second life ends as kill -9 would */
        }
        if (waitpid(pid, &status, 0) != pid || status) abort();
    }
}

/* Opens, loads, reads every result. 0 with *s, or why not. */
static int look(const char *dir, struct seen *s, struct err *e)
{
    const struct journal_reader r = {s, saw_job, saw_batch, saw_item, saw_task, NULL};
    struct journal             *j = NULL;
    int64_t                     until = now_ms() + 60000;
    uint64_t                    seq;
    int                         rc;

    memset(s, 0, sizeof *s);
    sha256_init(&s->sha);
    if ((rc = journal_open(&j, dir, e))) return rc;
    add(s, journal_store(j), KEY_BYTES);
    seq = journal_seq(j);
    add(s, &seq, sizeof seq);
    rc = journal_load(j, &r, e);
    if (rc == 0) rc = journal_start(j, e);
    for (size_t i = 0; i < s->n_homes && rc == 0; i++) journal_read_result(j, s->home[i], was_read, s);
    while (rc == 0 && s->n_right + s->n_bad + s->n_wrong < s->n_homes && now_ms() < until) {
        sleep_ms(1);
        journal_reap(j);
    }
    journal_close(j);
    return rc;
}

static void copy(const char *from, const char *to)
{
    char cmd[3000];

    snprintf(cmd, sizeof cmd, "rm -f %.250s/journal.db* %.250s/mark; cp %.250s/journal.db* %.250s/mark %.250s", to, to, from, from, to);
    if (system(cmd)) abort();
}

/* One bit, or everything behind a place. False: the file is empty. */
static bool harm(const char *dir, const char *name, bool cut, struct dice *dice)
{
    char  path[400];
    FILE *f;
    long  size, at;
    int   c;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    f = fopen(path, "r+");
    if (!f) return false;
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    at = size ? (long)(dice_u64(dice) % (uint64_t)size) : 0;
    if (size && cut) {
        if (truncate(path, at)) abort();
    } else if (size) {
        fseek(f, at, SEEK_SET);
        c = fgetc(f) ^ 1 << dice_u64(dice) % 8;
        fseek(f, at, SEEK_SET);
        fputc(c, f);
    }
    fclose(f);
    return size > 0;
}

static void test_flips(void **state)
{
    static const char *const file[] = {"journal.db", "journal.db-wal", "journal.db-wal", "journal.db", "mark"};
    const char  *wish = getenv("ZFARM_FLIPS");
    long         n = wish ? strtol(wish, NULL, 10) : 240, n_named = 0, n_same = 0, n_lost = 0;
    struct tmp   whole[2], t;
    struct seen  s;
    struct dice  dice = {.state = 4711};
    uint8_t      want[2][32], got[32];

    (void)state;
    log_level_set(LOG_NONE);
    for (int half = 0; half < 2; half++) {
        struct err e = {0};

        tmp_open(&whole[half]);
        tmp_open(&t);
        make(whole[half].dir, half);
        copy(whole[half].dir, t.dir);
        if (look(t.dir, &s, &e)) fail_msg("%s", e.text);
        assert_int_equal(s.n_right, JOBS);
        sha256_take(&s.sha, want[half]);
        tmp_close(&t);
    }
    tmp_open(&t);
    for (long i = 0; i < n; i++) {
        int        half = (int)(dice_u64(&dice) % 2), rc;
        bool       cut = dice_u64(&dice) % 4 == 0;
        size_t     k = (size_t)(dice_u64(&dice) % 5);
        struct err e = {0};

        copy(whole[half].dir, t.dir);
        if (!harm(t.dir, file[k], cut, &dice)) continue;
        rc = look(t.dir, &s, &e);
        if (rc) { /* named */
            if (rc != ERR_FORMAT && rc != ERR_IO) fail_msg("try %ld, %s: error %d: %s", i, file[k], rc, e.text);
            assert_non_null(strstr(e.text, "journal.db"));
            if (k == 4) fail_msg("a damaged mark must stop nobody: %s", e.text);
            n_named++;
            continue;
        }
        sha256_take(&s.sha, got);
        if (memcmp(got, want[half], 32) != 0) fail_msg("try %ld: %s %s, and the journal says something else without a word", i, file[k], cut ? "cut" : "flipped");
        assert_int_equal(s.n_homes, JOBS);
        assert_int_equal(s.n_wrong, 0);
        assert_int_equal(s.n_right + s.n_bad, JOBS);
        n_lost += s.n_bad != 0;
        n_same += s.n_bad == 0;
    }
    print_message("%ld tries: %ld stopped the start with a sentence, %ld lost results that were named, %ld changed nothing\n", n, n_named, n_lost, n_same);
    assert_true(n_named > 0 && n_same > 0);
    tmp_close(&t);
    for (int half = 0; half < 2; half++) tmp_close(&whole[half]);
}

/* The WAL of a process that was killed is removed: what was in it was acknowledged, and its loss is said. Without the mark nobody could tell. */
static void test_wal_removed(void **state)
{
    struct tmp  whole, t;
    struct seen s;
    struct err  e = {0};
    char        path[400];

    (void)state;
    tmp_open(&whole);
    tmp_open(&t);
    make(whole.dir, true);
    copy(whole.dir, t.dir);
    snprintf(path, sizeof path, "%s/journal.db-wal", t.dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(look(t.dir, &s, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "promised"));
    snprintf(path, sizeof path, "%s/mark", t.dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(look(t.dir, &s, &e), 0); /* somebody decided to go on with what there is */
    assert_int_equal(s.n_right, JOBS / 2);
    tmp_close(&t);
    tmp_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_flips), cmocka_unit_test(test_wal_removed)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

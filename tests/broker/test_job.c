/* test_job.c - the table of arrows, counts, events in the order of seq, batches, rates. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "broker/job.h"
#include "broker/roster.h"

static struct batch *add(struct book *b, struct job *j, uint32_t first, uint32_t n, const char *model)
{
    struct item   it = {.n_images = n, .label = str_of("x")};
    struct batch *c, *same;
    uint8_t       sha[32] = {0};

    spec_init(&it.spec);
    it.spec.seed = 1000;
    it.spec.model = str_of(model);
    c = job_batch(j, first, n, sha, &same);
    if (!c) return NULL;
    batch_lot(c, &it, str_of("bytes"));
    batch_seal(b, c);
    return c;
}

static void test_arrows(void **state)
{
    static const char want[TASK_STATES][TASK_STATES + 1] = {/* to: -QRDFCE */
                                                            ".......", "..RD.CE", ".Q.DFC.", ".Q.....", ".Q.....", ".......", "......."};
    (void)state;
    for (int from = 0; from < TASK_STATES; from++)
        for (int to = 0; to < TASK_STATES; to++) assert_int_equal(task_move_ok((enum task_state)from, (enum task_state)to), want[from][to] != '.');
    assert_false(task_move_ok((enum task_state)9, TASK_DONE));
    assert_false(task_move_ok(TASK_DONE, (enum task_state)9));
}

/* An illegal move is a bug of ours: it ends the process. */
static void test_illegal_move_dies(void **state)
{
    pid_t pid = fork();
    int   status;

    (void)state;
    if (pid == 0) {
        struct book b;
        struct job *j;

        fclose(stderr);
        book_init(&b, 1, 0);
        j = book_job(&b, (const uint8_t *)"0123456789abcdef", str_of("a"), 1, 5);
        task_move(&b, &add(&b, j, 0, 1, "")->task[0], TASK_FAILED); /* from QUEUED */
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void test_counts_and_events(void **state)
{
    struct book   b;
    struct roster r = {0};
    struct job   *j;
    struct batch *c;
    struct task  *got[10];
    uint64_t      next;

    (void)state;
    book_init(&b, 7, 100);
    j = book_job(&b, (const uint8_t *)"0123456789abcdef", str_of("a"), 3, 5);
    assert_int_equal(j->id, 7);
    c = add(&b, j, 0, 3, "");
    assert_int_equal(b.n_open, 3);
    assert_ptr_equal(book_task(&b, 7 << 20 | 2), &c->task[2]);
    assert_null(book_task(&b, 7 << 20 | 3));
    assert_null(book_task(&b, 8 << 20));
    assert_int_equal(task_seed(&c->task[2]), 1002);

    roster_orphan(&r, &c->task[0], 1);
    task_move(&b, &c->task[0], TASK_RUNNING);
    assert_int_equal(b.seq, 100); /* no event */
    grant_free(&r, c->task[0].grant);
    task_move(&b, &c->task[0], TASK_QUEUED); /* 101 */
    task_move(&b, &c->task[1], TASK_DONE);   /* 102 */
    task_move(&b, &c->task[0], TASK_DONE);   /* 103: 101 is stale */
    assert_int_equal(j->n[TASK_DONE], 2);
    assert_int_equal(j->n[TASK_QUEUED], 1);
    assert_int_equal(b.n_open, 1);
    assert_int_equal(book_events(&b, j, 0, got, 10, &next), 0); /* nothing is durable */
    assert_int_equal(j->n_shown[TASK_DONE], 0);
    book_durable(&b, 102);
    assert_int_equal(j->n_shown[TASK_DONE], 1);
    assert_int_equal(book_events(&b, j, 0, got, 10, &next), 1);
    assert_ptr_equal(got[0], &c->task[1]);
    assert_int_equal(next, 102);
    assert_false(book_news(&b, j, 102));
    book_durable(&b, 103);
    assert_int_equal(book_events(&b, NULL, 0, got, 1, &next), 1); /* the stale one fills no place in the answer */
    assert_int_equal(next, 102);
    assert_int_equal(book_events(&b, NULL, 0, got, 10, &next), 2);
    assert_ptr_equal(got[1], &c->task[0]);
    assert_int_equal(next, 103);
    task_move(&b, &c->task[1], TASK_QUEUED); /* a damaged result */
    book_durable(&b, 104);
    assert_int_equal(j->n_shown[TASK_DONE], 1);
    book_release(&b);
}

/* Thousands of moves: the log drops what is stale and loses nothing. */
static void test_log_compacts(void **state)
{
    struct book   b;
    struct job   *j;
    struct batch *c;
    struct task  *got[512];
    uint64_t      next, cursor = 0;
    size_t        n, total = 0;

    (void)state;
    book_init(&b, 1, 0);
    j = book_job(&b, (const uint8_t *)"0123456789abcdef", str_of("a"), 1000, 5);
    c = add(&b, j, 0, 1000, "");
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < 1000; i++) {
            task_move(&b, &c->task[i], TASK_DONE);
            if (round < 19) task_move(&b, &c->task[i], TASK_QUEUED);
        }
    book_durable(&b, b.seq);
    assert_true(b.log.cap < 8000);
    do {
        n = book_events(&b, j, cursor, got, 512, &next);
        for (size_t i = 0; i < n; i++) assert_true(got[i]->seq > cursor && got[i]->seq <= next);
        total += n;
        if (next == cursor) break;
        cursor = next;
    } while (1);
    assert_int_equal(total, 1000);
    book_release(&b);
}

static void test_batches(void **state)
{
    struct book   b;
    struct job   *j;
    struct batch *c, *same;
    uint8_t       sha[32] = {0};

    (void)state;
    book_init(&b, 1, 0);
    j = book_job(&b, (const uint8_t *)"0123456789abcdef", str_of("a"), 100, 5);
    c = add(&b, j, 10, 10, "m");
    assert_non_null(add(&b, j, 0, 10, "m"));
    assert_non_null(add(&b, j, 20, 5, "n"));
    assert_ptr_equal(j->batch->next, c);
    for (uint32_t first = 1; first < 25; first++) {
        assert_null(job_batch(j, first, 1, sha, &same));
        assert_null(same);
    }
    assert_null(job_batch(j, 10, 10, sha, &same));
    assert_ptr_equal(same, c);
    assert_int_equal(j->n_known, 25);
    assert_non_null(j->lane->sister); /* two models, two lanes */
    assert_null(j->lane->sister->sister);
    batch_drop(&b, c);
    assert_int_equal(j->n_known, 15);
    assert_null(book_task(&b, 1 << 20 | 10));
    assert_non_null(book_task(&b, 1 << 20 | 20));
    assert_ptr_equal(book_find_key(&b, (const uint8_t *)"0123456789abcdef"), j);
    book_drop(&b, &j, 1);
    assert_null(book_find(&b, 1));
    book_release(&b);
}

static void test_rate(void **state)
{
    struct job j = {0};

    (void)state;
    assert_true(job_rate(&j, 0) == 0);
    for (int i = 0; i <= 40; i++) job_completed(&j, 1000 * i); /* one a second */
    assert_true(job_rate(&j, 40000) > 0.99f && job_rate(&j, 40000) < 1.01f);
    assert_true(job_rate(&j, 400000) < 0.1f); /* nothing for long */
    memset(&j, 0, sizeof j);
    for (int i = 0; i < 3; i++) job_completed(&j, 100000 * i); /* one in 100 s: older than the window, still known */
    assert_true(job_rate(&j, 200000) > 0.0099f && job_rate(&j, 200000) < 0.0101f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrows),       cmocka_unit_test(test_illegal_move_dies), cmocka_unit_test(test_counts_and_events),
        cmocka_unit_test(test_log_compacts), cmocka_unit_test(test_batches),           cmocka_unit_test(test_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

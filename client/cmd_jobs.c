/* cmd_jobs.c - questions with one answer: jobs, show, workers, cancel. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "client/commands.h"
#include "client/print.h"

#define TABLE_BYTES      ((size_t)64 << 20)
#define CONFIRM_MS       60000 /* a step of a large picture on a CPU may take longer: then it is said */
#define CONFIRM_EVERY_MS 100

/* A reader that has seen enough (zfarm show 3 | head) is no failure. */
static int print_out(struct buf *b, struct err *e)
{
    bool whole = b->len == 0 || fwrite(b->at, 1, b->len, stdout) == b->len;

    buf_clear(b);
    whole = whole && fflush(stdout) == 0;
    return whole || errno == EPIPE ? 0 : err_errno(e, ERR_IO, "writing to standard output failed");
}

int cmd_jobs(struct args *a)
{
    struct session s;
    struct err     e = {0};
    struct msg     m;
    struct buf     b;
    int            rc;

    session_begin(&s, a);
    buf_init(&b, TABLE_BYTES);
    rc = session_open(&s, NULL, &e);
    if (rc == 0) rc = client_jobs(s.client, 0, (uint32_t)a->limit, &m, &e);
    if (rc == 0 && !a->json) {
        if (m.jobs_ok.n_jobs)
            print_jobs_head(&b);
        else
            buf_puts(&b, "no jobs\n");
    }
    for (size_t k = 0; rc == 0 && k < m.jobs_ok.n_jobs; k++) {
        if (a->json)
            print_job_json(&b, &m.jobs_ok.job[k]);
        else
            print_job_line(&b, &m.jobs_ok.job[k], wall_ms());
    }
    if (rc == 0) rc = print_out(&b, &e);
    buf_release(&b);
    return session_close(&s, rc, &e);
}

int cmd_show(struct args *a)
{
    struct session s;
    struct err     e = {0};
    struct buf     b;
    uint32_t       first = 0, n_tasks = 1;
    int            rc;

    session_begin(&s, a);
    buf_init(&b, TABLE_BYTES);
    rc = session_open(&s, NULL, &e);
    while (rc == 0 && first < n_tasks) {
        struct msg m;

        rc = client_show(s.client, a->job, first, SHOW_TASKS_MAX, &m, &e);
        if (rc) break;
        n_tasks = m.show_ok.job.n_tasks;
        if (first == 0 && a->json) print_job_json(&b, &m.show_ok.job);
        if (first == 0 && !a->json) {
            print_jobs_head(&b);
            print_job_line(&b, &m.show_ok.job, wall_ms());
            buf_putc(&b, '\n');
            print_tasks_head(&b);
        }
        for (size_t k = 0; k < m.show_ok.n_tasks; k++) {
            if (a->json)
                print_task_json(&b, &m.show_ok.task[k]);
            else
                print_task_line(&b, &m.show_ok.task[k]);
            first = m.show_ok.task[k].info.index + 1;
        }
        rc = print_out(&b, &e);
        if (m.show_ok.n_tasks == 0) break; /* the rest was never submitted */
    }
    buf_release(&b);
    return session_close(&s, rc, &e);
}

int cmd_workers(struct args *a)
{
    struct session s;
    struct err     e = {0};
    struct msg     m;
    struct buf     b;
    int            rc;

    session_begin(&s, a);
    buf_init(&b, TABLE_BYTES);
    rc = session_open(&s, NULL, &e);
    if (rc == 0) rc = client_workers(s.client, &m, &e);
    if (rc == 0 && !a->json) {
        if (m.workers_ok.n_workers)
            print_workers_head(&b);
        else
            buf_printf(&b, "no workers: zfarm-worker --broker %s --model DIR starts one\n", client_endpoint(s.client));
    }
    for (size_t k = 0; rc == 0 && k < m.workers_ok.n_workers; k++) {
        const struct worker_info *w = &m.workers_ok.worker[k];

        if (a->json)
            print_worker_json(&b, w);
        else
            print_worker_line(&b, w);
        if (!a->json && w->n_ranks > 1) print_worker_ranks(&b, w); /* of one device the line has said enough */
    }
    if (rc == 0) rc = print_out(&b, &e);
    buf_release(&b);
    return session_close(&s, rc, &e);
}

/* Until every worker has let go of the job's canceled images, each at the end of its step. *left: how many have not after CONFIRM_MS. */
static int confirm(struct session *s, uint64_t job, uint32_t *left, struct err *e)
{
    int64_t until = now_ms() + CONFIRM_MS;
    int     rc = 0;

    do {
        struct msg m;

        sleep_ms(CONFIRM_EVERY_MS);
        rc = client_jobs(s->client, job, 1, &m, e);
        if (rc == 0) *left = m.jobs_ok.n_jobs ? m.jobs_ok.job[0].n_canceling : 0;
    } while (rc == 0 && *left && now_ms() < until);
    return rc;
}

int cmd_cancel(struct args *a)
{
    struct session   s;
    struct err       e = {0};
    struct cancel_ok c = {0};
    uint32_t         left;
    int              rc;

    session_begin(&s, a);
    rc = session_open(&s, NULL, &e);
    if (rc == 0) rc = client_cancel(s.client, a->job, &c, &e);
    left = c.n_canceling;
    if (rc == 0 && left && !a->json) {
        printf("job %" PRIu64 ": %" PRIu32 " running image%s stop%s at the end of the step\n", a->job, left, left == 1 ? "" : "s", left == 1 ? "s" : "");
        fflush(stdout);
    }
    if (rc == 0 && left) rc = confirm(&s, a->job, &left, &e);
    if (rc == 0 && a->json) {
        printf("{\"job\":%" PRIu64 ",\"canceled\":%" PRIu32 ",\"canceling\":%" PRIu32 ",\"finished\":%" PRIu32 "}\n", a->job,
               c.n_canceled + c.n_canceling - left, left, c.n_finished);
    } else if (rc == 0) {
        c.n_canceled += c.n_canceling - left;
        printf("job %" PRIu64 ": %" PRIu32 " image%s canceled", a->job, c.n_canceled, c.n_canceled == 1 ? "" : "s");
        if (left) printf(", %" PRIu32 " still stopping: zfarm jobs says when", left);
        if (c.n_finished) printf(", %" PRIu32 " finished before", c.n_finished);
        printf("\n");
    }
    return session_close(&s, rc, &e);
}

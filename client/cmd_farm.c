/* cmd_farm.c - what goes wrong on a farm, and what to do: dead, requeue, drain, pause, resume. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "client/commands.h"
#include "client/print.h"

#define TABLE_BYTES ((size_t)16 << 20)

static int put(struct buf *b, struct err *e)
{
    bool whole = (b->len == 0 || fwrite(b->at, 1, b->len, stdout) == b->len) && fflush(stdout) == 0;

    buf_clear(b);
    return whole || errno == EPIPE ? 0 : err_errno(e, ERR_IO, "writing to standard output failed");
}

/* The failed images of one job, page by page. */
static int dead_of(struct session *s, uint64_t job, struct buf *b, uint64_t *n_dead, struct err *e)
{
    uint32_t first = 0, n_tasks = 1;
    int      rc = 0;

    while (rc == 0 && first < n_tasks) {
        struct msg m;

        if ((rc = client_show(s->client, job, first, SHOW_TASKS_MAX, &m, e))) break;
        n_tasks = m.show_ok.job.n_tasks;
        for (size_t k = 0; k < m.show_ok.n_tasks; k++) {
            const struct shown *t = &m.show_ok.task[k];

            first = t->info.index + 1;
            if (t->info.state != TASK_FAILED && t->info.state != TASK_EXPIRED) continue;
            if (s->a->json) {
                buf_printf(b, "{\"job\":%" PRIu64 ",\"image\":", job);
                print_task_json(b, t);
                while (b->len && b->at[b->len - 1] == '\n') b->len--;
                buf_puts(b, "}\n");
            } else {
                buf_printf(b, "%" PRIu64 ":%" PRIu32 "  after %" PRIu32 " tries", job, t->info.index, t->info.attempts);
                if (t->info.worker.len) {
                    buf_puts(b, ", last on ");
                    print_safe(b, t->info.worker, 60);
                }
                buf_puts(b, ": ");
                print_safe(b, t->info.error, 300);
                buf_putc(b, '\n');
            }
            ++*n_dead;
        }
        if (m.show_ok.n_tasks == 0) break; /* the rest was never submitted */
        rc = put(b, e);
    }
    return rc;
}

int cmd_dead(struct args *a)
{
    struct session s;
    struct err     e = {0};
    struct msg     m;
    struct buf     b;
    uint64_t       job[JOBS_MAX], n_dead = 0;
    size_t         n_jobs = 0;
    int            rc;

    session_begin(&s, a);
    buf_init(&b, TABLE_BYTES);
    rc = session_open(&s, NULL, &e);
    if (rc == 0) rc = client_jobs(s.client, 0, JOBS_MAX, &m, &e);
    for (size_t k = 0; rc == 0 && k < m.jobs_ok.n_jobs; k++) /* the answer lives until the next question */
        if (m.jobs_ok.job[k].n_failed || m.jobs_ok.job[k].n_expired) job[n_jobs++] = m.jobs_ok.job[k].job;
    for (size_t k = 0; rc == 0 && k < n_jobs; k++) rc = dead_of(&s, job[k], &b, &n_dead, &e);
    if (rc == 0 && !n_dead && !a->json) buf_puts(&b, "no failed images\n");
    if (rc == 0) rc = put(&b, &e);
    buf_release(&b);
    return session_close(&s, rc, &e);
}

int cmd_requeue(struct args *a)
{
    struct session    s;
    struct err        e = {0};
    struct control_ok ok = {0};
    int               rc;

    session_begin(&s, a);
    rc = session_open(&s, NULL, &e);
    if (rc == 0) rc = client_requeue(s.client, a->job, a->index, &ok, &e);
    if (rc == 0 && a->json) printf("{\"job\":%" PRIu64 ",\"requeued\":%" PRIu32 "}\n", a->job, ok.n);
    if (rc == 0 && !a->json) printf("job %" PRIu64 ": %" PRIu32 " failed image%s in the queue again\n", a->job, ok.n, ok.n == 1 ? "" : "s");
    return session_close(&s, rc, &e);
}

int cmd_drain(struct args *a)
{
    struct session    s;
    struct err        e = {0};
    struct control_ok ok = {0};
    int               rc;

    session_begin(&s, a);
    rc = session_open(&s, NULL, &e);
    if (rc == 0) rc = client_drain(s.client, a->worker, a->undo, &ok, &e);
    if (rc == 0 && a->json) printf("{\"changed\":%" PRIu32 ",\"quarantine_over\":%s}\n", ok.n, ok.quarantine_over ? "true" : "false");
    if (rc == 0 && !a->json)
        printf("%s: %s\n", a->worker,
               ok.quarantine_over ? "gets work again: its quarantine is over, and faults are counted anew"
               : !ok.n            ? "nothing to change"
               : a->undo          ? "gets work again"
                                  : "gets no more work; zfarm workers says when it is drained");
    return session_close(&s, rc, &e);
}

static int pause_or_resume(struct args *a, bool resume)
{
    struct session    s;
    struct err        e = {0};
    struct control_ok ok = {0};
    const char       *whose = a->client ? a->client : "";
    int               rc;

    session_begin(&s, a);
    rc = session_open(&s, NULL, &e);
    if (rc == 0) rc = client_pause(s.client, whose, resume, &ok, &e);
    if (rc == 0 && a->json) printf("{\"changed\":%" PRIu32 "}\n", ok.n);
    if (rc == 0 && !a->json)
        printf("%s: %s\n", a->client ? a->client : "the farm", !ok.n ? "nothing to change" : resume ? "goes on" : "paused; what runs is finished, and new jobs are taken");
    return session_close(&s, rc, &e);
}

int cmd_pause(struct args *a)
{
    return pause_or_resume(a, false);
}

int cmd_resume(struct args *a)
{
    return pause_or_resume(a, true);
}

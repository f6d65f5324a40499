/* cmd_watch.c - follow a job that is under way: only look (watch), or fetch its images, too (gather). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "client/commands.h"
#include "client/report.h"

static int follow_job(struct session *s, struct gather *g, struct follow *f, struct err *e)
{
    int rc = session_open(s, NULL, e);

    if (rc) return rc;
    f->client = s->client;
    f->job = s->a->job;
    f->bar = &s->bar;
    f->gather = g;
    f->keep = s->a->keep;
    f->wait_ms = s->bar.mode == BAR_TTY ? 250 : 0;
    rc = follow_run(f, e);
    if (rc == ERR_NOTFOUND)
        err_set(e, rc, "job %" PRIu64 " is not known at %.150s: zfarm jobs lists what is", f->job, client_endpoint(s->client));
    return rc ? rc : ending_verdict(f, f->n_tasks, s, e);
}

int cmd_watch(struct args *a)
{
    struct session s;
    struct follow  f = {0};
    struct err     e = {0};
    int            rc;

    session_begin(&s, a);
    rc = follow_job(&s, NULL, &f, &e);
    follow_release(&f);
    return session_close(&s, rc, &e);
}

int cmd_gather(struct args *a)
{
    struct session s;
    struct gather  g = {0};
    struct follow  f = {0};
    struct err     e = {0};
    char           sheet[GATHER_PATH_BYTES] = "";
    int            rc;

    session_begin(&s, a);
    rc = gather_open(&g, a->out, false, &e);
    if (rc == 0 && a->sheet_said) rc = ending_sheet_path(a, a->out, sheet, &e);
    if (rc == 0) rc = follow_job(&s, &g, &f, &e);
    if (a->sheet_said && f.n_done && (rc == 0 || rc == ERR_STATE)) {
        uint32_t  *index = calloc(f.n_tasks, sizeof *index);
        struct err why = {0};

        for (uint32_t i = 0; index && i < f.n_tasks; i++) index[i] = i;
        if (index && report_sheet(sheet, f.file, index, f.n_tasks, &why) && rc == 0) {
            rc = why.code;
            e = why;
        }
        free(index);
    }
    if (rc == 0) ending_where(&s, a->out, sheet);
    follow_release(&f);
    gather_release(&g);
    return session_close(&s, rc, &e);
}

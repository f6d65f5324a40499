/* follow.c - read events, gather what is done, say what happens, until nothing is open.
 * Believes: the cursor is the truth; what runs (progress) is a courtesy.
 * Invariants: F1 a task is counted once, when its final state is first heard.  F2 COLLECTED only for files that are durable.
 * Not here: reconnecting (client.c). */
#include "client/follow.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "client/fields.h"

#define WAIT_MS    1000
#define PAUSE_MS   100   /* between two answers without an event */
#define PARTIAL_MS 30000 /* a job whose rest nobody submits is over after this */

struct pending { /* a finished task, copied out of the answer: fetching overwrites it */
    struct task_info info;
    char             label[LABEL_MAX_BYTES + 1], worker[NAME_MAX_BYTES + 1];
};

struct reading {
    struct pending *done; /* EVENTS_MAX */
    size_t          n_done;
    uint64_t       *collected; /* EVENTS_MAX task ids */
    size_t          n_collected;
    uint64_t        cursor;
    uint32_t        n_final;
    int64_t         moved_ms; /* when the number of known tasks last changed */
    uint32_t        n_known;
    bool            caught_up; /* what was finished before we asked is counted */
};

static uint32_t batch_index(const struct follow *f, uint32_t index)
{
    return f->index_of ? f->index_of[index] : index;
}

static int room(struct follow *f, uint32_t n_tasks, struct err *e)
{
    if (f->n_tasks == n_tasks) return 0;
    if (f->n_tasks || n_tasks == 0 || n_tasks > JOB_TASKS_MAX) {
        return err_set(e, ERR_PROTO, "the broker says that job %" PRIu64 " has %" PRIu32 " images", f->job, n_tasks);
    }
    f->file = calloc(n_tasks, sizeof *f->file);
    f->state = calloc(n_tasks, sizeof *f->state);
    if (!f->file || !f->state) return err_set(e, ERR_NOMEM, "no memory for %" PRIu32 " images", n_tasks);
    f->n_tasks = n_tasks;
    bar_begin(f->bar, f->job, n_tasks + f->n_there, f->n_there, now_ms());
    return 0;
}

static void copy_text(char *out, size_t cap, struct str *s)
{
    if (s->len >= cap) s->len = cap - 1;
    if (s->len) memcpy(out, s->at, s->len);
    out[s->len] = '\0';
    s->at = out;
}

/* Takes one event in: failures are said now, finished ones wait in r->done. */
static int event(struct follow *f, struct reading *r, const struct task_info *t, struct err *e)
{
    if (t->job != f->job || t->index >= f->n_tasks) {
        return err_set(e, ERR_PROTO, "the broker sent an event of image %" PRIu32 " of job %" PRIu64, t->index, t->job);
    }
    if (task_state_final((enum task_state)f->state[t->index])) return 0;
    f->state[t->index] = (uint8_t)t->state;
    if (!task_state_final(t->state)) return 0;
    r->n_final++;
    if (t->state == TASK_FAILED || t->state == TASK_EXPIRED) {
        f->n_failed++;
        bar_failed(f->bar, batch_index(f, t->index), t->error.len ? t->error : str_of("the worker gave no reason"), now_ms());
    } else if (t->state == TASK_CANCELED) {
        f->n_canceled++;
        bar_canceled(f->bar, 1, now_ms());
    } else {
        struct pending *p = &r->done[r->n_done++];

        p->info = *t;
        p->info.error = str_of("");
        copy_text(p->label, sizeof p->label, &p->info.label);
        copy_text(p->worker, sizeof p->worker, &p->info.worker);
    }
    return 0;
}

static const struct part *part_of(const struct task_info *t, enum part_kind kind)
{
    for (size_t k = 0; k < t->n_parts; k++)
        if (t->part[k].kind == kind) return &t->part[k];
    return NULL;
}

/* A label is somebody's wish: one that cannot be a file's name gives way to index and seed. */
static int file_of(struct follow *f, const struct task_info *t, char path[GATHER_PATH_BYTES], struct err *e)
{
    char name[GATHER_PATH_BYTES];
    int  rc;

    if (f->name) rc = f->name(f->name_ctx, t, name, e);
    else if (field_file_name(t->label, t->index, t->seed, name, NULL) == 0) rc = 0;
    else rc = field_file_name(str_of(""), t->index, t->seed, name, e);
    return rc ? rc : gather_path(f->gather, name, path, e);
}

/* Does this error end everything, or only this image? */
static bool ends_all(int rc)
{
    return rc != ERR_CONFLICT && rc != ERR_NOTFOUND && rc != ERR_FORMAT && rc != ERR_ARG;
}

static int save(struct follow *f, struct reading *r, const struct pending *p, struct err *e)
{
    const struct task_info *t = &p->info;
    const struct part      *image = part_of(t, PART_IMAGE), *latents = part_of(t, PART_LATENTS);
    char                    path[GATHER_PATH_BYTES] = "", sum[SHA256_HEX];
    bool                    there = false, latents_there = false;
    int                     rc = 0;

    if (!image) rc = err_set(e, ERR_NOTFOUND, "the broker has no picture of it");
    if (rc == 0) rc = file_of(f, t, path, e);
    if (rc == 0) rc = gather_part(f->gather, f->client, t->task, image, path, &there, e);
    if (rc == ERR_NOTFOUND && t->collected) rc = err_set(e, rc, "it was gathered before, and the broker no longer keeps it");
    if (rc == 0 && f->latents && !latents) rc = err_set(e, ERR_NOTFOUND, "the worker delivered no latents");
    if (rc == 0 && f->latents) rc = gather_part(f->gather, f->client, t->task, latents, f->latents, &latents_there, e);
    if (rc && ends_all(rc)) return rc;
    if (rc) {
        f->n_failed++;
        bar_failed(f->bar, batch_index(f, t->index), str_of(e ? e->text : "it cannot be gathered"), now_ms());
        return 0;
    }
    f->file[t->index] = strdup(path);
    if (!f->file[t->index]) return err_set(e, ERR_NOMEM, "no memory for a path");
    f->n_done++;
    f->n_skipped += there;
    if (f->manifest) rc = manifest_done(f->manifest, batch_index(f, t->index), image, e);
    if (!t->collected) r->collected[r->n_collected++] = t->task;
    hex_of(image->sha256, SHA256_BYTES, sum);
    bar_image(f->bar, batch_index(f, t->index), path, t->seed, t->took_ms, t->worker, sum, now_ms());
    return rc;
}

static int collect(struct follow *f, struct reading *r, struct err *e)
{
    int rc = 0;

    if (!f->keep && r->n_collected) rc = client_collected(f->client, r->collected, r->n_collected, e);
    r->n_collected = 0;
    return rc;
}

static int save_all(struct follow *f, struct reading *r, struct err *e)
{
    int rc = 0;

    for (size_t k = 0; k < r->n_done && rc == 0; k++) {
        const struct task_info *t = &r->done[k].info;

        if (f->gather) {
            rc = save(f, r, &r->done[k], e);
        } else {
            const struct part *image = part_of(t, PART_IMAGE);
            char               sum[SHA256_HEX] = "";

            if (image) hex_of(image->sha256, SHA256_BYTES, sum);
            f->n_done++;
            bar_image(f->bar, t->index, "", t->seed, t->took_ms, t->worker, sum, now_ms());
        }
        if (r->n_collected >= 32 && rc == 0) rc = collect(f, r, e);
    }
    r->n_done = 0;
    return rc ? rc : collect(f, r, e);
}

/* Nothing is open: every task is final, or the rest was never submitted and nobody seems to do it. */
static int finished(struct follow *f, struct reading *r, const struct job_info *j, bool *end, struct err *e)
{
    uint32_t known = j->n_queued + j->n_running + j->n_done + j->n_failed + j->n_canceled + j->n_expired;

    *end = r->n_final >= f->n_tasks;
    if (*end) return 0;
    if (known != r->n_known) {
        r->n_known = known;
        r->moved_ms = now_ms();
    }
    if (known < f->n_tasks && r->n_final >= known && now_ms() - r->moved_ms > PARTIAL_MS) {
        return err_set(e, ERR_STATE,
                       "only %" PRIu32 " of the %" PRIu32 " images of job %" PRIu64
                       " were ever submitted: run its batch again with --resume",
                       known, f->n_tasks, f->job);
    }
    return 0;
}

static int read_events(struct follow *f, struct reading *r, struct err *e)
{
    uint32_t wait = f->wait_ms ? f->wait_ms : WAIT_MS;
    bool     end = false;
    uint8_t  store[KEY_BYTES];

    memcpy(store, client_store(f->client), KEY_BYTES);
    while (!end) {
        struct msg              m;
        const struct events_ok *ok = &m.events_ok;
        struct job_info         job;
        int64_t                 asked = now_ms();
        size_t                  n_events;
        int                     rc = client_events(f->client, f->job, r->cursor, wait, &m, e);

        if (rc) return rc;
        if (memcmp(store, ok->store, KEY_BYTES) != 0) {
            return err_set(e, ERR_STATE, "the broker came back with another data folder, where job %" PRIu64 " is not known", f->job);
        }
        if (ok->n_events > EVENTS_MAX || ok->job.job != f->job)
            return err_set(e, ERR_PROTO, "the broker answered with another job's events");
        job = ok->job;
        n_events = ok->n_events;
        r->cursor = ok->next_cursor;
        rc = room(f, job.n_tasks, e);
        for (size_t k = 0; k < n_events && rc == 0; k++) rc = event(f, r, &ok->event[k], e);
        if (rc == 0) bar_running(f->bar, ok->progress, ok->n_progress, now_ms());
        if (rc == 0) bar_note(f->bar, job.why, now_ms());
        if (rc == 0) rc = save_all(f, r, e);
        if (rc == 0 && !r->caught_up && n_events < EVENTS_MAX) {
            r->caught_up = true;
            bar_caught_up(f->bar, now_ms());
        }
        if (rc == 0) rc = finished(f, r, &job, &end, e);
        if (rc) return rc;
        if (!end && n_events == 0 && now_ms() - asked < PAUSE_MS) sleep_ms(PAUSE_MS);
    }
    return 0;
}

int follow_run(struct follow *f, struct err *e)
{
    struct reading r = {.moved_ms = now_ms()};
    int            rc = 0;

    r.done = calloc(EVENTS_MAX, sizeof *r.done);
    r.collected = calloc(EVENTS_MAX, sizeof *r.collected);
    if (!r.done || !r.collected) rc = err_set(e, ERR_NOMEM, "no memory for events");
    if (rc == 0) rc = read_events(f, &r, e);
    bar_end(f->bar, now_ms());
    free(r.done);
    free(r.collected);
    return rc;
}

void follow_release(struct follow *f)
{
    for (uint32_t i = 0; f->file && i < f->n_tasks; i++) free(f->file[i]);
    free(f->file);
    free(f->state);
    f->file = NULL;
    f->state = NULL;
}

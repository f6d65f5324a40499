/* wire_job.c - what clients and broker say: submissions, jobs, events, fetching. Field by field, in the order of msg.h.
 * Not here: ranges (check.c), frames (wire.c). */
#include <string.h>

#include "proto/wire_in.h"

/* As every pack_*: a fresh protobuf message of TYPE in the arena. Lower-case names follow protobuf-c's. */
#define NEW(type, init)                                                                                                                   \
    type *p = arena_take(a, sizeof *p);                                                                                                    \
    if (!p) return NULL;                                                                                                                   \
    init(p)
#define BODY(type) const type *p = (const type *)(const void *)body; (void)a; (void)e

static ProtobufCMessage *pack_submit(const struct msg *m, struct arena *a)
{
    const struct submit *s = &m->submit;
    NEW(Zfarm__Submit, zfarm__submit__init);

    if (s->n_items > SUBMIT_ITEMS_MAX) return NULL;
    p->key = wire_bytes(s->key, KEY_BYTES);
    p->name = wire_text(s->name);
    p->n_tasks = s->n_tasks;
    p->first_task = s->first_task;
    p->job_class = (Zfarm__JobClass)s->job_class;
    p->deadline_ms = s->deadline_ms;
    p->n_items = s->n_items;
    p->items = arena_array(a, s->n_items + 1, sizeof *p->items);
    if (!p->items) return NULL;
    for (size_t i = 0; i < s->n_items; i++)
        if (!(p->items[i] = wire_item_to(&s->item[i], a))) return NULL;
    return &p->base;
}

static int unpack_submit(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    struct submit *s = &m->submit;
    int            rc;
    BODY(Zfarm__Submit);

    if ((rc = wire_fixed(p->key, s->key, KEY_BYTES, "the key", e))) return rc;
    s->name = wire_str(p->name);
    s->n_tasks = p->n_tasks;
    s->first_task = p->first_task;
    s->job_class = p->job_class ? (enum job_class)p->job_class : CLASS_NORMAL; /* a client of before knows no classes */
    s->deadline_ms = p->deadline_ms;
    s->n_items = p->n_items;
    if (!(s->item = arena_array(a, p->n_items, sizeof *s->item))) return wire_full(e);
    for (size_t i = 0; !rc && i < p->n_items; i++) rc = wire_item_from(p->items[i], &s->item[i], e);
    return rc;
}

static ProtobufCMessage *pack_submit_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__SubmitOk, zfarm__submit_ok__init);
    p->job = m->submit_ok.job;
    p->duplicate = m->submit_ok.duplicate;
    p->n_tasks_known = m->submit_ok.n_tasks_known;
    return &p->base;
}

static int unpack_submit_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__SubmitOk);
    m->submit_ok = (struct submit_ok){p->job, p->duplicate != 0, p->n_tasks_known};
    return 0;
}

static ProtobufCMessage *pack_cancel(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Cancel, zfarm__cancel__init);
    p->job = m->cancel.job;
    return &p->base;
}

static int unpack_cancel(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Cancel);
    m->cancel.job = p->job;
    return 0;
}

static ProtobufCMessage *pack_cancel_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__CancelOk, zfarm__cancel_ok__init);
    p->n_canceled = m->cancel_ok.n_canceled;
    p->n_canceling = m->cancel_ok.n_canceling;
    p->n_finished = m->cancel_ok.n_finished;
    return &p->base;
}

static int unpack_cancel_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__CancelOk);
    m->cancel_ok = (struct cancel_ok){p->n_canceled, p->n_canceling, p->n_finished};
    return 0;
}

static ProtobufCMessage *pack_jobs(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Jobs, zfarm__jobs__init);
    p->job = m->jobs.job;
    p->limit = m->jobs.limit;
    return &p->base;
}

static int unpack_jobs(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Jobs);
    m->jobs = (struct jobs){p->job, p->limit};
    return 0;
}

static void job_info_to(const struct job_info *j, Zfarm__JobInfo *p, struct arena *a)
{
    zfarm__job_info__init(p);
    p->job = j->job;
    p->key = wire_bytes(j->key, KEY_BYTES);
    p->name = wire_text(j->name);
    p->created_wall_ms = j->created_wall_ms;
    p->n_tasks = j->n_tasks;
    p->n_queued = j->n_queued;
    p->n_running = j->n_running;
    p->n_done = j->n_done;
    p->n_failed = j->n_failed;
    p->n_canceled = j->n_canceled;
    p->n_collected = j->n_collected;
    p->eta_ms = j->eta_ms;
    p->images_per_s = j->images_per_s;
    p->why = wire_words(j->why, a);
    p->job_class = (Zfarm__JobClass)j->job_class;
    p->client = wire_text(j->client);
    p->n_expired = j->n_expired;
    p->n_canceling = j->n_canceling;
    p->deadline_ms = j->deadline_ms;
}

static int job_info_from(const Zfarm__JobInfo *p, struct job_info *j, struct err *e)
{
    if (!p) return err_set(e, ERR_PROTO, "a job is missing");
    j->job = p->job;
    j->name = wire_str(p->name);
    j->created_wall_ms = p->created_wall_ms;
    j->n_tasks = p->n_tasks;
    j->n_queued = p->n_queued;
    j->n_running = p->n_running;
    j->n_done = p->n_done;
    j->n_failed = p->n_failed;
    j->n_canceled = p->n_canceled;
    j->n_collected = p->n_collected;
    j->eta_ms = p->eta_ms;
    j->images_per_s = p->images_per_s;
    j->why = wire_str(p->why);
    j->job_class = p->job_class ? (enum job_class)p->job_class : CLASS_NORMAL;
    j->client = wire_str(p->client);
    j->n_expired = p->n_expired;
    j->n_canceling = p->n_canceling;
    j->deadline_ms = p->deadline_ms;
    return wire_fixed(p->key, j->key, KEY_BYTES, "a job's key", e);
}

static ProtobufCMessage *pack_jobs_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__JobsOk, zfarm__jobs_ok__init);
    p->n_jobs = m->jobs_ok.n_jobs;
    if (!(p->jobs = wire_list(a, p->n_jobs, sizeof **p->jobs))) return NULL;
    for (size_t i = 0; i < p->n_jobs; i++) job_info_to(&m->jobs_ok.job[i], p->jobs[i], a);
    return &p->base;
}

static int unpack_jobs_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    int rc = 0;
    BODY(Zfarm__JobsOk);

    m->jobs_ok.n_jobs = p->n_jobs;
    if (!(m->jobs_ok.job = arena_array(a, p->n_jobs, sizeof *m->jobs_ok.job))) return wire_full(e);
    for (size_t i = 0; !rc && i < p->n_jobs; i++) rc = job_info_from(p->jobs[i], &m->jobs_ok.job[i], e);
    return rc;
}

static ProtobufCMessage *pack_show(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Show, zfarm__show__init);
    p->job = m->show.job;
    p->first_task = m->show.first_task;
    p->limit = m->show.limit;
    return &p->base;
}

static int unpack_show(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Show);
    m->show = (struct show){p->job, p->first_task, p->limit};
    return 0;
}

static bool task_info_to(const struct task_info *t, Zfarm__TaskInfo *p, struct arena *a)
{
    zfarm__task_info__init(p);
    p->seq = t->seq;
    p->job = t->job;
    p->task = t->task;
    p->index = t->index;
    p->state = (Zfarm__TaskState)t->state;
    p->seed = t->seed;
    p->width_px = t->width_px;
    p->height_px = t->height_px;
    p->label = wire_text(t->label);
    p->took_ms = t->took_ms;
    p->attempts = t->attempts;
    p->collected = t->collected;
    p->worker = wire_text(t->worker);
    p->error = wire_words(t->error, a);
    p->n_parts = t->n_parts;
    return (p->parts = wire_parts_to(t->part, t->bytes, t->n_parts, a)) != NULL;
}

static int task_info_from(const Zfarm__TaskInfo *p, struct task_info *t, struct err *e)
{
    if (!p) return err_set(e, ERR_PROTO, "a task is missing");
    t->seq = p->seq;
    t->job = p->job;
    t->task = p->task;
    t->index = p->index;
    t->state = (enum task_state)p->state;
    t->seed = p->seed;
    t->width_px = p->width_px;
    t->height_px = p->height_px;
    t->label = wire_str(p->label);
    t->took_ms = p->took_ms;
    t->attempts = p->attempts;
    t->collected = p->collected != 0;
    t->worker = wire_str(p->worker);
    t->error = wire_str(p->error);
    return wire_parts_from(p->parts, p->n_parts, t->part, t->bytes, &t->n_parts, e);
}

static ProtobufCMessage *pack_show_ok(const struct msg *m, struct arena *a)
{
    const struct show_ok *s = &m->show_ok;
    NEW(Zfarm__ShowOk, zfarm__show_ok__init);

    if (!(p->job = arena_take(a, sizeof *p->job))) return NULL;
    job_info_to(&s->job, p->job, a);
    p->n_tasks = s->n_tasks;
    if (!(p->tasks = wire_list(a, s->n_tasks, sizeof **p->tasks))) return NULL;
    for (size_t i = 0; i < s->n_tasks; i++) {
        zfarm__shown__init(p->tasks[i]);
        p->tasks[i]->info = arena_take(a, sizeof *p->tasks[i]->info);
        p->tasks[i]->spec = arena_take(a, sizeof *p->tasks[i]->spec);
        if (!p->tasks[i]->info || !p->tasks[i]->spec || !task_info_to(&s->task[i].info, p->tasks[i]->info, a)) return NULL;
        wire_spec_pack(&s->task[i].spec, p->tasks[i]->spec);
    }
    return &p->base;
}

static int unpack_show_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    struct show_ok *s = &m->show_ok;
    int             rc;
    BODY(Zfarm__ShowOk);

    if ((rc = job_info_from(p->job, &s->job, e))) return rc;
    s->n_tasks = p->n_tasks;
    if (!(s->task = arena_array(a, p->n_tasks, sizeof *s->task))) return wire_full(e);
    for (size_t i = 0; !rc && i < p->n_tasks; i++) {
        if (!p->tasks[i]->spec) return err_set(e, ERR_PROTO, "a task without a spec");
        wire_spec_unpack(p->tasks[i]->spec, &s->task[i].spec);
        rc = task_info_from(p->tasks[i]->info, &s->task[i].info, e);
    }
    return rc;
}

static ProtobufCMessage *pack_events(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Events, zfarm__events__init);
    p->job = m->events.job;
    p->cursor = m->events.cursor;
    p->limit = m->events.limit;
    p->wait_ms = m->events.wait_ms;
    p->inline_bytes = m->events.inline_bytes;
    return &p->base;
}

static int unpack_events(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Events);
    m->events = (struct events){p->job, p->cursor, p->limit, p->wait_ms, p->inline_bytes};
    return 0;
}

static ProtobufCMessage *pack_events_ok(const struct msg *m, struct arena *a)
{
    const struct events_ok *o = &m->events_ok;
    NEW(Zfarm__EventsOk, zfarm__events_ok__init);

    p->next_cursor = o->next_cursor;
    p->store = wire_bytes(o->store, KEY_BYTES);
    p->n_events = o->n_events;
    if (!(p->events = wire_list(a, o->n_events, sizeof **p->events))) return NULL;
    for (size_t i = 0; i < o->n_events; i++)
        if (!task_info_to(&o->event[i], p->events[i], a)) return NULL;
    p->n_progress = o->n_progress;
    if (!(p->progress = wire_progress_to(o->progress, o->n_progress, a))) return NULL;
    if (o->job.job) {
        if (!(p->job = arena_take(a, sizeof *p->job))) return NULL;
        job_info_to(&o->job, p->job, a);
    }
    return &p->base;
}

static int unpack_events_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    struct events_ok *o = &m->events_ok;
    int               rc;
    BODY(Zfarm__EventsOk);

    o->next_cursor = p->next_cursor;
    if ((rc = wire_fixed(p->store, o->store, KEY_BYTES, "the store's name", e))) return rc;
    o->n_events = p->n_events;
    if (!(o->event = arena_array(a, p->n_events, sizeof *o->event))) return wire_full(e);
    for (size_t i = 0; !rc && i < p->n_events; i++) rc = task_info_from(p->events[i], &o->event[i], e);
    o->n_progress = p->n_progress;
    if (!rc) rc = wire_progress_from(p->progress, p->n_progress, a, &o->progress, e);
    if (!rc && p->job) rc = job_info_from(p->job, &o->job, e);
    if (!rc && p->job && !p->job->job) rc = err_set(e, ERR_PROTO, "a job without a number");
    return rc;
}

static ProtobufCMessage *pack_fetch(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Fetch, zfarm__fetch__init);
    p->task = m->fetch.task;
    p->kind = (Zfarm__PartKind)m->fetch.kind;
    p->offset = m->fetch.offset;
    p->credit_bytes = m->fetch.credit_bytes;
    p->transfer = m->fetch.transfer;
    return &p->base;
}

static int unpack_fetch(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Fetch);
    m->fetch = (struct fetch){.task = p->task, .kind = (enum part_kind)p->kind, .offset = p->offset, .credit_bytes = p->credit_bytes,
                              .transfer = p->transfer};
    return 0;
}

static ProtobufCMessage *pack_fetch_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__FetchOk, zfarm__fetch_ok__init);
    p->transfer = m->fetch_ok.transfer;
    p->part = wire_part_to(&m->fetch_ok.part, m->fetch_ok.bytes, a);
    return p->part ? &p->base : NULL;
}

static int unpack_fetch_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__FetchOk);
    m->fetch_ok.transfer = p->transfer;
    return wire_part_from(p->part, &m->fetch_ok.part, &m->fetch_ok.bytes, e);
}

static ProtobufCMessage *pack_collected(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Collected, zfarm__collected__init);
    p->n_tasks = m->collected.n_tasks;
    p->tasks = m->collected.task;
    return &p->base;
}

static int unpack_collected(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Collected);
    m->collected = (struct collected){p->tasks, p->n_tasks};
    return 0;
}

static ProtobufCMessage *pack_collected_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__CollectedOk, zfarm__collected_ok__init);
    p->n_known = m->collected_ok.n_known;
    return &p->base;
}

static int unpack_collected_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__CollectedOk);
    m->collected_ok.n_known = p->n_known;
    return 0;
}

static ProtobufCMessage *pack_workers_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__WorkersOk, zfarm__workers_ok__init);
    p->n_workers = m->workers_ok.n_workers;
    if (!(p->workers = wire_list(a, p->n_workers, sizeof **p->workers))) return NULL;
    for (size_t i = 0; i < p->n_workers; i++) {
        const struct worker_info *w = &m->workers_ok.worker[i];
        Zfarm__WorkerInfo        *q = p->workers[i];

        zfarm__worker_info__init(q);
        q->name = wire_text(w->name);
        q->device = wire_text(w->device);
        q->about = wire_text(w->about);
        q->version = wire_text(w->version);
        q->state = wire_text(w->state);
        q->n_models = w->n_models;
        q->capacity = w->capacity;
        q->n_held = w->n_held;
        q->n_progress = w->n_progress;
        q->n_ranks = w->n_ranks;
        q->n_done = w->n_done;
        q->n_failed = w->n_failed;
        q->ms_per_image = w->ms_per_image;
        q->silent_ms = w->silent_ms;
        q->why = wire_words(w->why, a);
        q->max_batch = w->max_batch;
        if (!(q->models = wire_models_to(w->model, w->n_models, a))) return NULL;
        if (!(q->progress = wire_progress_to(w->progress, w->n_progress, a))) return NULL;
        if (!(q->ranks = wire_ranks_to(w->rank, w->n_ranks, a))) return NULL;
    }
    return &p->base;
}

static int unpack_workers_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    int rc = 0;
    BODY(Zfarm__WorkersOk);

    m->workers_ok.n_workers = p->n_workers;
    if (!(m->workers_ok.worker = arena_array(a, p->n_workers, sizeof *m->workers_ok.worker))) return wire_full(e);
    for (size_t i = 0; !rc && i < p->n_workers; i++) {
        struct worker_info      *w = &m->workers_ok.worker[i];
        const Zfarm__WorkerInfo *q = p->workers[i];

        *w = (struct worker_info){.name = wire_str(q->name), .device = wire_str(q->device), .about = wire_str(q->about),
                                  .version = wire_str(q->version), .state = wire_str(q->state), .n_models = q->n_models,
                                  .capacity = q->capacity, .n_held = q->n_held, .n_progress = q->n_progress, .n_done = q->n_done,
                                  .n_failed = q->n_failed, .ms_per_image = q->ms_per_image, .silent_ms = q->silent_ms,
                                  .why = wire_str(q->why), .max_batch = q->max_batch, .n_ranks = q->n_ranks};
        if (!(rc = wire_ranks_from(q->ranks, q->n_ranks, a, &w->rank, e)) && !(rc = wire_models_from(q->models, q->n_models, a, &w->model, e)))
            rc = wire_progress_from(q->progress, q->n_progress, a, &w->progress, e);
    }
    return rc;
}

static ProtobufCMessage *pack_empty(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Empty, zfarm__empty__init);
    (void)m;
    return &p->base;
}

static int unpack_empty(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    (void)body, (void)a, (void)m, (void)e;
    return 0;
}

static ProtobufCMessage *pack_control(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__Control, zfarm__control__init);
    p->verb = (Zfarm__Verb)m->control.verb;
    p->job = m->control.job;
    p->one = m->control.one;
    p->index = m->control.index;
    p->worker = wire_text(m->control.worker);
    p->client = wire_text(m->control.client);
    return &p->base;
}

static int unpack_control(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__Control);
    m->control = (struct control_ask){(enum control_verb)p->verb, p->job, p->one != 0, p->index, wire_str(p->worker),
                                      wire_str(p->client)};
    return 0;
}

static ProtobufCMessage *pack_control_ok(const struct msg *m, struct arena *a)
{
    NEW(Zfarm__ControlOk, zfarm__control_ok__init);
    p->n = m->control_ok.n;
    p->quarantine_over = m->control_ok.quarantine_over;
    return &p->base;
}

static int unpack_control_ok(const ProtobufCMessage *body, struct arena *a, struct msg *m, struct err *e)
{
    BODY(Zfarm__ControlOk);
    m->control_ok = (struct control_ok){p->n, p->quarantine_over};
    return 0;
}

const struct wire_row wire_job_rows[] = {
    {MSG_SUBMIT, &zfarm__submit__descriptor, pack_submit, unpack_submit},
    {MSG_SUBMIT_OK, &zfarm__submit_ok__descriptor, pack_submit_ok, unpack_submit_ok},
    {MSG_CANCEL, &zfarm__cancel__descriptor, pack_cancel, unpack_cancel},
    {MSG_CANCEL_OK, &zfarm__cancel_ok__descriptor, pack_cancel_ok, unpack_cancel_ok},
    {MSG_JOBS, &zfarm__jobs__descriptor, pack_jobs, unpack_jobs},
    {MSG_JOBS_OK, &zfarm__jobs_ok__descriptor, pack_jobs_ok, unpack_jobs_ok},
    {MSG_SHOW, &zfarm__show__descriptor, pack_show, unpack_show},
    {MSG_SHOW_OK, &zfarm__show_ok__descriptor, pack_show_ok, unpack_show_ok},
    {MSG_EVENTS, &zfarm__events__descriptor, pack_events, unpack_events},
    {MSG_EVENTS_OK, &zfarm__events_ok__descriptor, pack_events_ok, unpack_events_ok},
    {MSG_FETCH, &zfarm__fetch__descriptor, pack_fetch, unpack_fetch},
    {MSG_FETCH_OK, &zfarm__fetch_ok__descriptor, pack_fetch_ok, unpack_fetch_ok},
    {MSG_COLLECTED, &zfarm__collected__descriptor, pack_collected, unpack_collected},
    {MSG_COLLECTED_OK, &zfarm__collected_ok__descriptor, pack_collected_ok, unpack_collected_ok},
    {MSG_WORKERS, &zfarm__empty__descriptor, pack_empty, unpack_empty},
    {MSG_WORKERS_OK, &zfarm__workers_ok__descriptor, pack_workers_ok, unpack_workers_ok},
    {MSG_CONTROL, &zfarm__control__descriptor, pack_control, unpack_control},
    {MSG_CONTROL_OK, &zfarm__control_ok__descriptor, pack_control_ok, unpack_control_ok},
    {MSG_BYE, &zfarm__empty__descriptor, pack_empty, unpack_empty},
    {0, NULL, NULL, NULL},
};

/* check.c - every bound of every message, once, in plain C.
 * Believes: a bad message is the world's fault, so it gets a sentence; what passes here needs no second look by the rooms above.
 * Invariants: nothing is changed or clamped; counts are checked before their arrays are walked.
 * Not here: bytes (wire.c), whether a message is allowed now (broker, worker, client). */
#include "proto/check.h"

#include <inttypes.h>
#include <math.h>

int check_text(struct str s, size_t max_bytes, const char *what, struct err *e)
{
    size_t bad;

    if (s.len > max_bytes) return err_set(e, ERR_LIMIT, "%s has %zu bytes; at most %zu are taken", what, s.len, max_bytes);
    bad = str_utf8_bad_at(s);
    if (bad < s.len) return err_set(e, ERR_ARG, "%s is not valid UTF-8 at byte %zu (0x%02x)", what, bad, (unsigned char)s.at[bad]);
    return 0;
}

/* Names end up on terminals and in file names: no control bytes. */
int check_line(struct str s, size_t max_bytes, const char *what, struct err *e)
{
    int rc = check_text(s, max_bytes, what, e);

    for (size_t i = 0; !rc && i < s.len; i++)
        if ((unsigned char)s.at[i] < 0x20 || s.at[i] == 0x7f)
            rc = err_set(e, ERR_ARG, "%s has a control byte (0x%02x) at %zu", what, (unsigned char)s.at[i], i);
    return rc;
}

static int check_range(uint64_t v, uint64_t low, uint64_t high, const char *what, struct err *e)
{
    if (v >= low && v <= high) return 0;
    return err_set(e, ERR_ARG, "%s %" PRIu64 " is out of range %" PRIu64 "..%" PRIu64, what, v, low, high);
}

static int check_enum(int v, int last, const char *what, struct err *e)
{
    if (v >= 1 && v <= last) return 0;
    return err_set(e, ERR_ARG, "%s %d is not known (1..%d)", what, v, last);
}

static int check_id(uint64_t v, const char *what, struct err *e)
{
    return v ? 0 : err_set(e, ERR_ARG, "%s is missing", what);
}

static int check_many(size_t n, size_t low, size_t high, const char *what, struct err *e)
{
    if (n >= low && n <= high) return 0;
    return err_set(e, ERR_LIMIT, "%zu %s: %zu to %zu are allowed", n, what, low, high);
}

static int check_real(float v, float low, float high, const char *what, struct err *e)
{
    if (isfinite(v) && v >= low && v <= high) return 0;
    return err_set(e, ERR_ARG, "%s %g is out of range %g..%g", what, (double)v, (double)low, (double)high);
}

/* A sentence for people: wire.c has already replaced what is not UTF-8 on the way out, so only foreign ones can fail. */
static int check_words(struct str s, struct err *e)
{
    return check_line(s, ERROR_MAX_BYTES, "a sentence", e);
}

static int check_held(const struct held *h, size_t n, size_t max, struct err *e)
{
    int rc = check_many(n, 0, max, "leases", e);

    for (size_t i = 0; !rc && i < n; i++)
        if (!(rc = check_id(h[i].task, "a lease's task", e))) rc = check_id(h[i].epoch, "a lease's epoch", e);
    return rc;
}

static int check_models(const struct model_info *m, size_t n, struct err *e)
{
    int rc = check_many(n, 0, MODELS_MAX, "models", e);

    for (size_t i = 0; !rc && i < n; i++) {
        if (!m[i].name.len) return err_set(e, ERR_ARG, "a model has no name");
        if ((rc = check_line(m[i].name, MODEL_MAX_BYTES, "a model's name", e))) break;
        if ((rc = check_line(m[i].profile, MODEL_MAX_BYTES, "a profile's name", e))) break;
        if ((rc = check_range((uint64_t)(int64_t)m[i].steps, 0, STEPS_MAX, "a model's steps", e))) break;
        rc = check_real(m[i].guidance, 0, GUIDANCE_MAX, "a model's guidance", e);
    }
    return rc;
}

static int check_progress(const struct progress *p, size_t n, size_t max, struct err *e)
{
    int rc = check_many(n, 0, max, "progress rows", e);

    for (size_t i = 0; !rc && i < n; i++) {
        if ((rc = check_id(p[i].task, "a progress row's task", e))) break;
        if ((rc = check_enum((int)p[i].stage, STAGE_UPLOAD, "stage", e))) break;
        if ((rc = check_range(p[i].index, 0, JOB_TASKS_MAX - 1, "index", e))) break;
        if ((rc = check_range(p[i].steps, 0, STEPS_MAX, "steps", e))) break;
        if ((rc = check_range(p[i].step, 0, p[i].steps, "step", e))) break;
        rc = check_line(p[i].worker, NAME_MAX_BYTES, "a worker's name", e);
    }
    return rc;
}

static int check_ranks(const struct rank *r, size_t n, struct err *e)
{
    int rc = check_many(n, 0, RANKS_MAX, "ranks", e);

    for (size_t i = 0; !rc && i < n; i++) {
        if (!r[i].device.len) return err_set(e, ERR_ARG, "a rank has no device");
        if ((rc = check_line(r[i].device, RANK_DEVICE_BYTES, "a rank's device", e))) break;
        if ((rc = check_range(r[i].parts, 1, RANK_TEXT | RANK_IMAGE | RANK_VAE, "a rank's parts", e))) break;
        if ((rc = check_range(r[i].total_bytes, 0, RANK_MEMORY_BYTES, "a rank's memory", e))) break;
        if ((rc = check_range(r[i].used_bytes, 0, RANK_MEMORY_BYTES, "a rank's memory in use", e))) break;
        rc = check_range(r[i].busy_permille, 0, 1000, "a rank's permille of work", e);
    }
    return rc;
}

static int check_parts(const struct part *p, size_t n, size_t low, struct err *e)
{
    int rc = check_many(n, low, PARTS_MAX, "parts", e);

    for (size_t i = 0; !rc && i < n; i++) {
        if ((rc = check_enum((int)p[i].kind, PART_LATENTS, "part kind", e))) break;
        if ((rc = check_range(p[i].size_bytes, 1, PART_MAX_BYTES, "a part's size", e))) break;
        if (i && p[i].kind == p[i - 1].kind) rc = err_set(e, ERR_ARG, "two parts of one kind");
    }
    return rc;
}

/* What rides along is a whole small part. */
static int check_inline(const struct part *p, struct str bytes, struct err *e)
{
    if (!bytes.len) return 0;
    if (bytes.len != p->size_bytes) return err_set(e, ERR_ARG, "%zu bytes of a part of %" PRIu64 " ride along: all of it, or none", bytes.len, p->size_bytes);
    return check_range(bytes.len, 1, INLINE_MAX_BYTES, "the bytes of a part that rides along:", e);
}

static int check_job_info(const struct job_info *j, struct err *e)
{
    const uint32_t n[] = {j->n_tasks,  j->n_queued,   j->n_running,   j->n_done,     j->n_failed,
                          j->n_expired, j->n_canceled, j->n_canceling, j->n_collected};
    int            rc;

    if ((rc = check_id(j->job, "job", e)) || (rc = check_line(j->name, NAME_MAX_BYTES, "a job's name", e))) return rc;
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++)
        if ((rc = check_range(n[i], 0, JOB_TASKS_MAX, "a job's count", e))) return rc;
    if (j->eta_ms < -1) return err_set(e, ERR_ARG, "eta %" PRId64 " ms is negative", j->eta_ms);
    if ((rc = check_real(j->images_per_s, 0, 1e9f, "images per second", e))) return rc;
    if ((rc = check_enum((int)j->job_class, CLASS_BULK, "a job's class", e))) return rc;
    if ((rc = check_line(j->client, NAME_MAX_BYTES, "a job's client", e))) return rc;
    if ((rc = check_range(j->deadline_ms, 0, DEADLINE_MAX_MS, "a deadline in ms", e))) return rc;
    return check_words(j->why, e);
}

static int check_task_info(const struct task_info *t, struct err *e)
{
    int rc;

    if ((rc = check_id(t->job, "job", e)) || (rc = check_id(t->task, "task", e))) return rc;
    if ((rc = check_range(t->index, 0, JOB_TASKS_MAX - 1, "index", e))) return rc;
    if ((rc = check_enum((int)t->state, TASK_EXPIRED, "task state", e))) return rc;
    if ((rc = check_range((uint64_t)(int64_t)t->width_px, 0, PX_MAX, "width", e))) return rc;
    if ((rc = check_range((uint64_t)(int64_t)t->height_px, 0, PX_MAX, "height", e))) return rc;
    if ((rc = check_line(t->label, LABEL_MAX_BYTES, "a label", e))) return rc;
    if ((rc = check_parts(t->part, t->n_parts, 0, e))) return rc;
    for (size_t i = 0; i < t->n_parts; i++)
        if ((rc = check_inline(&t->part[i], t->bytes[i], e))) return rc;
    if ((rc = check_line(t->worker, NAME_MAX_BYTES, "a worker's name", e))) return rc;
    return check_words(t->error, e);
}

static int check_worker_info(const struct worker_info *w, struct err *e)
{
    int rc;

    if ((rc = check_line(w->name, NAME_MAX_BYTES, "a worker's name", e))) return rc;
    if ((rc = check_line(w->device, NAME_MAX_BYTES, "a device", e))) return rc;
    if ((rc = check_line(w->about, ABOUT_MAX_BYTES, "a device's description", e))) return rc;
    if ((rc = check_line(w->version, NAME_MAX_BYTES, "a version", e))) return rc;
    if ((rc = check_line(w->state, NAME_MAX_BYTES, "a worker's state", e))) return rc;
    if ((rc = check_models(w->model, w->n_models, e))) return rc;
    if ((rc = check_range(w->capacity, 0, LEASES_MAX, "capacity", e))) return rc;
    if ((rc = check_range(w->n_held, 0, LEASES_MAX, "leases held", e))) return rc;
    if ((rc = check_range(w->max_batch, 0, BATCH_MAX, "the largest batch", e))) return rc;
    if ((rc = check_words(w->why, e))) return rc;
    if ((rc = check_ranks(w->rank, w->n_ranks, e))) return rc;
    if (w->silent_ms < 0) return err_set(e, ERR_ARG, "silent for %" PRId64 " ms is negative", w->silent_ms);
    return check_progress(w->progress, w->n_progress, LEASES_MAX, e);
}

static int check_hello(const struct hello *h, struct err *e)
{
    int rc;

    if ((rc = check_enum((int)h->role, ROLE_WORKER, "role", e))) return rc;
    if ((rc = check_line(h->name, NAME_MAX_BYTES, "the name", e))) return rc;
    if ((rc = check_line(h->version, NAME_MAX_BYTES, "the version", e))) return rc;
    if ((rc = check_line(h->device, NAME_MAX_BYTES, "the device", e))) return rc;
    if ((rc = check_line(h->about, ABOUT_MAX_BYTES, "the device's description", e))) return rc;
    if ((rc = check_range(h->capacity, 0, LEASES_MAX, "capacity", e))) return rc;
    if ((rc = check_range(h->max_batch, 0, BATCH_MAX, "the largest batch", e))) return rc;
    if (h->role == ROLE_CLIENT && (h->capacity || h->max_batch || h->n_models || h->n_held || h->n_ranks || h->device.len || h->about.len))
        return err_set(e, ERR_ARG, "a client has no device, capacity, models or leases");
    if ((rc = check_ranks(h->rank, h->n_ranks, e))) return rc;
    if ((rc = check_models(h->model, h->n_models, e))) return rc;
    return check_held(h->held, h->n_held, LEASES_MAX, e);
}

static int check_submit(const struct submit *s, struct err *e)
{
    uint64_t end = s->first_task;
    int      rc;

    if ((rc = check_line(s->name, NAME_MAX_BYTES, "the job's name", e))) return rc;
    if ((rc = check_range(s->n_tasks, 1, JOB_TASKS_MAX, "a job's images", e))) return rc;
    if ((rc = check_enum((int)s->job_class, CLASS_BULK, "class", e))) return rc;
    if ((rc = check_range(s->deadline_ms, 0, DEADLINE_MAX_MS, "a deadline in ms", e))) return rc;
    if ((rc = check_many(s->n_items, 1, SUBMIT_ITEMS_MAX, "items", e))) return rc;
    for (size_t i = 0; i < s->n_items; i++) {
        struct err why = {0};

        if ((rc = item_check(&s->item[i], &why))) return err_set(e, rc, "item %zu: %.350s", i, why.text);
        end += s->item[i].n_images;
    }
    if (end > s->n_tasks) return err_set(e, ERR_ARG, "the items reach image %" PRIu64 " of a job of %" PRIu32, end, s->n_tasks);
    return 0;
}

static int check_show_ok(const struct show_ok *s, struct err *e)
{
    int rc;

    if ((rc = check_job_info(&s->job, e)) || (rc = check_many(s->n_tasks, 0, SHOW_TASKS_MAX, "tasks", e))) return rc;
    for (size_t i = 0; !rc && i < s->n_tasks; i++)
        if (!(rc = check_task_info(&s->task[i].info, e))) rc = spec_check(&s->task[i].spec, e);
    return rc;
}

static int check_events_ok(const struct events_ok *o, struct err *e)
{
    int rc;

    if ((rc = check_many(o->n_events, 0, EVENTS_MAX, "events", e))) return rc;
    for (size_t i = 0; i < o->n_events; i++)
        if ((rc = check_task_info(&o->event[i], e))) return rc;
    if ((rc = check_progress(o->progress, o->n_progress, WORKERS_MAX, e))) return rc;
    return o->job.job ? check_job_info(&o->job, e) : 0;
}

static int check_fetch(const struct fetch *f, struct err *e)
{
    int rc;

    if ((rc = check_id(f->task, "task", e)) || (rc = check_id(f->transfer, "transfer", e))) return rc;
    if ((rc = check_enum((int)f->kind, PART_LATENTS, "part kind", e))) return rc;
    if ((rc = check_range(f->offset, 0, PART_MAX_BYTES, "offset", e))) return rc;
    return check_range(f->credit_bytes, 1, CREDIT_MAX_BYTES, "credit", e);
}

static int check_offer(const struct offer *o, struct err *e)
{
    int rc;

    if ((rc = check_id(o->task, "task", e)) || (rc = check_id(o->epoch, "epoch", e))) return rc;
    if ((rc = check_range((uint64_t)(int64_t)o->width_px, PX_MIN, PX_MAX, "width", e))) return rc;
    if ((rc = check_range((uint64_t)(int64_t)o->height_px, PX_MIN, PX_MAX, "height", e))) return rc;
    if ((rc = check_parts(o->part, o->n_parts, 1, e))) return rc;
    for (size_t i = 0; i < o->n_parts; i++) {
        if ((rc = check_inline(&o->part[i], o->bytes[i], e))) return rc;
        if (!o->bytes[i].len != !o->bytes[0].len) return err_set(e, ERR_ARG, "one part of task %" PRIu64 " rides along and the other does not", o->task);
    }
    return 0;
}

static int check_offers(const struct offers *o, struct err *e)
{
    int rc = check_many(o->n_offers, 1, OFFERS_MAX, "offers", e);

    for (size_t i = 0; !rc && i < o->n_offers; i++) {
        if ((rc = check_offer(&o->offer[i], e))) break;
        if (!o->offer[i].bytes[0].len) rc = err_set(e, ERR_ARG, "task %" PRIu64 " is among OFFERS without its bytes", o->offer[i].task);
    }
    return rc;
}

static int check_offer_ok(const struct offer_ok *o, struct err *e)
{
    int rc;

    if ((rc = check_id(o->task, "task", e)) || (rc = check_enum((int)o->verdict, OFFER_DROP, "verdict", e))) return rc;
    if (o->verdict != OFFER_UPLOAD) return 0;
    if ((rc = check_id(o->transfer[0], "transfer", e))) return rc;
    return check_range(o->credit_bytes, 1, CREDIT_MAX_BYTES, "credit", e);
}

static int check_lease(const struct lease *l, struct err *e)
{
    int rc;

    if ((rc = check_id(l->task, "task", e)) || (rc = check_id(l->epoch, "epoch", e)) || (rc = check_id(l->job, "job", e))) return rc;
    if ((rc = check_range(l->index, 0, JOB_TASKS_MAX - 1, "index", e))) return rc;
    if ((rc = check_range(l->budget_ms, 1, UINT32_MAX, "budget", e))) return rc;
    return spec_check(&l->spec, e);
}

static int check_leases(const struct leases *l, struct err *e)
{
    int rc = check_many(l->n_leases, 1, OFFERS_MAX, "leases", e);

    for (size_t i = 0; !rc && i < l->n_leases; i++) rc = check_lease(&l->lease[i], e);
    return rc;
}

static int check_offers_ok(const struct offers_ok *o, struct err *e)
{
    int rc = check_many(o->n_offers, 1, OFFERS_MAX, "offers", e);

    for (size_t i = 0; !rc && i < o->n_offers; i++)
        if (!(rc = check_id(o->offer[i].task, "task", e))) rc = check_enum((int)o->offer[i].verdict, OFFER_DROP, "verdict", e);
    return rc;
}

static int check_chunk(const struct chunk *c, struct err *e)
{
    int rc;

    if ((rc = check_id(c->transfer, "transfer", e))) return rc;
    if ((rc = check_range(c->offset, 0, PART_MAX_BYTES, "offset", e))) return rc;
    if ((rc = check_range(c->bytes.len, 1, CHUNK_MAX_BYTES, "a chunk's size", e))) return rc;
    return check_range(c->offset + c->bytes.len, 1, PART_MAX_BYTES, "a chunk's end", e);
}

static int check_pair(uint64_t task, uint64_t epoch, struct err *e)
{
    int rc = check_id(task, "task", e);

    return rc ? rc : check_id(epoch, "epoch", e);
}

static int check_error(const struct error *r, struct err *e)
{
    int rc = check_enum((int)r->code, WIRE_DENIED, "error code", e);

    return rc ? rc : check_words(r->text, e);
}

static int check_session(const struct msg *m, struct err *e)
{
    int rc;

    switch (m->kind) {
    case MSG_HELLO: return check_hello(&m->hello, e);
    case MSG_WELCOME:
        if ((rc = check_range(m->welcome.beat_ms, 10, 60000, "beat_ms", e))) return rc;
        return check_held(m->welcome.drop, m->welcome.n_drop, LEASES_MAX, e);
    case MSG_ERROR:
    case MSG_GOAWAY: return check_error(&m->error, e);
    case MSG_BYE: return 0;
    case MSG_CHUNK: return check_chunk(&m->chunk, e);
    case MSG_CREDIT:
        if ((rc = check_id(m->credit.transfer, "transfer", e))) return rc;
        return check_range(m->credit.credit_bytes, 1, CREDIT_MAX_BYTES, "credit", e);
    default: return err_set(e, ERR_ARG, "message kind %d is not known", (int)m->kind);
    }
}

static int check_worker_side(const struct msg *m, struct err *e)
{
    int rc;

    switch (m->kind) {
    case MSG_READY: return check_range(m->ready.capacity, 0, LEASES_MAX, "capacity", e);
    case MSG_LEASE: return check_lease(&m->lease, e);
    case MSG_BEAT:
        if ((rc = check_ranks(m->beat.rank, m->beat.n_ranks, e))) return rc;
        return check_progress(m->beat.progress, m->beat.n_progress, LEASES_MAX, e);
    case MSG_BEAT_OK:
        if ((rc = check_held(m->beat_ok.cancel, m->beat_ok.n_cancel, CANCELS_MAX, e))) return rc;
        return check_held(m->beat_ok.recall, m->beat_ok.n_recall, CANCELS_MAX, e);
    case MSG_OFFER: return check_offer(&m->offer, e);
    case MSG_OFFER_OK: return check_offer_ok(&m->offer_ok, e);
    case MSG_LEASES: return check_leases(&m->leases, e);
    case MSG_OFFERS: return check_offers(&m->offers, e);
    case MSG_OFFERS_OK: return check_offers_ok(&m->offers_ok, e);
    case MSG_RESULT_OK: return check_pair(m->result_ok.task, m->result_ok.epoch, e);
    case MSG_FAILED:
        if ((rc = check_pair(m->failed.task, m->failed.epoch, e))) return rc;
        if ((rc = check_enum((int)m->failed.why, FAIL_CANCELED, "failure class", e))) return rc;
        return check_words(m->failed.text, e);
    case MSG_FAILED_OK: return check_pair(m->failed_ok.task, m->failed_ok.epoch, e);
    case MSG_RELEASE:
        if ((rc = check_pair(m->release.task, m->release.epoch, e))) return rc;
        return check_words(m->release.why, e);
    default: return check_session(m, e);
    }
}

static int check_control(const struct control_ask *c, struct err *e)
{
    int rc = check_enum((int)c->verb, CONTROL_RESUME, "control verb", e);

    if (rc) return rc;
    if ((rc = check_line(c->worker, NAME_MAX_BYTES, "a worker's name", e))) return rc;
    if ((rc = check_line(c->client, NAME_MAX_BYTES, "a client's name", e))) return rc;
    if ((rc = check_range(c->index, 0, JOB_TASKS_MAX - 1, "index", e))) return rc;
    if (c->verb == CONTROL_PAUSE || c->verb == CONTROL_RESUME) return 0;
    if (c->verb == CONTROL_REQUEUE) return check_id(c->job, "job", e);
    return c->worker.len ? 0 : err_set(e, ERR_ARG, "a worker's name is missing");
}

int msg_check(const struct msg *m, struct err *e)
{
    int rc;

    switch (m->kind) {
    case MSG_SUBMIT: return check_submit(&m->submit, e);
    case MSG_SUBMIT_OK:
        if ((rc = check_id(m->submit_ok.job, "job", e))) return rc;
        return check_range(m->submit_ok.n_tasks_known, 0, JOB_TASKS_MAX, "images known", e);
    case MSG_CONTROL: return check_control(&m->control, e);
    case MSG_CONTROL_OK: return check_range(m->control_ok.n, 0, JOB_TASKS_MAX, "a count", e);
    case MSG_CANCEL: return check_id(m->cancel.job, "job", e);
    case MSG_CANCEL_OK:
    case MSG_COLLECTED_OK:
    case MSG_WORKERS: return 0;
    case MSG_JOBS: return check_range(m->jobs.limit, 1, JOBS_MAX, "limit", e);
    case MSG_JOBS_OK:
        rc = check_many(m->jobs_ok.n_jobs, 0, JOBS_MAX, "jobs", e);
        for (size_t i = 0; !rc && i < m->jobs_ok.n_jobs; i++) rc = check_job_info(&m->jobs_ok.job[i], e);
        return rc;
    case MSG_SHOW:
        if ((rc = check_id(m->show.job, "job", e))) return rc;
        return check_range(m->show.limit, 1, SHOW_TASKS_MAX, "limit", e);
    case MSG_SHOW_OK: return check_show_ok(&m->show_ok, e);
    case MSG_EVENTS:
        if ((rc = check_range(m->events.limit, 1, EVENTS_MAX, "limit", e))) return rc;
        if ((rc = check_range(m->events.inline_bytes, 0, INLINE_MAX_BYTES, "inline_bytes", e))) return rc;
        return check_range(m->events.wait_ms, 0, EVENTS_WAIT_MAX_MS, "wait_ms", e);
    case MSG_EVENTS_OK: return check_events_ok(&m->events_ok, e);
    case MSG_FETCH: return check_fetch(&m->fetch, e);
    case MSG_FETCH_OK:
        if ((rc = check_id(m->fetch_ok.transfer, "transfer", e))) return rc;
        if ((rc = check_parts(&m->fetch_ok.part, 1, 1, e))) return rc;
        return check_inline(&m->fetch_ok.part, m->fetch_ok.bytes, e);
    case MSG_COLLECTED:
        rc = check_many(m->collected.n_tasks, 1, COLLECTED_MAX, "tasks", e);
        for (size_t i = 0; !rc && i < m->collected.n_tasks; i++) rc = check_id(m->collected.task[i], "task", e);
        return rc;
    case MSG_WORKERS_OK:
        rc = check_many(m->workers_ok.n_workers, 0, WORKERS_MAX, "workers", e);
        for (size_t i = 0; !rc && i < m->workers_ok.n_workers; i++) rc = check_worker_info(&m->workers_ok.worker[i], e);
        return rc;
    default: return check_worker_side(m, e);
    }
}

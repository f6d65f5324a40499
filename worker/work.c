/* work.c - the table of leases. Not here: when to speak about them (session.c), who makes them (child.c). */
#include "worker/work.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/wire.h"

size_t works_count(const struct works *w)
{
    size_t n = 0;

    for (size_t i = 0; i < LEASES_MAX; i++) n += w->row[i].state != WORK_FREE;
    return n;
}

struct work *works_find(struct works *w, uint64_t task)
{
    for (size_t i = 0; i < LEASES_MAX; i++)
        if (w->row[i].state != WORK_FREE && w->row[i].task == task) return &w->row[i];
    return NULL;
}

struct work *works_next(struct works *w)
{
    struct work *first = NULL;

    for (size_t i = 0; i < LEASES_MAX; i++)
        if (w->row[i].state == WORK_WAITING && (!first || w->row[i].order < first->order)) first = &w->row[i];
    return first;
}

struct work *works_by_correlation(struct works *w, uint64_t correlation)
{
    for (size_t i = 0; i < LEASES_MAX; i++)
        if (w->row[i].state >= WORK_FINISHED && w->row[i].correlation == correlation && correlation) return &w->row[i];
    return NULL;
}

struct work *works_by_transfer(struct works *w, uint64_t transfer, size_t *part)
{
    for (size_t i = 0; i < LEASES_MAX; i++)
        for (size_t p = 0; p < PARTS_MAX; p++)
            if (w->row[i].uploading && w->row[i].transfer[p] == transfer && transfer) {
                *part = p;
                return &w->row[i];
            }
    return NULL;
}

int work_take(struct works *w, const struct lease *l, int64_t now_ms, struct work **out, struct err *e)
{
    struct item  it = {.spec = l->spec, .n_images = 1};
    struct work *k = NULL;
    int          rc;

    for (size_t i = 0; i < LEASES_MAX && !k; i++)
        if (w->row[i].state == WORK_FREE) k = &w->row[i];
    if (!k) return err_set(e, ERR_LIMIT, "%d leases are held already", LEASES_MAX);
    memset(k, 0, sizeof *k);
    buf_init(&k->item, LINK_PAYLOAD_MAX);
    if ((rc = wire_item_pack(&it, &k->item, e))) {
        buf_release(&k->item);
        return rc;
    }
    k->state = WORK_WAITING;
    k->task = l->task;
    k->epoch = l->epoch;
    k->job = l->job;
    k->index = l->index;
    k->order = ++w->n_arrived;
    k->width_px = l->spec.width_px;
    k->height_px = l->spec.height_px;
    k->steps = (uint32_t)l->spec.steps;
    k->budget_ms = l->budget_ms;
    k->stage = STAGE_WAITING;
    k->moved_ms = now_ms;
    *out = k;
    return 0;
}

bool work_in_engine(const struct work *k)
{
    return k->state == WORK_RUNNING || k->state == WORK_WRITING;
}

void work_step(struct work *k, enum stage stage, uint32_t step, uint32_t steps, int64_t now_ms)
{
    k->stage = stage;
    k->step = step;
    k->steps = steps;
    k->moved_ms = now_ms;
}

int work_finish(struct work *k, const struct link_head *h, int bytes_fd, int64_t now_ms, struct err *e)
{
    static const enum part_kind kinds[PARTS_MAX] = {PART_IMAGE, PART_LATENTS};
    int                         rc;

    assert(work_in_engine(k));
    if (h->width_px != k->width_px || h->height_px != k->height_px)
        return err_set(e, ERR_PROTO, "the engine made %dx%d where %dx%d was asked for", h->width_px, h->height_px, k->width_px, k->height_px);
    if ((rc = link_bytes_map(bytes_fd, h, &k->bytes, &k->n_bytes, e))) return rc;
    k->state = WORK_FINISHED;
    work_step(k, STAGE_UPLOAD, k->steps, k->steps, now_ms);
    k->offer = (struct offer){.task = k->task, .epoch = k->epoch, .width_px = h->width_px, .height_px = h->height_px, .took_ms = h->took_ms,
                              .text_ms = h->text_ms, .denoise_ms = h->denoise_ms, .decode_ms = h->decode_ms, .n_parts = h->n_parts};
    for (uint32_t i = 0; i < h->n_parts; i++) {
        k->offer.part[i] = (struct part){.kind = kinds[i], .size_bytes = h->part_bytes[i]};
        memcpy(k->offer.part[i].sha256, h->part_sha256[i], 32);
    }
    work_say_again(k, now_ms);
    return 0;
}

static void unmap(struct work *k)
{
    if (k->bytes) munmap((void *)(uintptr_t)k->bytes, k->n_bytes);
    k->bytes = NULL;
    k->n_bytes = 0;
}

void work_fail(struct work *k, enum fail_class why, const char *text, int64_t now_ms)
{
    unmap(k);
    k->state = WORK_FAILED;
    k->why = why;
    snprintf(k->text, sizeof k->text, "%s", text);
    work_say_again(k, now_ms);
}

void work_say_again(struct work *k, int64_t at_ms)
{
    k->correlation = 0;
    k->say_ms = at_ms;
    k->uploading = false;
    k->part_now = 0;
    k->sent_bytes = 0;
    memset(k->transfer, 0, sizeof k->transfer);
    memset(k->credit_bytes, 0, sizeof k->credit_bytes);
}

void work_drop(struct work *k)
{
    unmap(k);
    buf_release(&k->item);
    memset(k, 0, sizeof *k);
}

struct progress work_progress(const struct work *k, int64_t now_ms)
{
    int64_t age = now_ms - k->moved_ms;

    return (struct progress){.job = k->job, .task = k->task, .epoch = k->epoch, .index = k->index, .stage = k->stage,
                             .step = k->step < k->steps ? k->step : k->steps, .steps = k->steps,
                             .age_ms = age < 0 ? 0 : age > UINT32_MAX ? UINT32_MAX : (uint32_t)age};
}

enum fail_class work_fail_class(int err_code)
{
    switch (err_code) {
    case ERR_CANCELED: return FAIL_CANCELED;
    case ERR_NOMEM: return FAIL_OOM;
    case ERR_NAN: return FAIL_NAN;
    case ERR_DEVICE:
    case ERR_CRASHED: return FAIL_CRASHED;
    case ERR_ARG:
    case ERR_LIMIT:
    case ERR_FORMAT:
    case ERR_PROTO: return FAIL_INVALID;
    default: return FAIL_TRANSIENT;
    }
}

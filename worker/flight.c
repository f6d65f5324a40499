/* flight.c - see flight.h. */
#include "worker/flight.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PX_PER_PATIENCE (256 * 256)

void flights_opened(struct flights *fs, const struct link_model *m)
{
    fs->n = 0;
    fs->n_ranks = m->n_ranks ? m->n_ranks : 1;
    assert(fs->n_ranks <= PLACE_RANKS_MAX);
    for (uint32_t i = 0; i < fs->n_ranks; i++) {
        const char *device = m->n_ranks ? m->rank[i].device : m->device;

        if (strcmp(fs->rank[i].device, device) != 0) fs->rank[i].step_ms_per_px = fs->rank[i].decode_ms_per_px = 0;
        snprintf(fs->rank[i].device, sizeof fs->rank[i].device, "%s", device);
    }
}

size_t flights_writing(const struct flights *fs)
{
    size_t n = 0;

    for (size_t i = 0; i < fs->n; i++) n += fs->row[i].writing;
    return n;
}

size_t flights_making(const struct flights *fs)
{
    return fs->n - flights_writing(fs);
}

struct flight *flights_find(struct flights *fs, uint64_t task, uint64_t epoch)
{
    for (size_t i = 0; i < fs->n; i++)
        if (fs->row[i].task == task && fs->row[i].epoch == epoch) return &fs->row[i];
    return NULL;
}

struct flight *flights_put(struct flights *fs, uint64_t task, uint64_t epoch, int64_t px, bool in_hand, int64_t now_ms)
{
    if (fs->n == FLIGHTS_MAX) return NULL;
    fs->row[fs->n] = (struct flight){.task = task, .epoch = epoch, .px = px, .stage = in_hand ? STAGE_TEXT : STAGE_WAITING, .handed = in_hand, .moved_ms = now_ms};
    return &fs->row[fs->n++];
}

static bool in_hand(const struct flight *f)
{
    return !f->writing && f->stage != STAGE_WAITING;
}

static void learn(double *mean, double ms)
{
    *mean = *mean > 0 ? 0.7 * *mean + 0.3 * ms : ms;
}

/* The flight leaves where it is. Less than a millisecond counts as one: it was measured. */
static void learn_stage(struct flights *fs, const struct flight *f, int64_t now_ms)
{
    double ms = now_ms > f->moved_ms ? (double)(now_ms - f->moved_ms) : 1;

    if (f->px <= 0) return;
    if (f->writing) learn(&fs->write_ms_per_px, ms / (double)f->px);
    else if (f->stage == STAGE_DECODE) learn(&fs->rank[f->rank].decode_ms_per_px, ms / (double)f->px);
}

bool flights_step(struct flights *fs, struct flight *f, const struct link_head *h, int64_t now_ms)
{
    if (h->rank >= fs->n_ranks) return false;
    if (h->stage == STAGE_DENOISE && f->stage == STAGE_DENOISE && h->rank == f->rank && h->step == f->step + 1 && f->px > 0)
        learn(&fs->rank[f->rank].step_ms_per_px, (double)(now_ms - f->moved_ms) / (double)f->px);
    else if ((uint32_t)f->stage != h->stage) learn_stage(fs, f, now_ms);
    f->handed = false;
    f->stage = (enum stage)h->stage;
    f->rank = h->rank;
    f->step = h->step;
    f->steps = h->steps;
    f->moved_ms = now_ms;
    for (size_t i = 0; in_hand(f) && i < fs->n; i++)
        if (&fs->row[i] != f && in_hand(&fs->row[i]) && fs->row[i].rank == f->rank) fs->row[i].stage = STAGE_WAITING;
    return true;
}

void flights_pixels(struct flights *fs, struct flight *f, int64_t now_ms)
{
    learn_stage(fs, f, now_ms);
    f->handed = false;
    f->writing = true;
    f->moved_ms = now_ms;
}

void flights_written(struct flights *fs, const struct flight *f, int64_t now_ms)
{
    if (f->writing) learn_stage(fs, f, now_ms);
}

void flights_drop(struct flights *fs, struct flight *f)
{
    assert(f >= fs->row && f < fs->row + fs->n);
    *f = fs->row[--fs->n];
}

void flights_stalled(struct flights *fs, int64_t gap_ms, int64_t now_ms)
{
    for (size_t i = 0; i < fs->n; i++) {
        int64_t moved = fs->row[i].moved_ms + gap_ms;

        fs->row[i].moved_ms = moved < now_ms ? moved : now_ms;
    }
}

/* ---- the watchdog ---- */

/* Of a stage that nobody has measured. */
static int64_t first_ms(const struct flights *fs, const struct flight *f, const struct watch *w)
{
    const bool    on_gpu = strncmp(fs->rank[f->rank].device, "cuda", 4) == 0;
    const int64_t squares = (f->px + PX_PER_PATIENCE - 1) / PX_PER_PATIENCE;

    return w->first_ms * (on_gpu || squares < 1 ? 1 : squares);
}

/* What it does now takes so long; 0: not known. */
static double mean_ms(const struct flights *fs, const struct flight *f)
{
    if (f->writing) return fs->write_ms_per_px * (double)f->px;
    switch (f->stage) {
    case STAGE_DENOISE: return fs->rank[f->rank].step_ms_per_px * (double)f->px;
    case STAGE_DECODE: return fs->rank[f->rank].decode_ms_per_px * (double)f->px;
    default: return 0;
    }
}

static int64_t patience_ms(const struct flights *fs, const struct flight *f, const struct watch *w)
{
    const double mean = mean_ms(fs, f), least = (double)(mean > 0 || f->handed ? w->floor_ms : first_ms(fs, f, w));

    return (int64_t)(5 * mean > least ? 5 * mean : least);
}

/* One that waits: since when has nothing at all moved on the devices? now_ms while a rank has anything in hand, for then that one is watched. */
static int64_t all_still_since(const struct flights *fs, int64_t now_ms)
{
    int64_t last = 0;

    for (size_t i = 0; i < fs->n; i++) {
        if (in_hand(&fs->row[i])) return now_ms;
        if (!fs->row[i].writing && fs->row[i].moved_ms > last) last = fs->row[i].moved_ms;
    }
    return last;
}

const struct flight *flights_stuck(const struct flights *fs, const struct watch *w, int64_t now_ms, char *words)
{
    for (size_t i = 0; i < fs->n; i++) {
        const struct flight *f = &fs->row[i];
        bool                 waits = !f->writing && f->stage == STAGE_WAITING;
        int64_t              still = now_ms - (waits ? all_still_since(fs, now_ms) : f->moved_ms);
        char                 where[80];

        if (still <= patience_ms(fs, f, w)) continue;
        if (f->writing) snprintf(words, ERR_TEXT_BYTES, "engine did not write a picture within %lld s", (long long)still / 1000);
        else if (f->handed) snprintf(words, ERR_TEXT_BYTES, "engine did not begin its task within %lld s", (long long)still / 1000);
        else if (waits) snprintf(words, ERR_TEXT_BYTES, "engine did nothing for %lld s with %zu tasks in its hands", (long long)still / 1000, flights_making(fs));
        else
            snprintf(words, ERR_TEXT_BYTES, "engine did not move for %lld s %s of %u", (long long)still / 1000, flights_where(fs, f, where), f->steps);
        return f;
    }
    return NULL;
}

size_t flights_blame(const struct flights *fs, uint64_t blamed[FLIGHTS_MAX])
{
    size_t n = 0, n_hand = 0;

    for (size_t i = 0; i < fs->n; i++) n_hand += in_hand(&fs->row[i]);
    for (size_t i = 0; i < fs->n; i++)
        if (n_hand == 0 || in_hand(&fs->row[i])) blamed[n++] = fs->row[i].task;
    return n;
}

int64_t flights_left_ms(const struct flights *fs, uint64_t task)
{
    double pace = 0;

    for (size_t i = 0; i < fs->n; i++) {
        const struct flight *f = &fs->row[i];

        if (f->task != task) continue;
        pace = fs->rank[f->rank].step_ms_per_px;
        for (uint32_t r = 0; pace <= 0 && r < fs->n_ranks; r++) pace = fs->rank[r].step_ms_per_px; /* it has not reached its transformer yet */
        if (f->writing || pace <= 0 || f->steps == 0) return -1;
        return (int64_t)((double)(f->steps - f->step + 1) * pace * (double)f->px); /* decoding counts as one step */
    }
    return -1;
}

const char *flights_where(const struct flights *fs, const struct flight *f, char *where)
{
    if (f->writing) snprintf(where, 80, "writing a picture");
    else if (f->stage == STAGE_WAITING) snprintf(where, 80, "on its way between two devices");
    else if (fs->n_ranks > 1) snprintf(where, 80, "on %s in stage %s step %u", fs->rank[f->rank].device, stage_name(f->stage), f->step);
    else snprintf(where, 80, "in stage %s step %u", stage_name(f->stage), f->step);
    return where;
}

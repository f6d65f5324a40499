/* flight.h - the tasks in the engine child: who has which in hand, how long it has stood still, who is to blame when the child dies.
 *
 *   flights_put(&fs, task, epoch, px, in_hand, now);   flights_step(&fs, f, &head, now);   f->writing = true;   flights_drop(&fs, f);
 *   if ((f = flights_stuck(&fs, &watch, now, words))) ...      the watchdog: one of them, and a sentence
 *
 * A task is on the devices (making) or only being written. Of those on devices a rank has one in hand, or none has it: it is WAITING, in an
 * inbox or on its way to the next rank. Who waits is not stuck while anything else moves, and is not blamed for a death while another is in hand.
 * Watchdog: a step, a decode or the writing of a picture that takes longer than max(floor, 5 x its mean on its rank, by pixels) means stuck. What has
 * no mean yet gets first_ms, and so does a text: it is short or long, in a cache, or its encoder must come from the disk first. A task handed to
 * an idle engine is to be begun within floor_ms. Where the rank is a CPU, first_ms for each started 256x256 pixels, because there a step of a
 * full-size model takes minutes, and the engine gives no sign of life inside a step.
 * Pure: now_ms is given. Not here: the process (child.c), leases (work.h). */
#ifndef WORKER_FLIGHT_H
#define WORKER_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/conf.h"
#include "worker/link.h"
#include "worker/writer.h"

#define FLIGHT_WRITING_MAX (WRITER_MAX + 1 + PLACE_RANKS_MAX) /* one whose answer is on its way, and of each rank one whose PIXELS overtook it */
#define FLIGHTS_MAX        (PLACE_IMAGE_MAX + 2 + FLIGHT_WRITING_MAX)

struct flight {
    uint64_t   task, epoch;
    int64_t    px;
    bool       handed;     /* to an engine that has nothing else to do, and nothing was heard of it since */
    bool       writing;    /* its pixels are there, its result is not yet */
    enum stage stage;      /* WAITING: in no rank's hands */
    uint32_t   rank, step, steps;
    int64_t    moved_ms;   /* its last word */
};

struct flights {
    struct flight row[FLIGHTS_MAX];
    size_t        n;
    uint32_t      n_ranks;
    double        write_ms_per_px;
    struct {
        char   device[PLACE_DEVICE_BYTES];
        double step_ms_per_px, decode_ms_per_px; /* means, newer ones count more; 0: none measured */
    } rank[PLACE_RANKS_MAX];   /* kept from one child to the next */
};

void           flights_opened(struct flights *fs, const struct link_model *m); /* a new child: empty; its ranks */
size_t         flights_making(const struct flights *fs);                       /* on devices */
size_t         flights_writing(const struct flights *fs);
struct flight *flights_find(struct flights *fs, uint64_t task, uint64_t epoch); /* NULL: not there */
/* NULL: FLIGHTS_MAX are there. in_hand: rank 0 has it from now on; else it waits for it. */
struct flight *flights_put(struct flights *fs, uint64_t task, uint64_t epoch, int64_t px, bool in_hand, int64_t now_ms);
/* A STEP: it moved. A rank has one task in hand: another one there has left it. False: there is no such rank. */
bool           flights_step(struct flights *fs, struct flight *f, const struct link_head *h, int64_t now_ms);
void           flights_pixels(struct flights *fs, struct flight *f, int64_t now_ms); /* from now on it is only being written */
void           flights_written(struct flights *fs, const struct flight *f, int64_t now_ms); /* its result is there */
void           flights_drop(struct flights *fs, struct flight *f);
/* Everybody gets gap_ms longer. */
void           flights_stalled(struct flights *fs, int64_t gap_ms, int64_t now_ms);
/* One that stood still for too long, with a sentence in words[ERR_TEXT_BYTES]; NULL: all move. */
const struct flight *flights_stuck(const struct flights *fs, const struct watch *w, int64_t now_ms, char *words);
/* For a death without last words: those in hand, else all. At most FLIGHTS_MAX. */
size_t         flights_blame(const struct flights *fs, uint64_t blamed[FLIGHTS_MAX]);
/* How long this task may still take, by the mean step; -1: not known, or not on a device. */
int64_t        flights_left_ms(const struct flights *fs, uint64_t task);
/* "in stage denoise step 3", "writing a picture": of a task that died. Into where[80]. */
const char    *flights_where(const struct flights *fs, const struct flight *f, char *where);

#endif

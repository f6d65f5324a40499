/* child.h - the supervisor's side of the engine: starts it, hears it, ends it when it hangs, starts it again.
 *
 *   child_init(&c, &conf, loop, &events, ctx); child_start(&c, now, &e);      then child_tick() often and child_reap() on SIGCHLD
 *   DOWN -> LOADING -> READY <-> BUSY (until PIXELS: what is only being written leaves the child READY);  any -> DYING -> DOWN, and after a pause LOADING again
 *
 * A fresh process each time (posix_spawn of this very program): nothing of the supervisor's threads or sockets is inherited.
 * Watchdog: a step that takes longer than max(floor, 5 x the mean step, by pixels) means stuck: SIGABRT, kill_ms, SIGKILL. A stage that
 * has no mean yet (text, decode, the first step) gets first_ms; where the engine runs on a CPU, first_ms for each started 256x256
 * pixels, because there a step of a full-size model takes minutes, and the engine gives no sign of life inside a step.
 * Not here: what becomes of the task that was running (events.on_died tells the worker). */
#ifndef WORKER_CHILD_H
#define WORKER_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "proto/loop.h"
#include "worker/conf.h"
#include "worker/link.h"
#include "worker/writer.h"

enum child_state { CHILD_DOWN, CHILD_LOADING, CHILD_READY, CHILD_BUSY, CHILD_DYING };

/* Whom the death of an engine is blamed on: the task that the dying thread had, when it could say so; the one that hung; else the one on
 * the device; else those being written. The others are nobody's fault. */
struct child_death {
    uint64_t    blamed[8];
    size_t      n_blamed;
    bool        stuck; /* by the watchdog */
    const char *words; /* a sentence for people */
};

struct child_events { /* called from child_tick(), child_reap() and the loop */
    void (*on_opened)(void *ctx, int64_t now_ms);
    void (*on_step)(void *ctx, const struct link_head *h, int64_t now_ms);
    void (*on_pixels)(void *ctx, const struct link_head *h, int64_t now_ms); /* the task is only being written: the next one may come */
    void (*on_result)(void *ctx, const struct link_head *h, int bytes_fd, int64_t now_ms); /* the descriptor stays child.c's */
    void (*on_failed)(void *ctx, const struct link_head *h, const char *text, int64_t now_ms);
    /* The process is gone, and with it every task that was not answered. */
    void (*on_died)(void *ctx, const struct child_death *d, int64_t now_ms);
};

struct child_writing { /* its pixels are there, its result is not yet */
    uint64_t task, epoch;
    int64_t  px, from_ms;
};

#define CHILD_WRITING_MAX (WRITER_MAX + 2) /* one whose answer is on its way, one whose PIXELS overtook it */

struct child {
    const struct worker_conf *conf;
    struct loop              *loop;
    struct child_events       events;
    void                     *ctx;
    enum child_state          state;
    bool                      stuck, opened_once;
    bool                      is_open;      /* this process opened the model */
    pid_t                     pid;
    int                       fd;           /* of the link; -1 */
    struct link_model         model;        /* valid once opened */
    uint32_t                  n_restarts;
    int64_t                   heard_ms, restart_ms, kill_ms, backoff_ms, said_ms;
    char                      words[ERR_TEXT_BYTES]; /* why it is being ended */
    /* the task it makes */
    uint64_t                  task, epoch;
    int64_t                   px, moved_ms;
    enum stage                stage;
    uint32_t                  step, steps;
    double                    step_ms_per_px; /* mean, newer steps count more; 0: none measured */
    /* tasks it writes meanwhile */
    struct child_writing      writing[CHILD_WRITING_MAX];
    size_t                    n_writing;
    struct child_death        death;          /* as far as it is known */
    char                      payload[LINK_PAYLOAD_MAX + 1];
};

void child_init(struct child *c, const struct worker_conf *conf, struct loop *l, const struct child_events *events, void *ctx);
int  child_start(struct child *c, int64_t now_ms, struct err *e);
/* READY only. The item as wire_item_pack() made it. */
int  child_task(struct child *c, uint64_t task, uint64_t epoch, struct str item, int64_t px, int64_t now_ms, struct err *e);
/* The task at hand stops after the step it is in, one that waits to be written is not written; nothing when it is another. */
void child_cancel(struct child *c, uint64_t task);
void child_tick(struct child *c, int64_t now_ms);
void child_reap(struct child *c, int64_t now_ms);
/* This process slept for gap_ms (stopped, frozen, starved), and so maybe the child: no silence of the child's. */
void child_stalled(struct child *c, int64_t gap_ms, int64_t now_ms);
/* How long the task at hand may still take, by the mean step; -1: not known. */
int64_t child_left_ms(const struct child *c);
/* The watchdog's patience for the stage at hand. */
int64_t child_patience_ms(const struct child *c);
void child_stop(struct child *c); /* at once, and waits for its end */

#endif

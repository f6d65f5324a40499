/* child.h - the supervisor's side of the engine: starts it, hears it, ends it when it hangs, starts it again.
 *
 *   child_init(&c, &conf, loop, &events, ctx); child_start(&c, now, &e);      then child_tick() often and child_reap() on SIGCHLD
 *   DOWN -> LOADING -> UP;  any -> DYING -> DOWN, and after a pause LOADING again
 *
 * A fresh process each time (posix_spawn of this very program): nothing of the supervisor's threads or sockets is inherited.
 * It takes one task at a time on one device, and as many as place_tasks() where its parts are placed apart; what is only being written
 * (after PIXELS) takes no room. Stuck, by the watchdog of flight.h: SIGABRT, kill_ms, SIGKILL.
 * Not here: where each task is (flight.h), what becomes of those that were running (events.on_died tells the worker). */
#ifndef WORKER_CHILD_H
#define WORKER_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "proto/loop.h"
#include "worker/conf.h"
#include "worker/flight.h"
#include "worker/link.h"

enum child_state { CHILD_DOWN, CHILD_LOADING, CHILD_UP, CHILD_DYING };

/* Whom the death of an engine is blamed on: the task that the dying thread had, when it could say so; the one that hung; else those that its
 * devices had in hand; else all. The others are nobody's fault. */
struct child_death {
    uint64_t    blamed[FLIGHTS_MAX];
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
    int64_t                   heard_ms; /* while it loads */
    int64_t                   restart_ms, kill_ms, backoff_ms, said_ms;
    char                      words[ERR_TEXT_BYTES]; /* why it is being ended */
    struct flights            flights;        /* its tasks */
    struct link_ranks         loads;          /* the last that it said of its devices */
    bool                      loads_new;      /* and nobody has told the broker */
    struct child_death        death;          /* as far as it is known */
    char                      payload[LINK_PAYLOAD_MAX + 1];
};

void child_init(struct child *c, const struct worker_conf *conf, struct loop *l, const struct child_events *events, void *ctx);
int  child_start(struct child *c, int64_t now_ms, struct err *e);
/* It is up, and has room for one more task. */
bool child_has_room(const struct child *c);
/* Only when it has room. The item as wire_item_pack() made it. */
int  child_task(struct child *c, uint64_t task, uint64_t epoch, struct str item, int64_t px, int64_t now_ms, struct err *e);
/* A task in a rank's hands stops after the step it is in, one that waits there or to be written does not go on; nothing when it is not here. */
void child_cancel(struct child *c, uint64_t task);
void child_tick(struct child *c, int64_t now_ms);
void child_reap(struct child *c, int64_t now_ms);
/* This process slept for gap_ms (stopped, frozen, starved), and so maybe the child: no silence of the child's. */
void child_stalled(struct child *c, int64_t gap_ms, int64_t now_ms);
/* How long this task may still take on the devices, by the mean step; -1: not known. */
int64_t child_left_ms(const struct child *c, uint64_t task);
void child_stop(struct child *c); /* at once, and waits for its end */

#endif

/* local.h - a farm on this machine: zfarm-broker and zfarm-workers as our children. The same processes as on a real farm.
 *
 *   struct local l; struct local_opts o = {.model = "models/demo", .n_workers = 2};
 *   local_open(&l, &o, &e);                     before any other thread or socket of this process exists (fork); the broker listens then
 *   client_open(&c, {.endpoint = l.endpoint, ...});  local_ready(&l, c, say, ctx, &e);      the first worker is ready
 *   local_check(&l, &e);                        now and then: did one die?
 *   local_close(&l);                            SIGTERM, wait, SIGKILL, folder removed: nothing is left
 *
 * Programs are looked for beside this one, then in PATH. Without `listen` the farm talks over ipc:// in a private folder that also
 * holds journal, images and logs, and is gone with us. If we are killed, a small guard process ends the children and removes the folder.
 * Not here: what is asked of the farm. */
#ifndef CLIENT_LOCAL_H
#define CLIENT_LOCAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "client/client.h"

#define LOCAL_WORKERS_MAX 64

struct local_opts {
    const char *model;              /* a folder; "" when dit, text_encoder and vae are given */
    const char *dit, *text_encoder, *vae, *tokenizer, *profile; /* NULL: as the folder has them */
    const char *device, *precision, *vram_budget; /* NULL: the worker's default */
    const char *const *place;       /* n_places words for --place, in place of device */
    int         n_places;
    int         n_workers;          /* 1..LOCAL_WORKERS_MAX */
    int         n_threads;          /* per worker; 0: the machine's CPUs shared out */
    const char *keys;               /* with listen: folder of the farm's keys; NULL: none. Our own workers then come by ipc, without any */
    const char *listen, *data;      /* zfarm up: endpoint and folder that stay; NULL: ipc and a temporary folder */
    bool        show_logs;          /* children write to our stderr; else to files in the folder */
    volatile sig_atomic_t *stop;    /* ends local_open() while the broker starts; may be NULL */
};

struct local {
    char  dir[256], endpoint[320]; /* dir: the temporary folder */
    pid_t broker, worker[LOCAL_WORKERS_MAX], guard;
    int   n_workers, guard_fd;
    bool  show_logs;
    char  words[300]; /* of the worker that ended last */
};

typedef void local_say_f(void *ctx, int64_t waited_ms); /* about once a second while no worker is ready */

int local_open(struct local *l, const struct local_opts *o, struct err *e);
/* Waits until a worker takes work. ERR_DEVICE with the worker's own sentence when one ends instead. */
int local_ready(struct local *l, struct client *c, local_say_f *say, void *ctx, volatile sig_atomic_t *stop, struct err *e);
/* 0, or the last words of a child that ended: any broker, or the last of the workers. */
int local_check(struct local *l, struct err *e);
/* drain_ms: how long a worker may finish what it is doing (0 for an embedded farm whose command has ended). *stop again: no waiting. */
void local_close(struct local *l, int64_t drain_ms, volatile sig_atomic_t *stop);

#endif

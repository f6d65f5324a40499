/* foreman.h - several devices from one command: a supervisor (a zfarm-worker of its own) for each.
 *
 *   n = foreman_devices(&set, conf.device, gpus, &e);      "cuda:all", "cuda:0,cuda:2", "cpu"
 *   if (set.n > 1) rc = foreman_run(&conf, &set, argc, argv, &e);
 *
 * Each supervisor is in `zfarm workers` under its own name and answers for its own device: a GPU that fails takes no other with it.
 * Not here: sessions, leases, engines (worker.h). */
#ifndef WORKER_FOREMAN_H
#define WORKER_FOREMAN_H

#include "base/err.h"
#include "worker/conf.h"

#define FOREMAN_DEVICES_MAX 64
#define FOREMAN_WORD_MAX    15

struct foreman_set {
    char word[FOREMAN_DEVICES_MAX][FOREMAN_WORD_MAX + 1]; /* "cpu", "auto", "cuda:3" */
    int  n;
};

/* Words between commas; cuda:all stands for every GPU (for cuda:0 where there is none: opening it tells why). n_gpus() is asked at most
 * once, and only then. ERR_ARG: not a device, or a GPU that is named twice. */
int foreman_devices(struct foreman_set *set, const char *text, int (*n_gpus)(void), struct err *e);
/* How many GPUs this machine has. Asked in a process of its own, which ends: this one never holds a GPU. */
int foreman_gpus(void);
/* A supervisor for each device, with this command line, until all have ended. SIGTERM and SIGINT are passed on. One that is killed is
 * started again; one that ends with a sentence is not. ERR_STATE: one or more ended so. */
int foreman_run(const struct worker_conf *conf, const struct foreman_set *set, int argc, char **argv, struct err *e);

#endif

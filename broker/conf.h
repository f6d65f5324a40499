/* conf.h - the settings of zfarm-broker, from the command line. */
#ifndef BROKER_CONF_H
#define BROKER_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "broker/tenant.h"

#define LISTEN_MAX 8

struct broker_conf {
    const char    *listen[LISTEN_MAX]; /* borrowed from argv */
    size_t         n_listen;
    const char    *data;
    const char    *keys; /* NULL: none */
    int64_t        retention_ms; /* a collected image stays this long */
    int64_t        remember_ms;  /* a job that is over and wholly collected is known this long: its key still answers */
    enum log_level level;
    struct quota   quota;        /* of every client */
    uint64_t       farm_queued;  /* images that may wait or run, of all clients */
    int            crash_guard; /* starts after ends in disorder; then nothing is leased. 0: never */
    int            ready_fd; /* -1: none */
    uint64_t       memory_max_bytes; /* 0: as much as there is */
};

/* Ends the process after --help and --version (0) and on a wrong command line (2, with a sentence). */
void conf_parse(struct broker_conf *c, int argc, char **argv);

#endif

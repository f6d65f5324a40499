/* args.h - the command line of every command of zfarm, into one struct, every value checked.
 *
 *   struct args a;
 *   int rc = args_parse(ARGS_GENERATE, argc, argv, &a);     argv[0] is the command's word; 0, or the exit code: the sentence was printed
 *
 * --help and --version print and exit 0. Environment: ZFARM_BROKER, ZFARM_MODEL. Strings are argv's own.
 * This and main.c are the only rooms of the client that see argv and the environment. Not here: what is done with it (cmd_*.c). */
#ifndef CLIENT_ARGS_H
#define CLIENT_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/fields.h"

enum args_command {
    ARGS_GENERATE,
    ARGS_BATCH,
    ARGS_JOBS,
    ARGS_SHOW,
    ARGS_WATCH,
    ARGS_GATHER,
    ARGS_CANCEL,
    ARGS_WORKERS,
    ARGS_UP,
    ARGS_DEAD,
    ARGS_REQUEUE,
    ARGS_DRAIN,
    ARGS_PAUSE,
    ARGS_RESUME,
    N_ARGS_COMMANDS
};

#define ARGS_BROKER_DEFAULT "tcp://127.0.0.1:7777"
#define ARGS_PLACES_MAX     3 /* text, image, vae */

struct args {
    enum args_command command;
    struct row        row; /* what to make; for batch: the defaults of every row */
    bool              prompt_said;
    const char       *prompt_file, *out, *latents, *sheet; /* sheet: "" = the default name */
    const char       *file;                                /* batch FILE */
    uint64_t          job;                                 /* show, watch, gather, cancel JOB */
    int64_t           index;                               /* requeue JOB:INDEX; -1: all of the job */
    const char       *worker;                              /* drain WORKER */
    const char       *client;                              /* pause, resume CLIENT; NULL: the farm */
    int64_t           deadline_ms;                         /* generate, batch; 0: none */
    bool              undo;                                /* drain */
    const char       *broker;                              /* NULL: an embedded farm */
    const char       *key, *server_key;                    /* of that broker; NULL: none */
    const char       *keys;                                /* up: the farm's */
    const char       *dit, *text_encoder, *vae, *tokenizer, *profile; /* files of a model for an embedded farm */
    const char       *place[ARGS_PLACES_MAX];              /* as --place has them; the worker understands them */
    int               n_places;
    const char       *model, *model_env, *device, *precision, *vram_budget, *listen, *data;
    int               n_workers, n_threads;
    bool              sheet_said, resume, detach, keep, json, quiet;
    bool              own_farm; /* --broker none was said */
    int64_t           timeout_ms, patience_ms;
    enum job_class    job_class; /* 0: not said */
    int               limit; /* jobs: rows */
};

int         args_parse(enum args_command command, int argc, char **argv, struct args *a);
const char *args_command_word(enum args_command command);    /* "generate" */
const char *args_command_summary(enum args_command command); /* one line for `zfarm help` */

#endif

/* conf.h - what the command line of zfarm-worker says.
 * The only room of worker/ that sees argv (but for the engine child's own). */
#ifndef WORKER_CONF_H
#define WORKER_CONF_H

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "engine/engine.h"
#include "proto/limits.h"
#include "worker/place.h"

struct watch { /* how long the engine may be silent; no flags, tests make them small */
    int64_t load_ms;       /* between two words while it loads */
    int64_t first_ms;      /* a stage nobody has measured, and texts; per started 256x256 px on a CPU, flat on a GPU */
    int64_t floor_ms;      /* a measured step, decode or writing: max(floor, 5 x its mean) */
    int64_t kill_ms;       /* from SIGABRT to SIGKILL */
    int64_t backoff_ms;    /* first restart; doubles up to backoff_max_ms */
    int64_t backoff_max_ms;
    int64_t drain_ms;      /* SIGTERM: a running task may take so long */
};

struct worker_conf {
    const char    *broker;
    const char    *key, *server_key;           /* NULL: none */
    char           model[MODEL_MAX_BYTES + 1]; /* the name announced */
    const char    *model_dir;                  /* NULL: a set of files */
    const char    *dit, *text_encoder, *vae, *tokenizer, *profile; /* NULL: as the folder has them */
    const char    *device, *precision;
    const char    *vram_budget;                /* GiB, as worker_conf_budget() reads it; NULL: what is free, less a reserve */
    int            n_threads;                  /* 0: all that this process may use */
    struct place   place;                      /* n_image 0: all on device */
    char           place_words[2 * PLACE_LINE_BYTES]; /* of --place, one after the other; "auto" */
    bool           plan;                       /* --plan: say what would be where, and end */
    bool           device_given, slots_given, device_is_last;
    int            n_slots;                    /* leases held at once */
    char           name[NAME_MAX_BYTES + 1];
    bool           name_given;
    enum log_level log_level;
    struct watch   watch;
};

/* Everything but broker and model at its default. */
void worker_conf_init(struct worker_conf *c);
/* "NAME=DIR", "DIR" or, for a set of files, "NAME=": fills model and model_dir (borrowed). ERR_ARG. */
int  worker_conf_model(struct worker_conf *c, const char *text, struct err *e);
enum engine_precision worker_conf_precision(const char *word); /* "auto", "f32", "bf16" */
/* "11.5": GiB, 0.25 to 1024, into bytes. ERR_ARG. */
int  worker_conf_budget(const char *text, size_t *bytes, struct err *e);
/* --place WORD, any number of them: "text=cuda:0", ..., or "auto" alone. ERR_ARG. */
int  worker_conf_place(struct worker_conf *c, const char *word, struct err *e);
/* From now on this is where the parts are; as many slots as keep its devices busy, unless --slots said how many. */
void worker_conf_placed(struct worker_conf *c, const struct place *p);
/* Is there a model, and a name for it? Do the words of --place make a placement? The name of a set of files is, when none was said, the DiT file's. ERR_ARG. */
int  worker_conf_check(struct worker_conf *c, struct err *e);
/* Exits 0 after --help and --version, 2 on a usage error, with a sentence on stderr. */
void worker_conf_parse(struct worker_conf *c, int argc, char **argv);

#endif

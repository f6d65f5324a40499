/* msg.h - every message as a struct, in plain C. docs/PROTOCOL.md is the prose; cluster.proto the bytes; wire.c the only bridge.
 *
 * A struct msg and everything it points to live in the arena it came in; strs are borrowed. Senders fill structs on their stack.
 * Flow:  client  HELLO -> WELCOME; SUBMIT -> SUBMIT_OK; EVENTS (long poll) -> EVENTS_OK; FETCH -> FETCH_OK, CHUNK*; COLLECTED -> _OK
 *        worker  HELLO -> WELCOME; READY; LEASE(S) <-; BEAT -> BEAT_OK; OFFER -> OFFER_OK, CHUNK*; RESULT_OK <-; OFFERS -> OFFERS_OK;
 *                FAILED -> FAILED_OK
 * Every request carries msg.correlation; its reply repeats it. Unknown session: ERROR{WIRE_UNKNOWN_SESSION} -> HELLO again. */
#ifndef PROTO_MSG_H
#define PROTO_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/limits.h"

#define KEY_BYTES 16

enum rng_kind { RNG_TORCH_CUDA = 1, RNG_TORCH_CPU = 2 };

struct rng {
    enum rng_kind kind;
    uint32_t      threads; /* torch-cuda: the grid T of the device emulated; 0 for torch-cpu */
};

#define RNG_H100_THREADS 270336u /* 132 SMs x 2048 */

/* One image, wholly: a task's result is a pure function of (model, spec). Immutable after acceptance. */
struct spec {
    struct str prompt, negative; /* UTF-8, 0..PROMPT_MAX_BYTES */
    struct str model;            /* a name that workers announce; empty = the farm's default */
    int32_t    width_px, height_px; /* 0: the model's own */
    int32_t    steps;            /* forward passes, 1..STEPS_MAX; 0 = the profile's default */
    float      guidance;         /* diffusers convention (0 = off); < 0 = the profile's default */
    float      cfg_norm;         /* 0 = off; < 0 = the profile's default */
    float      cfg_trunc;        /* < 0 = the profile's default */
    uint64_t   seed;
    struct rng rng;
    bool       want_latents;     /* deliver the final latents beside the image */
};

/* n_images tasks that differ only in the seed: image k uses spec.seed + k. */
struct item {
    struct spec spec;
    uint32_t    n_images;
    struct str  label; /* the client's wish for the file name of its first image; may be empty; checked by whoever writes files */
};

enum task_state { TASK_QUEUED = 1, TASK_RUNNING, TASK_DONE, TASK_FAILED, TASK_CANCELED, TASK_EXPIRED };
enum part_kind { PART_IMAGE = 1, PART_LATENTS = 2 };
enum job_class { CLASS_INTERACTIVE = 1, CLASS_NORMAL, CLASS_BULK }; /* shares of the farm 8:4:1 while all three wait */
enum role { ROLE_CLIENT = 1, ROLE_WORKER = 2 };

struct part {
    enum part_kind kind;
    uint64_t       size_bytes;
    uint8_t        sha256[32];
};

enum msg_kind {
    MSG_HELLO = 1, MSG_WELCOME, MSG_ERROR, MSG_GOAWAY, MSG_BYE,
    MSG_SUBMIT = 16, MSG_SUBMIT_OK, MSG_CANCEL, MSG_CANCEL_OK, MSG_JOBS, MSG_JOBS_OK, MSG_SHOW, MSG_SHOW_OK, MSG_EVENTS, MSG_EVENTS_OK,
    MSG_FETCH, MSG_FETCH_OK, MSG_COLLECTED, MSG_COLLECTED_OK, MSG_WORKERS, MSG_WORKERS_OK,
    MSG_CONTROL = 32, MSG_CONTROL_OK,
    MSG_READY = 64, MSG_LEASE, MSG_BEAT, MSG_BEAT_OK, MSG_OFFER, MSG_OFFER_OK, MSG_RESULT_OK, MSG_FAILED, MSG_FAILED_OK, MSG_RELEASE,
    MSG_LEASES = 80, MSG_OFFERS, MSG_OFFERS_OK,
    MSG_CHUNK = 96, MSG_CREDIT
};

struct model_info {
    struct str name;      /* "turbo": what specs ask for */
    struct str profile;   /* "turbo", "base" */
    uint8_t    digest[32];
    int32_t    steps;     /* defaults of the profile */
    float      guidance;
};

struct held { /* a lease a worker still holds when it says HELLO */
    uint64_t task, epoch;
};

/* A device of a worker and what of the model it has: one of several, when the model's parts are placed apart (its group). */
enum rank_part { RANK_TEXT = 1, RANK_IMAGE = 2, RANK_VAE = 4 }; /* text encoder, transformer, autoencoder */
struct rank {
    struct str device;                 /* "cuda:0" */
    uint32_t   parts;                  /* enum rank_part, or-ed */
    uint64_t   used_bytes, total_bytes; /* of its memory, lately; 0: not known */
    uint32_t   busy_permille;          /* of the last second */
};

struct hello {
    enum role  role;
    uint32_t   major, minor;
    struct str name;              /* host:pid or what the user said */
    struct str version;
    uint8_t    instance[KEY_BYTES]; /* random per process: the same worker after a reconnect */
    /* workers */
    struct str device, about;     /* "cpu", "AMD EPYC, 2 threads, f32" */
    uint32_t   capacity;          /* leases it may hold at once; 0 while loading or draining */
    struct model_info *model; size_t n_models;
    struct held       *held;  size_t n_held;
    uint32_t   max_batch;         /* tasks of one shape it makes at once; 0: as 1 */
    struct rank       *rank;  size_t n_ranks; /* in the group's order; none: a worker that does not tell */
};

struct welcome {
    uint32_t major, minor;
    uint64_t boot_id;                  /* counts the broker's starts */
    uint8_t  store[KEY_BYTES];         /* names the journal: another store, another cursor */
    uint32_t beat_ms;
    struct held *drop; size_t n_drop;  /* leases to stop: not ours any more, or finished */
};

enum wire_error {
    WIRE_UNKNOWN_SESSION = 1, WIRE_PROTOCOL, WIRE_UNSUPPORTED, WIRE_INVALID, WIRE_NOT_FOUND, WIRE_CONFLICT, WIRE_BUSY, WIRE_QUOTA,
    WIRE_INTERNAL, WIRE_VERSION,
    WIRE_DENIED /* not with this key */
};

struct error {
    enum wire_error code;
    uint32_t        retry_after_ms;
    struct str      text;
};

struct submit { /* tasks [first_task, first_task + sum of n_images) of a job of n_tasks; the job's key makes it idempotent */
    uint8_t      key[KEY_BYTES];
    struct str   name;
    uint32_t     n_tasks, first_task;
    struct item *item; size_t n_items;
    enum job_class job_class; /* of the whole job, told by its first SUBMIT; 0: CLASS_NORMAL */
    uint64_t       deadline_ms; /* as the class: what has not begun so long after its first SUBMIT expires; 0: never */
};

struct submit_ok {
    uint64_t job;
    bool     duplicate;
    uint32_t n_tasks_known; /* of the job, journaled so far */
};

struct cancel { uint64_t job; };
struct cancel_ok { uint32_t n_canceled, n_canceling, n_finished; };

struct jobs { uint64_t job; /* 0: all, newest first */ uint32_t limit; };

struct job_info {
    uint64_t   job;
    uint8_t    key[KEY_BYTES];
    struct str name;
    int64_t    created_wall_ms;
    uint32_t   n_tasks, n_queued, n_running, n_done, n_failed, n_canceled, n_collected;
    int64_t    eta_ms;      /* -1: not known yet */
    float      images_per_s; /* of the farm on this job lately; 0: not known */
    struct str why;         /* when nothing runs: "no worker has model base" ...; may be empty */
    enum job_class job_class;
    struct str client;      /* whose share it takes; may be empty */
    uint32_t   n_expired;
    uint32_t   n_canceling; /* canceled ones that a worker has not let go of yet: it stops at its next step */
    uint64_t   deadline_ms; /* after created_wall_ms; 0: none */
};
struct jobs_ok { struct job_info *job; size_t n_jobs; };

struct show { uint64_t job; uint32_t first_task, limit; };

struct task_info { /* the durable face of a task; also an event */
    uint64_t        seq;        /* the store's commit sequence of its last change: the cursor */
    uint64_t        job, task;
    uint32_t        index;      /* in its job */
    enum task_state state;
    uint64_t        seed;
    int32_t         width_px, height_px;
    struct str      label;
    struct part     part[PARTS_MAX]; size_t n_parts;
    struct str      bytes[PARTS_MAX]; /* of a part, when EVENTS asked for it and it was at hand; else empty */
    uint32_t        took_ms;    /* on the worker */
    uint32_t        attempts;
    bool            collected;
    struct str      worker;     /* name; may be empty */
    struct str      error;      /* of FAILED; the worker's own sentence */
};
struct shown { struct task_info info; struct spec spec; };
struct show_ok { struct job_info job; struct shown *task; size_t n_tasks; };

struct events {
    uint64_t job; /* 0: all */
    uint64_t cursor;
    uint32_t limit, wait_ms;
    uint32_t inline_bytes; /* parts up to so many bytes may come with their event; 0: none */
};

enum stage { STAGE_WAITING = 1, STAGE_LOADING, STAGE_TEXT, STAGE_DENOISE, STAGE_DECODE, STAGE_UPLOAD };

struct progress { /* not durable: what leased tasks are doing now */
    uint64_t   job, task, epoch;
    uint32_t   index;
    enum stage stage;
    uint32_t   step, steps, age_ms;
    struct str worker; /* name; filled by the broker */
};
struct events_ok {
    uint64_t          next_cursor;
    uint8_t           store[KEY_BYTES];
    struct task_info *event;    size_t n_events;
    struct progress  *progress; size_t n_progress;
    struct job_info   job;      /* when asked for one job; job.job == 0 else */
};

struct fetch { uint64_t task; enum part_kind kind; uint64_t offset, credit_bytes; uint64_t transfer; /* chosen by the client, unique per connection */ };
struct fetch_ok { uint64_t transfer; struct part part; struct str bytes; /* all of a small part: no CHUNK follows; else empty */ };
struct collected { uint64_t *task; size_t n_tasks; };
struct collected_ok { uint32_t n_known; };

struct worker_info {
    struct str  name, device, about, version, state; /* state: "ready", "loading", "busy", "draining", "suspect", "quarantined", "lost" */
    struct model_info *model; size_t n_models;
    uint32_t    capacity, n_held;
    struct progress *progress; size_t n_progress;
    uint64_t    n_done, n_failed;
    uint32_t    ms_per_image; /* recent mean; 0: none yet */
    int64_t     silent_ms;
    struct str  why;          /* of QUARANTINED and DRAINED: a sentence; may be empty */
    uint32_t    max_batch;
    struct rank *rank;        size_t n_ranks; /* as its HELLO and its last BEAT with any have them */
};
struct workers_ok { struct worker_info *worker; size_t n_workers; };

enum control_verb { CONTROL_REQUEUE = 1, CONTROL_DRAIN, CONTROL_UNDRAIN, CONTROL_PAUSE, CONTROL_RESUME };
struct control_ask {
    enum control_verb verb;
    uint64_t          job;       /* REQUEUE: its failed tasks, all of them or one */
    bool              one;
    uint32_t          index;
    struct str        worker;    /* DRAIN, UNDRAIN: its name */
    struct str        client;    /* PAUSE, RESUME: whose work; empty: the whole farm's */
};
struct control_ok {
    uint32_t n;               /* tasks or workers that it changed */
    bool     quarantine_over; /* UNDRAIN: it was quarantined, and is not any more */
};

struct ready { uint32_t capacity; }; /* from now on; 0 drains */

struct lease {
    uint64_t    task, epoch, job;
    uint32_t    index;
    uint32_t    budget_ms; /* the broker gives up after this */
    struct spec spec;      /* one image: seed already added up */
    uint64_t    batch;     /* those of one number are of one shape and given together, to be made together; 0: alone */
};
struct leases { struct lease *lease; size_t n_leases; }; /* given together; as many LEASEs */

struct beat {
    uint64_t seq;
    uint32_t engine_restarts;
    struct progress *progress; size_t n_progress; /* one per held lease */
    struct rank     *rank;     size_t n_ranks;    /* all of them, or none: then what was said before holds */
};
struct beat_ok { /* also pushed unasked when something is canceled (seq 0) */
    uint64_t     seq;
    struct held *cancel; size_t n_cancel; /* to stop at the next step */
    struct held *recall; size_t n_recall; /* to give back (RELEASE) if it has not begun; else nothing */
};

struct offer {
    uint64_t    task, epoch;
    int32_t     width_px, height_px;
    uint32_t    took_ms, text_ms, denoise_ms, decode_ms;
    struct part part[PARTS_MAX]; size_t n_parts;
    struct str  bytes[PARTS_MAX]; /* of small parts, all of them or none: then no CHUNKs follow, and RESULT_OK is the answer */
};
struct offers { struct offer *offer; size_t n_offers; }; /* all with their bytes */
enum offer_verdict { OFFER_UPLOAD = 1, OFFER_HAVE, OFFER_DROP };
struct offer_ok {
    uint64_t           task;
    enum offer_verdict verdict;
    uint64_t           transfer[PARTS_MAX]; /* for UPLOAD: one transfer per part, sent one after the other */
    uint64_t           credit_bytes;        /* for the first */
};
struct offers_ok { struct offer_ok *offer; size_t n_offers; }; /* HAVE: durable, forget it; UPLOAD: offer it again, by itself */
struct result_ok { uint64_t task, epoch; }; /* durable: the worker may forget it */

enum fail_class { FAIL_INVALID = 1, FAIL_OOM, FAIL_NAN, FAIL_CRASHED, FAIL_STUCK, FAIL_TRANSIENT, FAIL_CANCELED };
struct failed { uint64_t task, epoch; enum fail_class why; struct str text; };
struct failed_ok { uint64_t task, epoch; };
struct release { uint64_t task, epoch; struct str why; };

struct chunk { /* bytes ride in the third frame */
    uint64_t    transfer, offset;
    bool        last;
    struct str  bytes;
};
struct credit { uint64_t transfer, credit_bytes; };

struct msg {
    enum msg_kind kind;
    uint64_t      correlation; /* 0: not a request */
    union {
        struct hello hello; struct welcome welcome; struct error error;
        struct submit submit; struct submit_ok submit_ok; struct cancel cancel; struct cancel_ok cancel_ok;
        struct jobs jobs; struct jobs_ok jobs_ok; struct show show; struct show_ok show_ok; struct events events; struct events_ok events_ok;
        struct fetch fetch; struct fetch_ok fetch_ok; struct collected collected; struct collected_ok collected_ok; struct workers_ok workers_ok;
        struct control_ask control; struct control_ok control_ok; struct ready ready; struct lease lease; struct leases leases; struct beat beat;
        struct beat_ok beat_ok; struct offer offer; struct offer_ok offer_ok; struct offers offers; struct offers_ok offers_ok;
        struct result_ok result_ok; struct failed failed; struct failed_ok failed_ok; struct release release;
        struct chunk chunk; struct credit credit;
    };
};

/* Everything at its default: empty prompt, 1024x1024, steps/guidance/cfg of the profile, seed 0, torch-cuda of an H100. */
void spec_init(struct spec *s);
/* Every range of limits.h, finiteness, UTF-8, multiples of PX_MULTIPLE (the sentence names the nearest valid sizes). */
int  spec_check(const struct spec *s, struct err *e);
int  item_check(const struct item *it, struct err *e);
/* "torch-cpu", "torch-cuda", "torch-cuda:h100", "torch-cuda:l4", "torch-cuda:4090", ..., "torch-cuda:SMSxTHREADS". */
int  rng_parse(struct str word, struct rng *out, struct err *e);
/* The canonical word: "torch-cpu", "torch-cuda:h100", ... or "torch-cuda:270336" style SMSx THREADS when unnamed. */
const char *rng_text(const struct rng *r, char *text, size_t cap);
const char *task_state_name(enum task_state s); /* "queued", "running", "done", "failed", "canceled", "expired" */
const char *stage_name(enum stage s);
const char *job_class_name(enum job_class c); /* "interactive", "normal", "bulk" */
const char *msg_kind_name(enum msg_kind k);
const char *rank_parts_name(uint32_t parts); /* "text", "image", "image+vae", ... of 1 .. 7 */
bool task_state_final(enum task_state s);

#endif

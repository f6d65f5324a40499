/* limits.h - every bound of the wire, once. A value past its bound is refused with a sentence naming both; nothing is clamped. */
#ifndef PROTO_LIMITS_H
#define PROTO_LIMITS_H

#define WIRE_MAJOR 1
#define WIRE_MINOR 2

#define PROMPT_MAX_BYTES   (32 * 1024)  /* prompt and negative prompt, UTF-8 */
#define MODEL_MAX_BYTES    64           /* a model's name */
#define NAME_MAX_BYTES     128          /* a job's, worker's or client's name */
#define LABEL_MAX_BYTES    200          /* the client's wish for a file name */
#define ERROR_MAX_BYTES    1000
#define PX_MIN             16
#define PX_MAX             4096
#define PX_MULTIPLE        16           /* VAE scale 8 x patch 2 */
#define STEPS_MAX          200          /* forward passes */
#define GUIDANCE_MAX       100.0f
#define CFG_NORM_MAX       100.0f
#define CFG_TRUNC_MAX      100.0f       /* compared with a time in 0..1: past 1 it never cuts */
#define RNG_THREADS_MAX    (1u << 24)   /* torch-cuda grid */
#define JOB_TASKS_MAX      100000       /* images in one job */
#define SUBMIT_ITEMS_MAX   256          /* items in one SUBMIT */
#define EVENTS_MAX         512          /* events in one EVENTS_OK */
#define EVENTS_WAIT_MAX_MS 30000
#define SHOW_TASKS_MAX     256
#define JOBS_MAX           512          /* rows in one JOBS_OK */
#define WORKERS_MAX        1024
#define COLLECTED_MAX      512
#define CANCELS_MAX        256          /* in one BEAT_OK */
#define LEASES_MAX         64           /* held by one worker */
#define RANKS_MAX          16           /* devices of one worker */
#define RANK_DEVICE_BYTES  15           /* the longest name of one: "cuda:12" */
#define RANK_MEMORY_BYTES  (1ull << 50) /* of one device */
#define BATCH_MAX          16           /* tasks that a worker may offer to make at once */
#define DEADLINE_MAX_MS    (30 * 86400000LL) /* of a job, from its SUBMIT on */
#define MODELS_MAX         16           /* announced by one worker */
#define PARTS_MAX          2            /* image, latents */
#define PART_MAX_BYTES     (256u << 20)
#define INLINE_MAX_BYTES   (64 * 1024)  /* a part that rides in OFFER, OFFERS, FETCH_OK or EVENTS_OK instead of in CHUNKs */
#define OFFERS_MAX         LEASES_MAX   /* in one OFFERS, and leases in one LEASES */
#define BULK_MAX_BYTES     (900 * 1024) /* inline bytes in one OFFERS or EVENTS_OK: the rest of BODY_BIG_MAX_BYTES is for what describes them */

#define FRAME_HEADER_BYTES 24
#define BODY_MAX_BYTES     (64 * 1024)       /* control messages, before protobuf sees them */
#define BODY_CHUNK_MAX_BYTES 256             /* CHUNK */
#define BODY_BIG_MAX_BYTES (1024 * 1024)     /* SUBMIT, LEASE(S), OFFER(S), EVENTS_OK, FETCH_OK, SHOW_OK, JOBS_OK, WORKERS_OK */
#define CHUNK_MAX_BYTES    (256 * 1024)
#define WINDOW_CHUNKS      8                 /* credit of one transfer: 2 MiB */
#define CREDIT_MAX_BYTES   (16u << 20)       /* one grant */
#define ABOUT_MAX_BYTES    1000              /* a device, described */
#define UNKNOWN_FIELDS_MAX 64                /* of a newer minor, in one message */
#define MSG_ARENA_BYTES    (8u << 20)        /* memory one unpacked message may take */

#define BEAT_MS            2000  /* a worker speaks at least this often */
#define PROGRESS_MS        150   /* and at most this often for progress alone */
#define WORKER_SUSPECT_MS  6000  /* silent: no new leases */
#define WORKER_LOST_MS     15000 /* silent: its leases go back */
#define RESTART_GRACE_MS   20000 /* after a broker's start no lease expires */
#define CLIENT_TIMEOUT_MS  10000 /* a client waits this long for the broker before it says so */

#endif

/* engine.h - text in, pixels out. The only door of the engine: the worker sees nothing behind it.
 *
 *   engine_open(&g, &opts, &e);
 *   engine_encode(g, prompt, &pos, &e);                         cached by prompt
 *   engine_denoise(g, pos, NULL, &gen, &hooks, &z, &e);         gen.n_steps forward passes
 *   engine_decode(g, z, &img, &e);                              RGB8
 *   latent_free(z); embed_free(pos); engine_free(g);
 *
 * Or with text encoder, transformer and VAE on several devices: "split", below.
 *
 * A result is a pure function of (model files, prompt, negative, gen) on one device class: not of threads, order or history.
 * Errors are sentences; after ERR_DEVICE the process should end. One thread uses an engine at a time.
 * Not here: sockets, jobs, PNG, files of results. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/png.h" /* struct image */
#include "base/str.h"

struct engine;
struct embed;  /* a prompt's conditioning, refined caption included; reference counted */
struct latent; /* F32 [16, H/8, W/8], before VAE scaling */

/* Freely combined. Captions are embedded and refined by DIT, whose weights that takes. */
enum engine_part { ENGINE_TEXT = 1, ENGINE_DIT = 2, ENGINE_VAE = 4, ENGINE_IMAGE = ENGINE_DIT | ENGINE_VAE, ENGINE_BOTH = ENGINE_TEXT | ENGINE_IMAGE };
enum engine_precision { ENGINE_AUTO, ENGINE_F32, ENGINE_BF16 };
enum noise_kind { NOISE_TORCH_CUDA, NOISE_TORCH_CPU };

struct engine_made; /* made.h: made-up weights instead of files, for measuring */

struct engine_opts {
    const char *model_dir;                /* diffusers folder; may be NULL when dit, text_encoder and vae are all given */
    const char *dit, *text_encoder, *vae; /* a file (.safetensors, index, .gguf) or folder in place of the model folder's; NULL: that one */
    const char *tokenizer;                /* folder of a tokenizer.json, or the file; NULL: found (model.h) */
    const char *profile;                  /* "turbo" or "base"; NULL: as the model says */
    const char *device;                   /* "cpu", "cuda:0", "auto" */
    enum engine_part      parts;
    enum engine_precision precision;
    int                   n_threads;    /* 0 = all that this process may use */
    int                   cache_embeds; /* prompts kept; 0 = default */
    size_t                vram_budget_bytes; /* of a GPU's memory, beside the driver's own; 0 = what is free but for a reserve (fit.c) */
    const struct engine_made *made;     /* NULL; else every name of a file above is */
    /* may be NULL: called while opening, with the bytes of weights that are on the device, of how many, and a word. On a device that borrows weights
     * where they are (the CPU) nothing is counted: 0. With "ready" all is what was counted. */
    void (*on_progress)(void *ctx, int64_t done_bytes, int64_t all_bytes, const char *what);
    void *ctx;
};

struct engine_profile { /* what the checkpoint is, and its defaults (MODEL.md s.7) */
    char    name[32];   /* "turbo", "base" */
    int     n_steps;    /* forward passes */
    float   guidance, cfg_norm, cfg_trunc;
    int     own_px;      /* side of the pictures it was made for: what to make when nobody says */
    int     multiple_px; /* width and height must be multiples of this (VAE scale x patch) */
    int     tokens_max;  /* prompt ids kept */
    uint8_t digest[32];  /* SHA-256 over configs, tokenizer and tensor headers: names the model cheaply */
    char    device[16];  /* where it runs: "cpu", "cuda:0" */
    char    about[256];  /* "6.15 B DiT, 4.02 B text encoder, bf16, cpu 2 threads avx2" */
    char    plan[320];   /* of a GPU's memory: what lies where and why, GiB per part; "" on the CPU */
    char    plan_word[64]; /* the same in a few words: "all resident, widened" */
};

#define ENGINE_PASSES_TIMED 64

struct engine_times { /* by the device's clock, of the latest call of each kind; negative: it did not run (a prompt out of the cache) */
    double text_ms, caption_ms;         /* engine_encode: the text encoder; the embedded and refined caption */
    double pass_ms[ENGINE_PASSES_TIMED]; /* engine_denoise */
    double denoise_ms, decode_ms;
    double image_ms;                    /* from the begin of engine_encode's work to the end of engine_decode's */
    int    n_passes;                    /* timed: at most ENGINE_PASSES_TIMED */
    size_t memory_used_bytes, memory_total_bytes; /* of the device, now: dev_memory() */
    size_t memory_before_bytes;                   /* of a GPU: in use before the model was opened */
};

struct gen {
    int             width_px, height_px;
    int             n_steps;  /* forward passes, >= 1 */
    float           guidance; /* diffusers convention: pred = pos + g (pos - neg); 0 = off */
    float           cfg_norm; /* 0 = off; True of diffusers = 1.0 */
    float           cfg_trunc;
    uint64_t        seed;
    enum noise_kind noise;
    uint32_t        noise_threads; /* torch-cuda: total threads T of the device emulated (H100: 270336) */
};

struct gen_hooks {
    void *ctx;
    /* after each forward pass (done of n_steps); nonzero stops with ERR_CANCELED. May be NULL. */
    int (*on_step)(void *ctx, int done, int n_steps);
};

int                          engine_gpus(void); /* of this machine, 0 to 100; asking may take a moment and holds the driver */
int                          engine_open(struct engine **out, const struct engine_opts *o, struct err *e);
void                         engine_free(struct engine *g);
const struct engine_profile *engine_profile(const struct engine *g);
/* Refuses what cannot run (sizes, steps, NaN) with the sentence and the nearest valid sizes, and with ERR_NOMEM what is larger than the plan of
 * a GPU's memory allows. */
int engine_check(const struct engine *g, const struct gen *gen, struct err *e);

int  engine_encode(struct engine *g, struct str prompt, struct embed **out, struct err *e); /* free with embed_free */
void embed_free(struct embed *p);
/* Copies the raw prompt embedding F32 [n_tok, n_feat] for tests and tools; buffer of cap floats or NULL to ask sizes. */
int embed_get(const struct embed *p, int64_t *n_tok, int64_t *n_feat, float *out, int64_t cap, struct err *e);

/* neg is needed when gen->guidance > 0 (the embed of the negative prompt, "" when none), else NULL. */
int engine_denoise(struct engine *g, const struct embed *pos, const struct embed *neg, const struct gen *gen, const struct gen_hooks *h,
                   struct latent **out, struct err *e);
int latent_get(const struct latent *z, int dim[3], const float **values, struct err *e); /* borrowed; dim = 16, H/8, W/8 */
/* A latent from outside (tests, VAE-only work); copies values [dim0*dim1*dim2]. */
int  latent_new(struct engine *g, const int dim[3], const float *values, struct latent **out, struct err *e);
void latent_free(struct latent *z);
int  engine_decode(struct engine *g, const struct latent *z, struct image *out, struct err *e); /* image_free */

void engine_times(const struct engine *g, struct engine_times *out);

struct engine_memory {
    size_t used_bytes, total_bytes; /* dev_memory() of the device, now */
};

/* On the engine's thread, as everything else; cheap enough for once a second. */
void engine_memory(const struct engine *g, struct engine_memory *out);

/* ---- split: several engines of one process run the parts of one model, each on a thread of its own ----
 *
 *   engine_link(g, n, 30000, &e);                            all of them, open, before their threads begin
 *   text's thread:   engine_encode(text, prompt, &p, &e); engine_send(text, p, ticket, ENGINE_POS, &e); embed_free(p);
 *   image's thread:  engine_recv(image, ticket, ENGINE_POS, &p, &e); engine_drop(image, ticket); engine_denoise(image, p, ...);
 *                    engine_send_latent(image, z, ticket, &e);
 *   VAE's thread:    engine_recv_latent(vae, ticket, &z, &e); engine_drop(vae, ticket); engine_decode(vae, z, &img, &e);
 *   engine_unlink(g, n);                                     their threads are gone; the engines are not
 *
 * Which engine takes what was sent is settled when it is received: a sender waits for nobody. What is sent is the sender's F32 values, so on one
 * device class the bytes of the picture are those of a single engine. A caption is made where it is received, and remembered there by its prompt.
 * ERR_DEVICE from any of these calls: the link is down for all, and the process should end. */

enum engine_side { ENGINE_POS, ENGINE_NEG }; /* the prompt, the negative prompt */

/* deadline_ms: for meeting, and for every transfer. ERR_CONFLICT: the engines have different models. */
int  engine_link(struct engine *const *g, int n, int64_t deadline_ms, struct err *e);
void engine_unlink(struct engine *const *g, int n);
const char *engine_link_about(const struct engine *g); /* "memory", "NCCL 2.28.9", "host copies"; "" when not linked */
/* From any thread: all that wait in these calls are let go with ERR_DEVICE. Nothing when not linked. */
void engine_link_fail(struct engine *g, const char *words);
/* ticket: a number that no other request of the process has. Waits only while too much that was sent is not yet received. */
int  engine_send(struct engine *g, const struct embed *p, uint64_t ticket, enum engine_side side, struct err *e);
int  engine_recv(struct engine *g, uint64_t ticket, enum engine_side side, struct embed **out, struct err *e); /* waits for it; embed_free */
int  engine_send_latent(struct engine *g, const struct latent *z, uint64_t ticket, struct err *e);
int  engine_recv_latent(struct engine *g, uint64_t ticket, struct latent **out, struct err *e);
/* Whatever was sent with this ticket is forgotten, received or not; from any thread, unless one is receiving it. */
void engine_drop(struct engine *g, uint64_t ticket);

/* ---- sizes, without loading: what a placement asks before it is made ---- */

struct engine_need { /* of one part on this kind of device */
    size_t weights_bytes[2]; /* [0] as stored, [1] widened to what products take; equal where there is nothing to widen. On the CPU: of the mapped files */
    size_t work_bytes[2];    /* work space of its stage, for the picture below and the longest prompt; of DIT the caption's, too */
};

struct engine_sizes {
    struct engine_need text, dit, vae;
    int    width_px, height_px;       /* of the picture that work spaces are for: 1024 x 1024, or the model's largest */
    bool   on_gpu, has_blocks;        /* has_blocks: [1] differs */
    char   device[16];
    size_t free_bytes, total_bytes;   /* of the device, now */
};

struct engine_plan { /* how some parts would lie on that device: what engine_open() would choose */
    size_t total_bytes, weights_bytes, work_bytes, kernels_bytes, budget_bytes; /* total is the sum of the three before the budget */
    char   about[320], word[64];      /* as profile.plan and plan_word; "" on the CPU */
};

/* Reads the files' headers and opens o->device for a moment (on a GPU that takes a driver: not in a process that must never hold one); o->parts is
 * not read. No weight is loaded. */
int engine_sizes(const struct engine_opts *o, struct engine_sizes *out, struct err *e);
/* Pure. budget_bytes 0: what was free, less a reserve. ERR_NOMEM, with the sentence of engine_open(), when these parts do not fit. */
int engine_sizes_plan(const struct engine_sizes *s, enum engine_part parts, size_t budget_bytes, struct engine_plan *out, struct err *e);

#endif

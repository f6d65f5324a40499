/* synth.h - the rooms of zfarm-model synth: its configs, its tokenizer, its weight files.
 * A synthetic checkpoint is a pure function of (config, seed, dtype): not of threads, chunks or shards. */
#ifndef TOOLS_SYNTH_H
#define TOOLS_SYNTH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/config.h"
#include "tools/plan.h"

/* ---- synth_conf.c ---- */

enum synth_part { SYNTH_TRANSFORMER, SYNTH_TEXT, SYNTH_VAE, SYNTH_PARTS };

struct synth_conf {
    char             *part[SYNTH_PARTS]; /* config.json of each part */
    char             *scheduler, *index; /* scheduler_config.json, model_index.json */
    struct model_conf model;             /* the same, as the engine reads them */
    struct plan       plan[SYNTH_PARTS];
};

extern const char *const synth_folder[SYNTH_PARTS];

/* which: "tiny", "small", "turbo", or the path of a JSON file whose sections transformer, text_encoder, vae, scheduler override tiny.
 * A section or key that tiny does not have is refused, and so is what the engine would refuse. */
int  synth_conf_open(struct synth_conf *c, const char *which, bool bf16, struct err *e);
void synth_conf_release(struct synth_conf *c);

/* ---- synth_tokenizer.c ---- */

#define SYNTH_TOKENS 282 /* ids of the tokenizer: 256 bytes and Qwen's 26 added tokens */

/* The text of tokenizer.json, yours to free(); NULL without memory. */
char *synth_tokenizer_json(void);
/* Writes tokenizer.json, tokenizer_config.json and chat_template.jinja into dir: byte tokens, no merges. */
int synth_tokenizer(const char *dir, struct err *e);

/* ---- synth_weights.c ---- */

struct synth_job {
    const char            *dir; /* of the model */
    uint64_t               seed;
    bool                   bf16; /* else F32 */
    const char            *type; /* of the transformer's and the text encoder's products ("q8_0", as GGUF), or NULL */
    int                    n_threads;
    int64_t                shard_bytes;
    bool                   quiet;                           /* no progress */
    volatile sig_atomic_t *stop;                            /* nonzero: ERR_CANCELED soon */
    int64_t                done_bytes, all_bytes, began_ms; /* over all parts, for progress */
};

/* Writes the weights of one part: `base`.safetensors, or shards and their index (last). Files take their names when they are whole. */
int synth_weights(struct synth_job *job, const char *folder, const struct plan *p, struct err *e);
/* One value of the tensor after the other, as floats: what synth_weights() stores, before rounding. */
void synth_read(const struct synth_job *job, const char *folder, const struct plan_tensor *t, uint64_t from, size_t n, float *out);
/* Values from..from+n of the tensor with this key into out (bf16 or float): mean + scale * r, r close to normal, |r| < 3.47. */
void     synth_fill(void *out, bool bf16, uint64_t key, uint64_t from, size_t n, float mean, float scale);
uint64_t synth_key(uint64_t seed, const char *folder, const char *name);

/* ---- synth_gguf.c ---- */

/* The same part as model.gguf, quantised to job->type, names as other tools know them. */
int synth_gguf(struct synth_job *job, const char *folder, const struct plan *p, struct err *e);

#endif

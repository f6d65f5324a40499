/* zfarm_bench.h - the rooms of zfarm-bench: options, what a stage costs by its shapes, running, telling.
 * A side is one set of options with its own engine; --ab gives two, and their rounds take turns so that heat and clocks hit both alike. */
#ifndef TESTS_BENCH_ZFARM_BENCH_H
#define TESTS_BENCH_ZFARM_BENCH_H

#include <stdbool.h>

#include "base/err.h"
#include "engine/config.h"
#include "engine/engine.h"
#include "kernels/tensor.h"

#define BENCH_SIZES_MAX   16
#define BENCH_REPEATS_MAX 1000
#define BENCH_SIDES_MAX   2

struct bench_size {
    int width_px, height_px;
};

struct bench_conf {
    const char       *config, *device, *options; /* options: a side's own words, for the report; "" */
    enum engine_precision precision;
    enum dtype        dit_kind, text_kind;
    struct bench_size size[BENCH_SIZES_MAX];
    int               n_sizes, n_steps, n_prompt_tok, n_repeats, n_warmup, n_threads; /* n_steps 0: the profile's */
    double            vram_budget_gib; /* 0: the engine's default */
    double            peak_tflops, peak_gbs; /* 0: known by the device's name, or no floors */
    bool              json, plan, is_side;
    const char       *ab[BENCH_SIDES_MAX];
    int               n_ab;
};

/* Ends the process with a sentence and status 2 when the words make no sense. */
void bench_conf_parse(struct bench_conf *c, int argc, char **argv);
/* side i of --ab: c with the words of that side on top. */
void bench_conf_side(struct bench_conf *side, const struct bench_conf *c, int i);
/* c->config as numbers: "turbo", "small", "tiny", a JSON file of overrides, or a model folder (its config files alone are read). */
int bench_conf_model(const struct bench_conf *c, struct model_conf *out, struct err *e);

/* ---- zfarm_bench_cost.c ---- */

enum bench_stage { STAGE_TEXT, STAGE_CAPTION, STAGE_PASS, STAGE_PASSES, STAGE_DECODE, STAGE_IMAGE, STAGE_WALL, STAGE_COUNT };

extern const char *const bench_stage_name[STAGE_COUNT];

struct cost {
    double flop;  /* one multiply-add is 2 */
    double bytes; /* that must at least move: weights once; the VAE's activations as each convolution and norm reads and writes them */
};

struct peak { /* what the device was measured to do at best; 0: not known */
    double flop_per_s, bytes_per_s;
};

/* Of one call of the stage for this picture; STAGE_PASSES, STAGE_IMAGE and STAGE_WALL are sums. n_steps: resolved. */
struct cost cost_of(enum bench_stage stage, const struct model_conf *m, const struct bench_conf *c, struct bench_size s, int n_steps);
/* The longer of computing and moving at the peak; 0: not known. A sum's floor is the sum of its stages' floors. */
double      cost_floor_ms(enum bench_stage stage, const struct model_conf *m, const struct bench_conf *c, struct bench_size s, int n_steps,
                          const struct peak *p);
struct peak cost_peak(const struct bench_conf *c, const char *about);

/* ---- zfarm_bench_run.c ---- */

struct sample { /* milliseconds, as they came */
    double *at;
    int     n, cap;
};

struct bench_run { /* one size of one side */
    struct bench_size size;
    int               n_steps;
    struct sample     ms[STAGE_COUNT];
    size_t            peak_bytes;
};

struct bench_side {
    struct bench_conf conf;
    struct model_conf model;
    struct engine    *engine; /* NULL: only planned */
    char             *tokenizer_json;
    int               n_prompt_extra; /* bytes of the prompt: its ids less the template's */
    double            open_ms;
    size_t            before_bytes, open_bytes, total_bytes; /* before: in use by the driver and others when the engine began to plan */
    struct bench_run  run[BENCH_SIZES_MAX];
};

int  side_open(struct bench_side *s, struct err *e);
void side_close(struct bench_side *s);
/* All sizes; the rounds of the sides take turns. */
int  sides_run(struct bench_side *s, int n, struct err *e);
double sample_median(const struct sample *s), sample_min(const struct sample *s), sample_max(const struct sample *s); /* -1 when empty */

/* ---- zfarm_bench_report.c ---- */

int report_text(const struct bench_side *s, int n);
int report_json(const struct bench_side *s, int n);

#endif

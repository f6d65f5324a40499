/* tiny.h - the 8 cases of golden/tiny-a (cases.json) as a table, the folder of its model, and what tests of the engine all do. */
#ifndef TESTS_ENGINE_TINY_H
#define TESTS_ENGINE_TINY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "engine/engine.h"
#include "engine/noise.h"

#define OK(call)                    \
    do {                            \
        struct err e = {0};       \
        if (call)                   \
            fail_msg("%s", e.text); \
    } while (0)

#define TINY_MODEL  TESTS_DIR "/golden/tiny-a/model"
#define TINY_GOLDEN TESTS_DIR "/golden/tiny-a/golden.safetensors"
#define TINY_CASES  8

struct tiny_case {
    const char *prompt; /* NULL: "x " 400 times */
    int         w, h, steps;
    float       guidance;
    const char *negative; /* NULL: "" */
    float       cfg_norm, cfg_trunc;
    uint64_t    seed;
    enum noise_kind noise;
    double      torch_bf16; /* relative RMS of torch's own bf16 latents against the golden (reference/README.md) */
    double      torch_levels; /* RMS in levels of 255 by which torch's decoder in bf16 misses the golden pixels, given the golden latents */
};

#define TINY_TORCH_WORST 8 /* levels by which that decoder is off at most, over all cases */

#define TINY_CAT   "a white cat sits on the green mat"
#define TINY_ROBOT "A sleek black helmeted robot, red 'Libel' logo \u2014 \u9020\u76f8\u300cZ-IMAGE\u300d \u26a1\ufe0f caf\u00e9"

static const struct tiny_case tiny_cases[TINY_CASES] = {
    { TINY_CAT, 64, 64, 8, 0, NULL, 0, 1, 42, NOISE_TORCH_CUDA, 5.1e-3, 0.969 },
    { TINY_ROBOT, 96, 48, 4, 0, NULL, 0, 1, 7, NOISE_TORCH_CUDA, 6.9e-3, 0.964 },
    { TINY_CAT, 64, 64, 1, 0, NULL, 0, 1, 42, NOISE_TORCH_CPU, 8.2e-3, 0.967 },
    { TINY_CAT, 80, 112, 3, 3.5f, "blurry, low quality", 0, 1, 123, NOISE_TORCH_CPU, 2.3e-2, 0.987 },
    { TINY_ROBOT, 64, 64, 5, 5, "", 1, 0.6f, 88888, NOISE_TORCH_CUDA, 1.6e-2, 0.957 },
    { "", 32, 32, 2, 0, NULL, 0, 1, 1234567, NOISE_TORCH_CUDA, 1.1e-2, 0.919 },
    { NULL, 256, 144, 2, 0.5f, NULL, 0, 1, 2024, NOISE_TORCH_CUDA, 1.0e-2, 0.990 },
    { TINY_CAT, 672, 288, 2, 0, NULL, 0, 1, 0, NOISE_TORCH_CUDA, 8.2e-3, 0.962 },
};

/* The prompt of case i, borrowed or in text. */
static inline const char *tiny_prompt(int i, char text[1024])
{
    if (tiny_cases[i].prompt)
        return tiny_cases[i].prompt;
    for (int k = 0; k < 400; k++)
        memcpy(text + 2 * k, "x ", 3);
    return text;
}

static inline struct gen tiny_gen(int i)
{
    const struct tiny_case *c = &tiny_cases[i];
    return (struct gen){ .width_px = c->w, .height_px = c->h, .n_steps = c->steps, .guidance = c->guidance, .cfg_norm = c->cfg_norm,
                         .cfg_trunc = c->cfg_trunc, .seed = c->seed, .noise = c->noise, .noise_threads = NOISE_THREADS_H100 };
}

/* The latents of case i, of a whole engine. */
static inline struct latent *tiny_denoise(struct engine *g, int i)
{
    char           text[1024];
    struct gen     gen = tiny_gen(i);
    struct embed  *pos = NULL, *neg = NULL;
    struct latent *z = NULL;

    OK(engine_encode(g, str_of(tiny_prompt(i, text)), &pos, &e));
    if (gen.guidance > 0) OK(engine_encode(g, str_of(tiny_cases[i].negative ? tiny_cases[i].negative : ""), &neg, &e));
    OK(engine_denoise(g, pos, neg, &gen, NULL, &z, &e));
    embed_free(pos);
    embed_free(neg);
    return z;
}

#endif

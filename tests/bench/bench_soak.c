/* bench_soak.c - many pictures of mixed sizes, prompts and guidance through one engine, and what memory they leave taken.
 *
 *   bench_soak MODEL [DEVICE] [JOBS] [BUDGET_GIB]     default cuda:0 1000, what is free
 *
 * Sizes and prompts come from a fixed sequence. Prints the device's memory in use after 1, 10, 100, 200 ... jobs. Figures, never a verdict. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/str.h"
#include "engine/engine.h"

static uint64_t state = 1;

static uint32_t dice(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % n;
}

static int job(struct engine *g, int64_t i, struct err *e)
{
    static const int sides[] = {64, 96, 256, 384, 512};
    struct gen     gen = {.width_px = sides[dice(5)], .height_px = sides[dice(5)], .n_steps = 1 + (int)dice(3),
                          .guidance = dice(4) ? 0 : 3, .cfg_trunc = 1, .seed = (uint64_t)i, .noise = NOISE_TORCH_CPU};
    struct embed  *pos = NULL, *neg = NULL;
    struct latent *z = NULL;
    struct image   img = {0};
    char           prompt[512];
    int            rc, len = snprintf(prompt, sizeof prompt, "job %d", (int)dice(60));

    for (uint32_t n = 40 * dice(5); n; n--) prompt[len++] = n % 6 ? 'x' : ' ';
    prompt[len] = 0;
    if ((rc = engine_check(g, &gen, e)) || (rc = engine_encode(g, str_of(prompt), &pos, e))) goto done;
    if (gen.guidance > 0 && (rc = engine_encode(g, str_of(""), &neg, e))) goto done;
    if ((rc = engine_denoise(g, pos, neg, &gen, NULL, &z, e)) || (rc = engine_decode(g, z, &img, e))) goto done;
done:
    embed_free(pos);
    embed_free(neg);
    latent_free(z);
    image_free(&img);
    return rc;
}

int main(int argc, char **argv)
{
    struct engine_opts  o = {.model_dir = argc > 1 ? argv[1] : NULL, .device = argc > 2 ? argv[2] : "cuda:0", .parts = ENGINE_BOTH};
    struct engine      *g = NULL;
    struct engine_times t;
    struct err          e = {0};
    int64_t             n = 1000, from;
    double              gib = 0;

    if (argc < 2 || (argc > 3 && (str_to_i64(str_of(argv[3]), &n) || n < 1)) || (argc > 4 && (str_to_f64(str_of(argv[4]), &gib) || gib <= 0))) {
        fprintf(stderr, "usage: bench_soak MODEL [DEVICE] [JOBS] [BUDGET_GIB]\n");
        return 2;
    }
    o.vram_budget_bytes = (size_t)(gib * (double)((size_t)1 << 30));
    if (engine_open(&g, &o, &e)) goto failed;
    printf("%s\n%s\n%8s %12s %10s\n", engine_profile(g)->about, engine_profile(g)->plan, "jobs", "in use MiB", "s");
    from = now_ms();
    for (int64_t i = 1; i <= n; i++) {
        if (job(g, i, &e)) goto failed;
        if (i != 1 && i != 10 && i % 100) continue;
        engine_times(g, &t);
        printf("%8lld %12.1f %10.1f\n", (long long)i, (double)t.memory_used_bytes / 1048576.0, (double)(now_ms() - from) / 1e3);
        fflush(stdout);
    }
    engine_free(g);
    return 0;
failed:
    fprintf(stderr, "bench_soak: %s\n", e.text);
    engine_free(g);
    return 1;
}

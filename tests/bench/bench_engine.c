/* bench_engine.c - milliseconds of each stage on a model folder: open, encode, each pass, decode; from the start to the first pass; and memory beside
 * the files' size. Measures, never fails a test.
 * usage: bench_engine MODEL_DIR [WIDTHxHEIGHT] [STEPS] [THREADS] [auto|f32|bf16] [DEVICE] [PROMPT] */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/noise.h"

struct laps {
    int64_t at_us;
    double  first_ms, sum_ms, best_ms;
    int     n;
};

static int on_step(void *ctx, int done, int n_steps)
{
    struct laps *l = ctx;
    int64_t      now = now_us();
    double       ms = (double)(now - l->at_us) / 1e3;
    (void)n_steps;
    if (done == 1)
        l->first_ms = ms; /* noise and rotary tables included */
    else {
        l->sum_ms += ms;
        l->best_ms = l->n++ == 0 || ms < l->best_ms ? ms : l->best_ms;
    }
    l->at_us = now;
    return 0;
}

static double since(int64_t *at_us)
{
    int64_t now = now_us();
    double  ms = (double)(now - *at_us) / 1e3;
    *at_us = now;
    return ms;
}

/* The most memory so far, and what of the present is our own and what is mapped files. */
static void memory(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char  line[128];
    long  kib;

    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) printf("memory   %10.1f MiB at most;", (double)kib / 1024);
        if (sscanf(line, "RssAnon: %ld", &kib) == 1) printf(" now own %.1f", (double)kib / 1024);
        if (sscanf(line, "RssFile: %ld", &kib) == 1) printf(", files %.1f\n", (double)kib / 1024);
    }
    if (f) fclose(f);
    fflush(stdout);
}

static double files_mib;

static int add_size(const char *path, const struct stat *st, int what, struct FTW *at)
{
    (void)path, (void)at;
    if (what == FTW_F) files_mib += (double)st->st_size / (1 << 20);
    return 0;
}

static int fail(const struct err *e)
{
    fprintf(stderr, "bench_engine: %s\n", e->text);
    return 1;
}

/* began_us: when the engine began to be opened. */
static int run(struct engine *g, const struct gen *gen, const char *prompt, int64_t began_us)
{
    struct err          e = { 0 };
    struct engine_times times;
    double              start_ms;
    struct embed    *p = NULL;
    struct latent   *z = NULL;
    struct image     img;
    struct laps      laps = { 0 };
    struct gen_hooks h = { &laps, on_step };
    int64_t          at = now_us();

    if (engine_encode(g, str_of(prompt), &p, &e))
        return fail(&e);
    engine_times(g, &times);
    printf("encode   %10.1f ms  text encoder %.1f, caption %.1f\n", since(&at), times.text_ms, times.caption_ms);
    memory();
    at = now_us();
    start_ms = (double)(at - began_us) / 1e3;
    laps.at_us = at;
    if (engine_denoise(g, p, NULL, gen, &h, &z, &e))
        return fail(&e);
    engine_times(g, &times);
    start_ms += (double)(now_us() - at) / 1e3 - times.denoise_ms;
    printf("denoise  %10.1f ms  first pass %.1f", since(&at), laps.first_ms);
    if (laps.n)
        printf(", later %.1f mean %.1f best", laps.sum_ms / laps.n, laps.best_ms);
    printf("\nstart    %10.1f ms from opening to the first pass, %.1f of them the text encoder's and the caption's\n", start_ms, times.text_ms + times.caption_ms);
    memory();
    at = now_us();
    if (engine_decode(g, z, &img, &e))
        return fail(&e);
    printf("decode   %10.1f ms\n", since(&at));
    memory();
    printf("files    %10.1f MiB\n", files_mib);
    image_free(&img);
    latent_free(z);
    embed_free(p);
    return 0;
}

int main(int argc, char **argv)
{
    struct engine_opts o = { .parts = ENGINE_BOTH };
    struct gen         gen = { .width_px = 512, .height_px = 512, .n_steps = 4, .cfg_trunc = 1, .seed = 42, .noise_threads = NOISE_THREADS_H100 };
    struct engine     *g = NULL;
    struct err         e = { 0 };
    const char        *prompt = argc > 7 ? argv[7] : "A sleek black helmeted robot in a dark tactical jacket, red background";
    int64_t            at = now_us(), began_us = at;

    if (argc < 2 || (argc > 2 && sscanf(argv[2], "%dx%d", &gen.width_px, &gen.height_px) != 2)) {
        fprintf(stderr, "usage: bench_engine MODEL_DIR [WIDTHxHEIGHT] [STEPS] [THREADS] [auto|f32|bf16] [DEVICE] [PROMPT]\n");
        return 2;
    }
    o.model_dir = argv[1];
    gen.n_steps = argc > 3 ? (int)strtol(argv[3], NULL, 10) : gen.n_steps;
    o.n_threads = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 0;
    o.precision = argc > 5 && strcmp(argv[5], "f32") == 0 ? ENGINE_F32 : argc > 5 && strcmp(argv[5], "bf16") == 0 ? ENGINE_BF16 : ENGINE_AUTO;
    o.device = argc > 6 ? argv[6] : "cpu";
    if (engine_open(&g, &o, &e) || engine_check(g, &gen, &e))
        return fail(&e);
    printf("%s, %d x %d, %d passes\nopen     %10.1f ms\n", engine_profile(g)->about, gen.width_px, gen.height_px, gen.n_steps, since(&at));
    nftw(o.model_dir, add_size, 16, FTW_PHYS);
    int rc = run(g, &gen, prompt, began_us);
    engine_free(g);
    return rc;
}

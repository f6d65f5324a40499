/* zfarm_bench.c - zfarm-bench: milliseconds of each stage on full-size shapes, with made-up weights and no files.
 * Measures and tells; it judges nothing. Not here: the farm (broker, PNG, disk). */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/bench/zfarm_bench.h"
#include "tools/synth.h"

const char *argp_program_version = "zfarm-bench " ZFARM_VERSION;

enum { KEY_CONFIG = 'c', KEY_DEVICE = 'd', KEY_SIZE = 's', KEY_STEPS = 'n', KEY_PRECISION = 'p', KEY_KIND = 'k', KEY_TOKENS = 'q', KEY_REPEATS = 'r',
       KEY_THREADS = 't', KEY_JSON = 'j', KEY_TEXT_KIND = 0x100, KEY_WARMUP, KEY_AB, KEY_PLAN, KEY_TFLOPS, KEY_GBS, KEY_BUDGET };

static const struct argp_option options[] = {
    {"config", KEY_CONFIG, "WHICH", 0, "turbo (default), small, tiny, a JSON file of overrides as zfarm-model synth takes it, or a model folder, of which only the config files are read", 1},
    {"device", KEY_DEVICE, "DEVICE", 0, "auto, cpu, cuda:N (default auto: the first GPU, or the CPU)", 1},
    {"threads", KEY_THREADS, "N", 0, "CPU threads of the engine (default: all CPUs this process may use)", 1},
    {"size", KEY_SIZE, "WxH", 0, "Size of the picture; may be given up to 16 times (default 1024x1024)", 2},
    {"steps", KEY_STEPS, "N", 0, "Passes of the transformer, 1 to 64 (default: the profile's, 8 for turbo)", 2},
    {"prompt-tokens", KEY_TOKENS, "N", 0, "Ids of the prompt, its template included, at most 512 (default 128)", 2},
    {"precision", KEY_PRECISION, "TYPE", 0, "auto, f32 or bf16: how products are computed (default auto)", 3},
    {"kind", KEY_KIND, "KIND", 0, "Weights of transformer and text encoder: bf16 (default), f32, f8_e4m3, f8_e5m2, q8_0, q4_0, q2_k, q3_k, q4_k, q5_k, q6_k", 3},
    {"text-kind", KEY_TEXT_KIND, "KIND", 0, "Weights of the text encoder, when they are of another kind", 3},
    {"vram-budget", KEY_BUDGET, "GIB", 0, "What the engine may take of a GPU's memory (default: what is free, less a reserve): it chooses what stays there, and how", 3},
    {"repeats", KEY_REPEATS, "N", 0, "Whole images measured of each size, 1 to 1000 (default 20)", 4},
    {"warmup", KEY_WARMUP, "N", 0, "Images before them that do not count, 0 to 1000 (default 2)", 4},
    {"ab", KEY_AB, "OPTIONS", 0, "Given twice: two sets of options on top of the others, e.g. --ab '--kind bf16' --ab '--kind q8_0'. Both engines are open at once and their images take turns", 4},
    {"json", KEY_JSON, NULL, 0, "One JSON object instead of tables", 5},
    {"plan", KEY_PLAN, NULL, 0, "Only what the stages cost by their shapes, and their floors on an H100; nothing is run", 5},
    {"peak-tflops", KEY_TFLOPS, "X", 0, "With --peak-gbs: what floors are computed from (default: H100 790 and 3000, H200 790 and 4300, measured; other devices have no floors)", 5},
    {"peak-gbs", KEY_GBS, "X", 0, "See --peak-tflops", 5},
    {0},
};

static int number(struct argp_state *state, const char *what, const char *arg, int low, int high)
{
    int64_t v = 0;

    if (str_to_i64(str_of(arg), &v) || v < low || v > high) argp_error(state, "%s \"%.40s\" is not a number from %d to %d", what, arg, low, high);
    return (int)v;
}

static double positive(struct argp_state *state, const char *what, const char *arg)
{
    double v = 0;

    if (str_to_f64(str_of(arg), &v) || v <= 0) argp_error(state, "%s \"%.40s\" is not a number above 0", what, arg);
    return v;
}

static enum dtype kind(struct argp_state *state, const char *what, const char *arg)
{
    static const enum dtype kinds[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8_E4M3, DTYPE_F8_E5M2, DTYPE_Q8_0, DTYPE_Q4_0,
                                       DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcasecmp(arg, dtype_name(kinds[i])) == 0) return kinds[i];
    argp_error(state, "%s \"%.40s\" is not a kind of weights that can be made up: see --help", what, arg);
    return DTYPE_BF16;
}

static void put_size(struct argp_state *state, struct bench_conf *c, const char *arg)
{
    const char *x = strchr(arg, 'x');
    int64_t     w = 0, h = 0;

    if (c->n_sizes == BENCH_SIZES_MAX) argp_error(state, "--size: at most %d sizes", BENCH_SIZES_MAX);
    if (!x || str_to_i64((struct str){arg, (size_t)(x - arg)}, &w) || str_to_i64(str_of(x + 1), &h) || w < 1 || h < 1 || w > 65535 || h > 65535)
        argp_error(state, "--size \"%.40s\" is not WIDTHxHEIGHT in pixels", arg);
    c->size[c->n_sizes++] = (struct bench_size){(int)w, (int)h};
}

static enum engine_precision precision(struct argp_state *state, const char *arg)
{
    if (strcmp(arg, "f32") == 0) return ENGINE_F32;
    if (strcmp(arg, "bf16") == 0) return ENGINE_BF16;
    if (strcmp(arg, "auto") != 0) argp_error(state, "--precision \"%.40s\" is not known: auto, f32 or bf16", arg);
    return ENGINE_AUTO;
}

/* What may differ between the sides of --ab. */
static bool parse_side(struct argp_state *state, struct bench_conf *c, int key, char *arg)
{
    switch (key) {
    case KEY_CONFIG: c->config = arg; break;
    case KEY_DEVICE: c->device = arg; break;
    case KEY_THREADS: c->n_threads = number(state, "--threads", arg, 1, 1024); break;
    case KEY_SIZE: put_size(state, c, arg); break;
    case KEY_STEPS: c->n_steps = number(state, "--steps", arg, 1, ENGINE_PASSES_TIMED); break;
    case KEY_TOKENS: c->n_prompt_tok = number(state, "--prompt-tokens", arg, 1, 512); break;
    case KEY_PRECISION: c->precision = precision(state, arg); break;
    case KEY_KIND: c->dit_kind = c->text_kind = kind(state, "--kind", arg); break;
    case KEY_TEXT_KIND: c->text_kind = kind(state, "--text-kind", arg); break;
    case KEY_BUDGET: c->vram_budget_gib = positive(state, "--vram-budget", arg); break;
    default: return false;
    }
    return true;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct bench_conf *c = state->input;

    if (parse_side(state, c, key, arg)) return 0;
    if (key == ARGP_KEY_ARG) argp_error(state, "\"%.100s\" is not understood", arg);
    if (c->is_side && key <= KEY_BUDGET) argp_error(state, "--ab: its options are those of groups 1 to 3 of --help");
    switch (key) {
    case KEY_REPEATS: c->n_repeats = number(state, "--repeats", arg, 1, BENCH_REPEATS_MAX); return 0;
    case KEY_WARMUP: c->n_warmup = number(state, "--warmup", arg, 0, BENCH_REPEATS_MAX); return 0;
    case KEY_JSON: c->json = true; return 0;
    case KEY_PLAN: c->plan = true; return 0;
    case KEY_TFLOPS: c->peak_tflops = positive(state, "--peak-tflops", arg); return 0;
    case KEY_GBS: c->peak_gbs = positive(state, "--peak-gbs", arg); return 0;
    case KEY_AB:
        if (c->n_ab == BENCH_SIDES_MAX) argp_error(state, "--ab is given twice, not more often");
        c->ab[c->n_ab++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (c->n_ab == 1) argp_error(state, "--ab is given twice: two sets of options");
        if ((c->peak_tflops > 0) != (c->peak_gbs > 0)) argp_error(state, "--peak-tflops and --peak-gbs go together");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {options, parse_option, NULL,
                                 "Measures the engine on full-size shapes: the text encoder, the caption's refiner, a pass of the transformer, the decoder, the whole image.\v"
                                 "Weights are made up, no model is needed. Times are the device's own (events on a GPU); 'wall' is the host's clock around the same image, the pixels' way "
                                 "to the host included. Columns: median, least and greatest milliseconds; the stage's arithmetic (one multiply-add is 2) and rate; the bytes that must at least move and "
                                 "their rate; the floor, which is the longer of computing and moving at the rates of --peak-tflops and --peak-gbs; the floor as a share of the median.\n\n"
                                 "Exit status: 0 measured, 1 failed, 2 usage.",
                                 NULL, NULL, NULL};

void bench_conf_parse(struct bench_conf *c, int argc, char **argv)
{
    *c = (struct bench_conf){.config = "turbo", .device = "auto", .options = "", .dit_kind = DTYPE_BF16, .text_kind = DTYPE_BF16,
                             .n_prompt_tok = 128, .n_repeats = 20, .n_warmup = 2};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, c);
    if (c->n_sizes == 0) c->size[c->n_sizes++] = (struct bench_size){1024, 1024};
}

void bench_conf_side(struct bench_conf *side, const struct bench_conf *c, int i)
{
    static char  words[BENCH_SIDES_MAX][1024]; /* the side's options point into it */
    static char *argv[BENCH_SIDES_MAX][64];
    char        *at = words[i], name[] = "zfarm-bench --ab";
    int          argc = 1;

    *side = *c;
    side->options = c->ab[i];
    side->is_side = true;
    side->n_sizes = 0;
    argv[i][0] = name;
    if ((size_t)snprintf(words[i], sizeof words[i], "%s", c->ab[i]) >= sizeof words[i]) {
        fprintf(stderr, "zfarm-bench: --ab: longer than %zu bytes\n", sizeof words[i] - 1);
        exit(2);
    }
    while (argc < 63 && *(at += strspn(at, " \t"))) {
        argv[i][argc++] = at;
        at += strcspn(at, " \t");
        if (*at) *at++ = 0;
    }
    argv[i][argc] = NULL;
    argp_parse(&argp, argc, argv[i], 0, NULL, side);
    if (side->n_sizes == 0) {
        memcpy(side->size, c->size, sizeof side->size);
        side->n_sizes = c->n_sizes;
    }
    if (side->n_sizes != c->n_sizes) {
        fprintf(stderr, "zfarm-bench: --ab: both sides need %d size%s\n", c->n_sizes, c->n_sizes == 1 ? "" : "s");
        exit(2);
    }
}

int bench_conf_model(const struct bench_conf *c, struct model_conf *out, struct err *e)
{
    struct synth_conf s;
    int               rc;

    if (file_is_folder(c->config)) return config_open(out, c->config, NULL, e);
    if ((rc = synth_conf_open(&s, c->config, true, e))) return rc;
    *out = s.model;
    synth_conf_release(&s);
    return 0;
}

int main(int argc, char **argv)
{
    static struct bench_side side[BENCH_SIDES_MAX];
    struct bench_conf        c;
    struct err               e = {0};
    int                      n, rc = 0;

    bench_conf_parse(&c, argc, argv);
    n = c.n_ab ? c.n_ab : 1;
    for (int i = 0; i < n; i++) {
        if (c.n_ab) bench_conf_side(&side[i].conf, &c, i);
        else side[i].conf = c;
    }
    for (int i = 0; i < n && !rc; i++) rc = side_open(&side[i], &e);
    if (!rc && !c.plan) rc = sides_run(side, n, &e);
    if (rc) fprintf(stderr, "zfarm-bench: %s\n", e.text);
    else rc = c.json ? report_json(side, n) : report_text(side, n);
    for (int i = 0; i < n; i++) side_close(&side[i]);
    return rc ? 1 : 0;
}

/* zfarm_bench_report.c - figures as a table for people, or as one JSON object. */
#include <stdio.h>

#include "base/str.h"
#include "tests/bench/zfarm_bench.h"

#define JSON_MAX_BYTES (1u << 20)

struct row {
    double median_ms, min_ms, max_ms, tflop, tflops, gb, gbs, floor_ms, of_floor;
    int    n;
};

static struct row row_of(const struct bench_side *s, const struct bench_run *r, enum bench_stage stage)
{
    const struct sample *m = &r->ms[stage];
    struct peak          p = cost_peak(&s->conf, s->engine ? engine_profile(s->engine)->about : "H100");
    struct cost          c = cost_of(stage, &s->model, &s->conf, r->size, r->n_steps);
    struct row           w = {sample_median(m), sample_min(m), sample_max(m), c.flop / 1e12, 0, c.bytes / 1e9, 0, 0, 0, m->n};

    w.floor_ms = cost_floor_ms(stage, &s->model, &s->conf, r->size, r->n_steps, &p);
    if (w.median_ms > 0) {
        w.tflops = w.tflop / w.median_ms * 1e3;
        w.gbs = w.gb / w.median_ms * 1e3;
        w.of_floor = w.floor_ms / w.median_ms;
    }
    return w;
}

static double gib(size_t bytes)
{
    return (double)bytes / (1u << 30);
}

/* ---- text ---- */

static void text_run(const struct bench_side *s, const struct bench_run *r)
{
    printf("%d x %d, %d passes, %d prompt tokens\n", r->size.width_px, r->size.height_px, r->n_steps, s->conf.n_prompt_tok);
    printf("  %-8s %5s %10s %10s %10s %9s %9s %8s %8s %9s %6s\n", "stage", "n", "median ms", "min", "max", "TFLOP", "TFLOP/s", "GB", "GB/s", "floor ms",
           "floor%");
    for (enum bench_stage k = 0; k < STAGE_COUNT; k++) {
        struct row w = row_of(s, r, k);
        printf("  %-8s", bench_stage_name[k]);
        if (w.n) printf(" %5d %10.3f %10.3f %10.3f %9.3f %9.1f %8.3f %8.0f", w.n, w.median_ms, w.min_ms, w.max_ms, w.tflop, w.tflops, w.gb, w.gbs);
        else printf(" %5s %10s %10s %10s %9.3f %9s %8.3f %8s", "-", "-", "-", "-", w.tflop, "-", w.gb, "-");
        if (w.floor_ms > 0 && w.n) printf(" %9.2f %6.1f\n", w.floor_ms, 100 * w.of_floor);
        else if (w.floor_ms > 0) printf(" %9.2f %6s\n", w.floor_ms, "-");
        else printf(" %9s %6s\n", "-", "-");
    }
    if (s->engine) printf("  memory: %.2f GiB when opened, %.2f GiB at most, of %.1f; %.2f of them before the engine\n", gib(s->open_bytes), gib(r->peak_bytes),
                          gib(s->total_bytes), gib(s->before_bytes));
}

static void text_ratio(const struct bench_side *s, int size)
{
    printf("B / A, medians, %d x %d:", s[0].run[size].size.width_px, s[0].run[size].size.height_px);
    for (enum bench_stage k = 0; k < STAGE_COUNT; k++) {
        double a = sample_median(&s[0].run[size].ms[k]), b = sample_median(&s[1].run[size].ms[k]);
        if (a > 0 && b > 0) printf("  %s %.3f", bench_stage_name[k], b / a);
    }
    printf("\n");
}

int report_text(const struct bench_side *s, int n)
{
    for (int i = 0; i < n; i++) {
        if (n > 1) printf("%s%c: %s\n", i ? "\n" : "", 'A' + i, s[i].conf.options);
        if (s[i].engine) printf("%s; weights made up, opened in %.0f ms\n", engine_profile(s[i].engine)->about, s[i].open_ms);
        if (s[i].engine && engine_profile(s[i].engine)->plan[0]) printf("memory plan: %s\n", engine_profile(s[i].engine)->plan);
        else printf("costs and the floors of an H100, nothing was run\n");
        for (int k = 0; k < s[i].conf.n_sizes; k++) text_run(&s[i], &s[i].run[k]);
    }
    for (int k = 0; n > 1 && k < s[0].conf.n_sizes; k++) text_ratio(s, k);
    return fflush(stdout) ? 1 : 0;
}

/* ---- JSON ---- */

static void json_run(struct buf *b, const struct bench_side *s, const struct bench_run *r)
{
    buf_printf(b, "{\"width\":%d,\"height\":%d,\"passes\":%d,\"prompt_tokens\":%d,\"stages\":{", r->size.width_px, r->size.height_px, r->n_steps,
               s->conf.n_prompt_tok);
    for (enum bench_stage k = 0; k < STAGE_COUNT; k++) {
        struct row w = row_of(s, r, k);
        buf_printf(b, "%s\"%s\":{\"n\":%d,", k ? "," : "", bench_stage_name[k], w.n);
        if (w.n)
            buf_printf(b, "\"median_ms\":%.9g,\"min_ms\":%.9g,\"max_ms\":%.9g,\"tflops\":%.9g,\"gbs\":%.9g,", w.median_ms, w.min_ms, w.max_ms, w.tflops, w.gbs);
        if (w.floor_ms > 0) buf_printf(b, "\"floor_ms\":%.9g,", w.floor_ms);
        if (w.floor_ms > 0 && w.n) buf_printf(b, "\"of_floor\":%.9g,", w.of_floor);
        buf_printf(b, "\"tflop\":%.9g,\"gb\":%.9g}", w.tflop, w.gb);
    }
    buf_printf(b, "},\"memory_peak_bytes\":%zu}", r->peak_bytes);
}

static void json_side(struct buf *b, const struct bench_side *s)
{
    buf_puts(b, "{\"options\":");
    buf_put_json(b, str_of(s->conf.options));
    buf_puts(b, ",\"about\":");
    buf_put_json(b, str_of(s->engine ? engine_profile(s->engine)->about : ""));
    buf_puts(b, ",\"device\":");
    buf_put_json(b, str_of(s->engine ? engine_profile(s->engine)->device : ""));
    buf_printf(b, ",\"kind\":\"%s\",\"text_kind\":\"%s\",\"open_ms\":%.3f,\"memory_before_bytes\":%zu,\"memory_open_bytes\":%zu,\"memory_total_bytes\":%zu,\"runs\":[",
               dtype_name(s->conf.dit_kind), dtype_name(s->conf.text_kind), s->open_ms, s->before_bytes, s->open_bytes, s->total_bytes);
    for (int i = 0; i < s->conf.n_sizes; i++) {
        if (i) buf_putc(b, ',');
        json_run(b, s, &s->run[i]);
    }
    buf_puts(b, "]}");
}

int report_json(const struct bench_side *s, int n)
{
    struct buf b;
    bool       whole;

    buf_init(&b, JSON_MAX_BYTES);
    buf_puts(&b, "{\"version\":\"" ZFARM_VERSION "\",\"sides\":[");
    for (int i = 0; i < n; i++) {
        if (i) buf_putc(&b, ',');
        json_side(&b, &s[i]);
    }
    whole = buf_puts(&b, "]}\n") == 0;
    whole = whole && fwrite(b.at, 1, b.len, stdout) == b.len && fflush(stdout) == 0;
    buf_release(&b);
    return whole ? 0 : 1;
}

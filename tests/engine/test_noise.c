/* test_noise.c - noise.c and the CPU's op_noise against torch's own numbers: CPU, CUDA, grids that wrap, 64-bit seeds. */
#include "engine/noise.h"

#include <math.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "kernels/dev.h"
#include "kernels/ops.h"
#include "tests/golden.h"

#define TOLERANCE 4e-6

static double worst_of(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= worst))
            worst = d;
    }
    return worst;
}

/* What torch draws on a GPU, by as many threads of ours. */
static void torch_cuda(uint64_t seed, uint32_t n_threads, int n_cpu, float *out, size_t n)
{
    struct dev_opts o = {PRECISION_F32, n_cpu};
    struct dev     *d = NULL;
    struct err      e = {0};
    assert_int_equal(dev_open(&d, "cpu", &o, &e), 0);
    struct tensor t = {.type = DTYPE_F32, .rank = 1, .dim = {(int64_t)n}, .pitch = 1, .data = out, .dev = d};
    op_noise(d, &t, seed, n_threads);
    assert_int_equal(dev_sync(d, &e), 0);
    dev_close(d);
}

static void tiny_cases_are_torchs(void **state)
{
    static const struct { uint64_t seed; bool cpu; } c[8] = {{42, false}, {7, false}, {42, true}, {123, true}, {88888, false}, {1234567, false}, {2024, false}, {0, false}};
    (void)state;
    for (int i = 0; i < 8; i++) {
        char   name[20];
        size_t n;
        snprintf(name, sizeof name, "noise%d", i);
        float *want = golden_read(TESTS_DIR "/golden/tiny-a/golden.safetensors", name, &n);
        float *got = malloc(n * sizeof *got);
        assert_non_null(got);
        memset(got, 0xff, n * sizeof *got);
        if (c[i].cpu)
            assert_int_equal(noise_torch_cpu(c[i].seed, got, n), 0);
        else
            torch_cuda(c[i].seed, NOISE_THREADS_H100, 1, got, n);
        double worst = worst_of(got, want, n);
        print_message("%s: worst %.2e of %zu\n", name, worst, n);
        assert_true(worst <= TOLERANCE);
        free(want);
        free(got);
    }
}

static void grids_that_wrap_are_torchs(void **state)
{
    static const struct { const char *name; uint64_t seed; size_t w, h; } c[] = {
        {"2048x1152_seed42", 42, 2048, 1152},
        {"1568x672_seed12345678901234567", 12345678901234567u, 1568, 672},
        {"1280x800_seed42", 42, 1280, 800},
        {"4096x2304_seed7", 7, 4096, 2304},
    };
    const char *path = TESTS_DIR "/golden/noise-h100.safetensors";
    (void)state;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        char   name[80];
        size_t n_index, n_value, n = 16 * (c[i].w / 8) * (c[i].h / 8);
        snprintf(name, sizeof name, "%s.index", c[i].name);
        int32_t *index = golden_read(path, name, &n_index);
        snprintf(name, sizeof name, "%s.value", c[i].name);
        float *value = golden_read(path, name, &n_value);
        assert_int_equal(n_index, n_value);
        float *all = malloc(n * sizeof *all), *got = malloc(n_index * sizeof *got);
        assert_non_null(all);
        assert_non_null(got);
        torch_cuda(c[i].seed, NOISE_THREADS_H100, 3, all, n);
        for (size_t k = 0; k < n_index; k++) {
            assert_true(index[k] >= 0 && (size_t)index[k] < n);
            got[k] = all[index[k]];
        }
        double worst = worst_of(got, value, n_index);
        print_message("%s: worst %.2e of %zu\n", c[i].name, worst, n_index);
        assert_true(worst <= TOLERANCE);
        free(index);
        free(value);
        free(all);
        free(got);
    }
}

/* T matters only past it: the same seed on an L4 and an H100 agrees up to T = 89088 values and differs after. */
static void the_device_matters_past_its_grid(void **state)
{
    size_t n = 89088 + 256;
    float *l4 = malloc(n * sizeof *l4), *h100 = malloc(n * sizeof *h100);
    (void)state;
    torch_cuda(5, 89088, 2, l4, 89088);
    torch_cuda(5, NOISE_THREADS_H100, 2, h100, 89088);
    assert_memory_equal(l4, h100, 89088 * sizeof *l4);
    torch_cuda(5, 89088, 2, l4, n);
    torch_cuda(5, NOISE_THREADS_H100, 2, h100, n);
    assert_memory_equal(l4, h100, 89088 * sizeof *l4);
    assert_memory_not_equal(l4 + 89088, h100 + 89088, 256 * sizeof *l4);
    free(l4);
    free(h100);
}

/* A length that is no multiple of 16 redraws its last 16: the head is unchanged, the tail is fresh. */
static void cpu_tail_is_drawn_anew(void **state)
{
    float even[48], odd[43];
    (void)state;
    assert_int_equal(noise_torch_cpu(9, even, 48), 0);
    assert_int_equal(noise_torch_cpu(9, odd, 43), 0);
    assert_memory_equal(even, odd, 27 * sizeof *odd);
    assert_memory_not_equal(even + 27, odd + 27, 5 * sizeof *odd);
    for (int i = 0; i < 43; i++)
        assert_true(isfinite(odd[i]));
    assert_int_equal(noise_torch_cpu(9 + ((uint64_t)1 << 32), odd, 43), 0);
    assert_memory_equal(even, odd, 27 * sizeof *odd); /* 32 bits of seed */
}

static void refusals(void **state)
{
    float z[16];
    (void)state;
    assert_int_equal(noise_torch_cpu(1, z, 15), ERR_ARG);
    assert_int_equal(noise_torch_cpu(1, z, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_cases_are_torchs), cmocka_unit_test(grids_that_wrap_are_torchs), cmocka_unit_test(the_device_matters_past_its_grid),
        cmocka_unit_test(cpu_tail_is_drawn_anew), cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

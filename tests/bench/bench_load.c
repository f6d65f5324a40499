/* bench_load.c - how fast weights of a mapped file come onto a device: GB/s of dev_weight() on slices of any large file, taken as bf16 (copied as they are
 * on a GPU) and as F32 (converted there). Measures, never fails a test.
 * usage: bench_load FILE [DEVICE] [MIB]      MIB: of a tensor, 64 when not said
 * The file is read three times: from the disk or wherever it is, then from the page cache. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "kernels/dev.h"

static int load(const char *device, const struct file_map *m, enum dtype type, size_t step, struct err *e)
{
    const struct dev_opts o = {PRECISION_AUTO, 0};
    struct dev           *d = NULL;
    struct tensor         t = {.type = type, .rank = 2}, out;
    int                   rc = dev_open(&d, device, &o, e);
    int64_t               at_us = now_us();

    if (rc) return rc;
    for (size_t at = 0; at + step <= m->len && !rc; at += step) {
        t.data = (void *)(uintptr_t)(m->at + at);
        t.dim[0] = 1024;
        t.dim[1] = t.pitch = (int64_t)(step / dtype_bytes(type) / 1024);
        rc = dev_weight(d, &t, &out, e);
    }
    if (!rc) rc = dev_sync(d, e);
    const double s = (double)(now_us() - at_us) / 1e6, gb = (double)(m->len / step * step) / 1e9;
    if (!rc) printf("%s to %s: %.2f GB in %.2f s, %.1f GB/s\n", dtype_name(type), device, gb, s, gb / s);
    dev_close(d);
    return rc;
}

int main(int argc, char **argv)
{
    const char     *device = argc > 2 ? argv[2] : "cuda:0";
    const long      mib = argc > 3 ? strtol(argv[3], NULL, 10) : 64;
    struct file_map m;
    struct err      e = {0};
    int             rc;

    if (argc < 2 || mib < 1 || mib > 4096) {
        fprintf(stderr, "usage: bench_load FILE [DEVICE] [MIB]\n");
        return 2;
    }
    rc = file_map_open(&m, argv[1], &e);
    for (int i = 0; i < 3 && !rc; i++) rc = load(device, &m, DTYPE_BF16, (size_t)mib << 20, &e);
    if (!rc) rc = load(device, &m, DTYPE_F32, (size_t)mib << 20, &e);
    if (rc) {
        fprintf(stderr, "bench_load: %s\n", e.text);
        return 1;
    }
    const int64_t at_us = now_us();
    file_map_drop(&m);
    printf("its pages let go: %.0f ms\n", (double)(now_us() - at_us) / 1e3);
    file_map_close(&m);
    return 0;
}

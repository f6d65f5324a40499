/* fuzz_safetensors.c - any bytes as a .safetensors file. First byte odd: the rest is a header, given its right length and as many zero
 * bytes of data as the second byte says; even: the rest is the whole file.
 * Oracle: what is accepted lies inside the data, disjoint and gapless, and is read wholly. */
#include <stdlib.h>
#include <string.h>

#include "engine/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct err         e = { 0 };
    volatile uint8_t   sum = 0;
    uint64_t           at = 0;

    if (safetensors_parse(&s, (struct str){ (const char *)data, size }, "fuzz", &e)) {
        if (!e.code || !e.text[0])
            abort();
        return;
    }
    for (size_t i = 0; i < s.n; i++) {
        const struct safetensors_entry *t = &s.entry[i];
        if (t->begin != at || t->begin + t->bytes > s.data_bytes || t->rank < 0 || t->rank > SAFETENSORS_RANK_MAX)
            abort();
        for (uint64_t k = 0; k < t->bytes; k++)
            sum = (uint8_t)(sum + s.data[t->begin + k]);
        at += t->bytes;
    }
    if (at != s.data_bytes || s.data + s.data_bytes != data + size)
        abort();
    safetensors_close(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (data[0] % 2 == 0) {
        parse(data + 1, size - 1);
        return 0;
    }
    size_t   n_header = size - 2, n = 8 + n_header + data[1];
    uint8_t *file = calloc(1, n);
    if (!file)
        abort();
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)n_header >> 8 * i);
    memcpy(file + 8, data + 2, n_header);
    parse(file, n);
    free(file);
    return 0;
}

/* fuzz_safetensors.c - any bytes as a .safetensors file. Oracle: what is accepted lies inside the data, disjoint and gapless, and is read wholly. */
#include <stdlib.h>

#include "engine/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct err         e = { 0 };
    volatile uint8_t   sum = 0;
    uint64_t           at = 0;

    if (safetensors_parse(&s, (struct str){ (const char *)data, size }, "fuzz", &e)) {
        if (!e.code || !e.text[0])
            abort();
        return 0;
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
    return 0;
}

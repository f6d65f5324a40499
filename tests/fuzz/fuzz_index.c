/* fuzz_index.c - any bytes as a shard index. Oracle: accepted files are plain names, each once, and every tensor has one. */
#include <stdlib.h>
#include <string.h>

#include "engine/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors_index x;
    struct err               e = { 0 };

    if (safetensors_index_parse(&x, (struct str){ (const char *)data, size }, "fuzz", &e)) {
        if (!e.code || !e.text[0])
            abort();
        return 0;
    }
    for (size_t i = 0; i < x.n_files; i++)
        if (!file_name_ok(str_of(x.file[i])) || strchr(x.file[i], '/') || (i && strcmp(x.file[i - 1], x.file[i]) >= 0))
            abort();
    for (size_t i = 0; i < x.n; i++)
        if (x.file_of[i] >= x.n_files)
            abort();
    safetensors_index_release(&x);
    return 0;
}

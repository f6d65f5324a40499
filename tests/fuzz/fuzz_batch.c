/* fuzz_batch.c - bytes as a prompt file: the first byte chooses .txt, .jsonl or .csv. What is accepted must be whole. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "client/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch b;
    struct row   defaults;
    struct err   e = {0};

    if (size == 0) return 0;
    row_init(&defaults);
    if (batch_parse(&b, "fuzz", (struct str){(const char *)data + 1, size - 1}, (enum batch_kind)(1 + data[0] % 3), &defaults, "sheet.png", &e)) {
        assert(e.code < 0 && e.text[0]);
        return 0;
    }
    assert(b.n_images > 0 && b.n_images <= JOB_TASKS_MAX);
    for (uint32_t i = 0; i < b.n_images && i < 64; i++) {
        char              name[FIELD_NAME_MAX_BYTES];
        uint64_t          seed;
        const struct row *r = batch_image(&b, i, &seed, name);

        assert(spec_check(&r->spec, NULL) == 0);
        assert(name[0] && name[0] != '.' && name[0] != '-' && !strchr(name, '/'));
        assert(i >= r->first && i < r->first + r->n);
    }
    batch_release(&b);
    return 0;
}

/* golden.c - see golden.h. The header is searched as text: names in golden files need no escapes. */
#include "tests/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

char *golden_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("golden: cannot open %s", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    assert_true(size >= 0);
    rewind(f);
    char *at = malloc((size_t)size + 1);
    assert_non_null(at);
    assert_int_equal(fread(at, 1, (size_t)size, f), (size_t)size);
    fclose(f);
    at[size] = 0;
    if (len)
        *len = (size_t)size;
    return at;
}

void *golden_read(const char *path, const char *name, size_t *n)
{
    size_t   len;
    char    *file = golden_file(path, &len);
    uint64_t header;
    char     key[200];

    memcpy(&header, file, 8);
    assert_true(header < len - 8);
    snprintf(key, sizeof key, "\"%s\":", name);
    char first = file[8 + header];
    file[8 + header] = 0;
    const char *at = strstr(file + 8, key);
    if (!at)
        fail_msg("golden: %s has no tensor %s", path, name);
    const char *span = strstr(at, "\"data_offsets\":");
    assert_non_null(span);
    size_t from = 0, to = 0;
    assert_int_equal(sscanf(span, "\"data_offsets\": [%zu , %zu", &from, &to), 2);
    file[8 + header] = first;
    assert_true(from <= to && to <= len - 8 - header);
    void *out = malloc(to - from + 1);
    assert_non_null(out);
    memcpy(out, file + 8 + header + from, to - from);
    *n = (to - from) / 4;
    free(file);
    return out;
}

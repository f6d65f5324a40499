/* native.c - one number of one JSON file.
 * Believes: a wish about a default is no reason to fail: whatever cannot be read or used is no wish. */
#include "client/native.h"

#include <jansson.h>

#include "base/file.h"
#include "proto/limits.h"

#define CONFIG_MAX_BYTES (1024 * 1024)
#define PATH_BYTES       2048

int32_t native_size_px(const char *dir)
{
    char        path[PATH_BYTES];
    struct buf  b;
    json_t     *config = NULL, *size;
    json_int_t  px = 0;

    buf_init(&b, CONFIG_MAX_BYTES);
    if (file_join(path, sizeof path, dir, "vae/config.json", NULL) == 0 && file_read(path, &b, NULL) == 0 && b.len)
        config = json_loadb(b.at, b.len, JSON_REJECT_DUPLICATES, NULL);
    size = json_object_get(config, "sample_size"); /* NULL of NULL, and of what is no object */
    if (json_is_integer(size)) px = json_integer_value(size);
    json_decref(config);
    buf_release(&b);
    return px >= PX_MIN && px <= PX_MAX && px % PX_MULTIPLE == 0 ? (int32_t)px : 0;
}

/* goldencase.c - goldencase CASES.json K: the options of `zfarm generate` that make case K, each followed by a NUL; then WIDTH, HEIGHT.
 * Exit 3: there is no such case. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/str.h"

static void put(const char *option, const char *value)
{
    printf("%s%c%s%c", option, 0, value, 0);
}

static void put_number(const char *option, json_t *v)
{
    char text[40];

    if (!v) return;
    if (json_is_integer(v))
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        snprintf(text, sizeof text, "%.17g", json_real_value(v));
    else
        snprintf(text, sizeof text, "%s", json_is_true(v) ? "1.0" : "0");
    put(option, text);
}

int main(int argc, char **argv)
{
    json_error_t why;
    json_t      *all, *c;
    int64_t      k;

    if (argc != 3 || str_to_i64(str_of(argv[2]), &k)) return 2;
    all = json_load_file(argv[1], 0, &why);
    if (!all) return 2;
    c = json_array_get(all, (size_t)k);
    if (!c) {
        json_decref(all);
        return 3;
    }
    put("-p", json_string_value(json_object_get(c, "prompt")));
    if (json_object_get(c, "neg")) put("--negative-prompt", json_string_value(json_object_get(c, "neg")));
    put_number("-W", json_object_get(c, "w"));
    put_number("-H", json_object_get(c, "h"));
    put_number("--steps", json_object_get(c, "steps"));
    put_number("-g", json_object_get(c, "g"));
    put_number("-s", json_object_get(c, "seed"));
    put_number("--cfg-normalization", json_object_get(c, "cfgn"));
    put_number("--cfg-truncation", json_object_get(c, "cfgt"));
    put("--rng", strcmp(json_string_value(json_object_get(c, "dev")), "cpu") == 0 ? "torch-cpu" : "torch-cuda");
    printf("%d%c%d%c", (int)json_integer_value(json_object_get(c, "w")), 0, (int)json_integer_value(json_object_get(c, "h")), 0);
    json_decref(all);
    return 0;
}

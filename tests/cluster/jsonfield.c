/* jsonfield.c - one value of a JSON file, for the scenarios: jsonfield FILE NAME-OR-INDEX...   Status 1: no such value. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    json_t *root = argc > 1 ? json_load_file(argv[1], 0, NULL) : NULL, *at = root;
    char   *text;

    for (int i = 2; at && i < argc; i++) at = json_is_array(at) ? json_array_get(at, (size_t)strtoul(argv[i], NULL, 10)) : json_object_get(at, argv[i]);
    if (!at) return 1;
    if (json_is_string(at)) {
        puts(json_string_value(at));
    } else {
        if (!(text = json_dumps(at, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12)))) return 1;
        puts(text);
        free(text);
    }
    json_decref(root);
    return 0;
}

/* nasty_files.c - nasty_files DIR: writes the nasty files as DIR/<harness>/nasty-<parser>-<name>, in the form each harness reads: a corpus to begin with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/nasty.h"

/* Which harness takes a parser's files, and the byte it wants before them; -1: none. */
static const struct {
    const char *parser, *harness;
    int         first;
} ways[] = {
    { "gguf", "fuzz_gguf", -1 },          { "gguf_tokenizer", "fuzz_gguf_vocab", -1 }, { "safetensors", "fuzz_safetensors", 0 }, { "index", "fuzz_index", -1 },
    { "vocab", "fuzz_vocab", -1 },        { "config_text", "fuzz_config", 0 },   { "config_dit", "fuzz_config", 1 },       { "config_vae", "fuzz_config", 2 },
};

static void must(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void put(void *ctx, const struct nasty *n)
{
    char path[512];
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (strcmp(ways[i].parser, n->parser))
            continue;
        snprintf(path, sizeof path, "%s/%s", (const char *)ctx, ways[i].harness);
        (void)mkdir(path, 0777); /* there already, or fopen says so */
        snprintf(path, sizeof path, "%s/%s/nasty-%s-%s", (const char *)ctx, ways[i].harness, n->parser, n->name);
        FILE *f = fopen(path, "wb");
        must(f != NULL, path);
        if (ways[i].first >= 0)
            fputc(ways[i].first, f);
        must(fwrite(n->at, 1, n->len, f) == n->len, path);
        must(fclose(f) == 0, path);
        return;
    }
    fprintf(stderr, "no harness reads %s\n", n->parser);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: nasty_files DIR\n");
        return 2;
    }
    must(mkdir(argv[1], 0777) == 0 || access(argv[1], W_OK) == 0, argv[1]);
    nasty_each(put, argv[1]);
    return 0;
}

/* test_bpe.c - bpe.c against the plain reading of BPE: find the lowest rank, leftmost among equals, merge, again. Random vocabularies. */
#include "engine/bpe.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TOKENS_MAX 400
#define WORD_MAX   12

static uint64_t dice_state = 1;

static uint32_t dice(uint32_t n)
{
    dice_state = dice_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice_state >> 33) % n;
}

struct world {
    struct vocab       vocab;
    struct str         token[TOKENS_MAX];
    struct vocab_merge merge[TOKENS_MAX];
    char               text[TOKENS_MAX][WORD_MAX + 1];
};

static int32_t find(const struct world *w, const char *at, size_t len)
{
    for (int32_t i = 0; i < w->vocab.n_tokens; i++)
        if (w->token[i].len == len && memcmp(w->token[i].at, at, len) == 0)
            return i;
    return -1;
}

static bool merge_exists(const struct world *w, int32_t l, int32_t r)
{
    for (int32_t i = 0; i < w->vocab.n_merges; i++)
        if (w->merge[i].left == l && w->merge[i].right == r)
            return true;
    return false;
}

/* 256 bytes; then merges over the first n_letters letters, two ways to one token included; ranks shuffled when asked. */
static void make(struct world *w, uint32_t n_letters, int n_merges, bool shuffle)
{
    memset(w, 0, sizeof *w);
    w->vocab = (struct vocab){.token = w->token, .merge = w->merge, .n_tokens = 256};
    for (int b = 0; b < 256; b++) {
        w->text[b][0] = (char)b;
        w->token[b] = (struct str){w->text[b], 1};
        w->vocab.byte_id[b] = b;
    }
    for (int tries = 0; tries < 20 * n_merges && w->vocab.n_merges < n_merges; tries++) {
        uint32_t pool = n_letters + (uint32_t)(w->vocab.n_tokens - 256), l = dice(pool), r = dice(pool);
        int32_t  left = (int32_t)(l < n_letters ? 'a' + l : 256 + l - n_letters), right = (int32_t)(r < n_letters ? 'a' + r : 256 + r - n_letters);
        struct str a = w->token[left], b = w->token[right];
        char       both[2 * WORD_MAX];
        if (a.len + b.len > WORD_MAX || merge_exists(w, left, right))
            continue;
        memcpy(both, a.at, a.len);
        memcpy(both + a.len, b.at, b.len);
        int32_t id = find(w, both, a.len + b.len);
        if (id < 0) {
            id = w->vocab.n_tokens++;
            memcpy(w->text[id], both, a.len + b.len);
            w->token[id] = (struct str){w->text[id], a.len + b.len};
        }
        w->merge[w->vocab.n_merges++] = (struct vocab_merge){left, right, id};
    }
    for (int32_t i = w->vocab.n_merges - 1; shuffle && i > 0; i--) {
        int32_t            k = (int32_t)dice((uint32_t)i + 1);
        struct vocab_merge m = w->merge[i];
        w->merge[i] = w->merge[k];
        w->merge[k] = m;
    }
}

/* Quadratic and obvious. Returns how many ids. */
static size_t plain(const struct world *w, const char *at, size_t len, int32_t *id)
{
    size_t n = len;

    for (size_t i = 0; i < len; i++)
        id[i] = (uint8_t)at[i];
    for (;;) {
        int32_t best = w->vocab.n_merges;
        size_t  where = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (int32_t r = 0; r < best; r++)
                if (w->merge[r].left == id[i] && w->merge[r].right == id[i + 1]) {
                    best = r;
                    where = i;
                }
        if (best == w->vocab.n_merges)
            return n;
        id[where] = w->merge[best].result;
        memmove(id + where + 1, id + where + 2, (n - where - 2) * sizeof *id);
        n--;
    }
}

static void random_words_agree(void **state)
{
    static struct world w;
    struct bpe_work     work = {0};
    char                word[120];
    int32_t             want[120];
    (void)state;
    for (int trial = 0; trial < 60; trial++) {
        uint32_t   n_letters = 1 + dice(4);
        struct bpe b;
        make(&w, n_letters, 1 + (int)dice(100), trial % 2);
        assert_int_equal(bpe_init(&b, &w.vocab, NULL), 0);
        for (int k = 0; k < 60; k++) {
            size_t len = dice(sizeof word + 1);
            for (size_t i = 0; i < len; i++)
                word[i] = (char)('a' + dice(n_letters + (k % 5 == 0)));
            size_t n = plain(&w, word, len, want);
            assert_int_equal(bpe_piece(&b, &work, word, len, NULL), 0);
            if (work.n_ids != n || memcmp(work.id, want, n * sizeof *want))
                fail_msg("trial %d: '%.*s' gives %zu ids, plainly %zu", trial, (int)len, word, work.n_ids, n);
        }
        bpe_release(&b);
    }
    bpe_work_release(&work);
}

/* Of two merges of one pair the later counts, as in the reference, whose table keeps the last. */
static void the_later_twin_counts(void **state)
{
    static struct world w;
    struct bpe_work     work = {0};
    struct bpe          b;
    (void)state;
    make(&w, 1, 0, false);
    w.token[256] = (struct str){"ab", 2};
    w.token[257] = (struct str){"bc", 2};
    w.vocab.n_tokens = 258;
    w.merge[0] = (struct vocab_merge){'a', 'b', 256};
    w.merge[1] = (struct vocab_merge){'b', 'c', 257};
    w.merge[2] = (struct vocab_merge){'a', 'b', 256};
    w.vocab.n_merges = 3;
    assert_int_equal(bpe_init(&b, &w.vocab, NULL), 0);
    assert_int_equal(bpe_piece(&b, &work, "abc", 3, NULL), 0);
    assert_int_equal(work.n_ids, 2);
    assert_int_equal(work.id[0], 'a'); /* b+c has rank 1, a+b has rank 2 */
    assert_int_equal(work.id[1], 257);
    bpe_release(&b);
    bpe_work_release(&work);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_words_agree), cmocka_unit_test(the_later_twin_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

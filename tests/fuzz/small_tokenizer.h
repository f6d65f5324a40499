/* small_tokenizer.h - a whole, small tokenizer.json as a text, for the harnesses: 256 bytes, a few merges, a few added tokens. */
#ifndef FUZZ_SMALL_TOKENIZER_H
#define FUZZ_SMALL_TOKENIZER_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Letters of the byte alphabet, spelled with \u escapes. */
static void small_letter(char out[8], int byte)
{
    int u = 256;

    for (int b = 0; b <= byte; b++) {
        int plain = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte)
            snprintf(out, 8, "\\u%04x", (unsigned)(plain ? b : u) & 0xffff);
        else if (!plain)
            u++;
    }
}

static void small_word(char *out, size_t cap, const char *bytes, size_t len)
{
    char letter[8];

    out[0] = 0;
    for (size_t i = 0; i < len; i++) {
        small_letter(letter, (uint8_t)bytes[i]);
        snprintf(out + strlen(out), cap - strlen(out), "%s", letter);
    }
}

#define SMALL_ADDED (256 + 18) /* first added id: after the bytes and the tokens of merges */

/* Returns the length. cap: 16 KiB is plenty. */
static size_t small_tokenizer(char *out, size_t cap)
{
    static const struct { const char *left, *right; } merge[] = {
        {"t", "h"}, {"th", "e"}, {" ", "a"}, {" ", " "}, {"  ", "  "}, {"a", "a"}, {"aa", "aa"}, {"a", "b"}, {"b", "ab"}, {"aa", "b"},
        {"\xcc", "\x81"}, {"e", "\xcc\x81"}, {"\xc3", "\xa9"}, {"\n", "\n"}, {"\xe4\xb8", "\x80"}, {"\xe4", "\xb8"}, {"'", "s"}, {"1", "2"},
        {"a", "ab"}, /* a second way to "aab": the last merge makes no token of its own */
    };
    static const char *const added[] = {"<|im_start|>", "<|im_end|>", "<a", "<a>", "<a><b>", "\xc3\xa9!"};
    const char *comma = "";
    char        a[80], b[80];
    int         id = 256;

    out[0] = 0;
#define SAY(...) snprintf(out + strlen(out), cap - strlen(out), __VA_ARGS__)
    SAY("{\"added_tokens\":[");
    for (size_t i = 0; i < sizeof added / sizeof *added; i++, comma = ",")
        SAY("%s{\"id\":%zu,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}", comma,
            SMALL_ADDED + i, added[i]);
    SAY("],\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
        "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
        "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int k = 0; k < 256; k++) {
        small_letter(a, k);
        SAY("%s\"%s\":%d", k ? "," : "", a, k);
    }
    for (size_t i = 0; i + 1 < sizeof merge / sizeof *merge; i++) {
        small_word(a, sizeof a, merge[i].left, strlen(merge[i].left));
        small_word(b, sizeof b, merge[i].right, strlen(merge[i].right));
        SAY(",\"%s%s\":%d", a, b, id++);
    }
    SAY("},\"merges\":[");
    for (size_t i = 0; i < sizeof merge / sizeof *merge; i++) {
        small_word(a, sizeof a, merge[i].left, strlen(merge[i].left));
        small_word(b, sizeof b, merge[i].right, strlen(merge[i].right));
        SAY("%s[\"%s\",\"%s\"]", i ? "," : "", a, b);
    }
    SAY("]}}");
#undef SAY
    return strlen(out);
}

#endif

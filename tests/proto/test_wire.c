/* test_wire.c - every message goes there and back; anything broken is refused with a sentence; bytes of a release never change. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/hash.h"
#include "proto/check.h"
#include "proto/wire.h"
#include "tests/proto/sample.h"

struct box {
    struct arena in, out;
    struct buf   head, body;
};

static int setup(void **state)
{
    struct box *b = calloc(1, sizeof *b);

    arena_init(&b->in, "in", MSG_ARENA_BYTES);
    arena_init(&b->out, "out", MSG_ARENA_BYTES);
    buf_init(&b->head, 1 << 10);
    buf_init(&b->body, BODY_BIG_MAX_BYTES);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct box *b = *state;

    arena_release(&b->in);
    arena_release(&b->out);
    buf_release(&b->head);
    buf_release(&b->body);
    free(b);
    return 0;
}

static void clear(struct box *b)
{
    arena_reset(&b->in, 0);
    arena_reset(&b->out, 0);
    buf_clear(&b->head);
    buf_clear(&b->body);
}

static struct str chunk_of(const struct msg *m)
{
    return m->kind == MSG_CHUNK ? m->chunk.bytes : (struct str){0};
}

/* The top-level field numbers present in a body. */
static uint64_t tags_of(struct str body)
{
    uint64_t seen = 0;
    size_t   i = 0;

    while (i < body.len) {
        uint64_t v[2] = {0};
        unsigned type = 0;

        for (int k = 0; k < 2; k++) {
            if (k == 1 && (type == 1 || type == 5)) break;
            for (int shift = 0;; shift += 7) {
                uint8_t c = (uint8_t)body.at[i++];
                v[k] |= (uint64_t)(c & 0x7f) << shift;
                if (!(c & 0x80)) break;
            }
            if (k == 0) type = (unsigned)(v[0] & 7);
        }
        seen |= 1ull << (v[0] >> 3);
        i += type == 1 ? 8 : type == 5 ? 4 : type == 2 ? v[1] : 0;
    }
    return seen;
}

static const unsigned char n_fields[128] = {
    [MSG_HELLO] = 13, [MSG_WELCOME] = 6, [MSG_ERROR] = 3, [MSG_GOAWAY] = 3, [MSG_SUBMIT] = 7, [MSG_SUBMIT_OK] = 3, [MSG_CANCEL] = 1,
    [MSG_CANCEL_OK] = 3, [MSG_JOBS] = 2, [MSG_JOBS_OK] = 1, [MSG_SHOW] = 3, [MSG_SHOW_OK] = 2, [MSG_EVENTS] = 5, [MSG_EVENTS_OK] = 5,
    [MSG_FETCH] = 5, [MSG_FETCH_OK] = 2, [MSG_COLLECTED] = 1, [MSG_COLLECTED_OK] = 1, [MSG_WORKERS_OK] = 1, [MSG_READY] = 1,
    [MSG_LEASE] = 7, [MSG_BEAT] = 4, [MSG_BEAT_OK] = 3, [MSG_OFFER] = 9, [MSG_OFFER_OK] = 4, [MSG_RESULT_OK] = 2, [MSG_FAILED] = 4,
    [MSG_FAILED_OK] = 2, [MSG_RELEASE] = 3, [MSG_CHUNK] = 5, [MSG_CREDIT] = 2, [MSG_CONTROL] = 6, [MSG_CONTROL_OK] = 2,
    [MSG_LEASES] = 1, [MSG_OFFERS] = 1, [MSG_OFFERS_OK] = 1};

static void round_trip(void **state)
{
    struct box   *b = *state;
    struct sample s = {.state = 1, .a = &b->in, .many = 40};
    struct err    e = {0};

    for (int round = 0; round < 60; round++)
        for (size_t k = 0; k < SAMPLE_KINDS; k++) {
            struct msg m, back;
            struct str head, body;
            char       first[64];

            clear(b);
            m = sample_msg(&s, sample_kinds[k]);
            if (wire_pack(&m, &b->head, &b->body, &e)) fail_msg("%s: %s", msg_kind_name(m.kind), e.text);
            assert_int_equal(b->head.len, FRAME_HEADER_BYTES);
            snprintf(first, sizeof first, "%s", msg_kind_name(m.kind));
            if (tags_of(buf_str(&b->body)) != ((1ull << (n_fields[m.kind] + 1)) - 2)) fail_msg("%s: a field was not packed", first);
            head = buf_str(&b->head);
            body = buf_str(&b->body);
            if (wire_unpack(head, body, chunk_of(&m), &b->out, &back, &e)) fail_msg("%s: %s", first, e.text);
            assert_int_equal(back.kind, m.kind);
            assert_int_equal(back.correlation, m.correlation);
            {
                struct buf head2, body2;

                buf_init(&head2, 64);
                buf_init(&body2, BODY_BIG_MAX_BYTES);
                if (wire_pack(&back, &head2, &body2, &e)) fail_msg("%s again: %s", first, e.text);
                if (!str_eq(buf_str(&head2), head) || !str_eq(buf_str(&body2), body)) fail_msg("%s: another message came back", first);
                buf_release(&head2);
                buf_release(&body2);
            }
        }
}

/* Whole structs, field by field, for the messages people would notice first. */
static void fields_survive(void **state)
{
    struct box   *b = *state;
    struct sample s = {.state = 5, .a = &b->in, .many = 3};
    struct msg    m = sample_msg(&s, MSG_LEASE), back;
    struct err    e = {0};

    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
    assert_int_equal(wire_unpack(buf_str(&b->head), buf_str(&b->body), (struct str){0}, &b->out, &back, &e), 0);
    assert_int_equal(back.lease.task, m.lease.task);
    assert_int_equal(back.lease.epoch, m.lease.epoch);
    assert_int_equal(back.lease.budget_ms, m.lease.budget_ms);
    assert_true(str_eq(back.lease.spec.prompt, m.lease.spec.prompt));
    assert_true(str_eq(back.lease.spec.negative, m.lease.spec.negative));
    assert_true(back.lease.spec.seed == m.lease.spec.seed);
    assert_true(back.lease.spec.guidance == m.lease.spec.guidance);
    assert_true(back.lease.spec.cfg_norm == m.lease.spec.cfg_norm && back.lease.spec.cfg_trunc == m.lease.spec.cfg_trunc);
    assert_int_equal(back.lease.spec.rng.threads, m.lease.spec.rng.threads);
    assert_int_equal(back.lease.spec.width_px, m.lease.spec.width_px);
    assert_int_equal(back.lease.spec.height_px, m.lease.spec.height_px);
    assert_true(back.lease.spec.want_latents);
}

static void truncations(void **state)
{
    struct box   *b = *state;
    struct sample s = {.state = 2, .a = &b->in, .many = 2};

    for (size_t k = 0; k < SAMPLE_KINDS; k++) {
        struct msg m, back;
        struct err e = {0};
        struct str head, body;

        clear(b);
        m = sample_msg(&s, sample_kinds[k]);
        assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
        head = buf_str(&b->head);
        body = buf_str(&b->body);
        for (size_t n = 0; n < head.len; n++) {
            arena_reset(&b->out, 0);
            assert_int_equal(wire_unpack(str_sub(head, 0, n), body, chunk_of(&m), &b->out, &back, &e), ERR_PROTO);
        }
        for (size_t n = 0; n < body.len; n++) {
            arena_reset(&b->out, 0);
            assert_int_equal(wire_unpack(head, str_sub(body, 0, n), chunk_of(&m), &b->out, &back, &e), ERR_PROTO);
        }
        if (m.kind == MSG_CHUNK)
            assert_int_equal(wire_unpack(head, body, str_sub(m.chunk.bytes, 0, m.chunk.bytes.len - 1), &b->out, &back, &e), ERR_PROTO);
        else assert_int_equal(wire_unpack(head, body, str_of("x"), &b->out, &back, &e), ERR_PROTO);
    }
}

static void put_crc(char *head, struct str body)
{
    uint32_t crc = crc32c(0, body.at, body.len);

    for (int i = 0; i < 4; i++) head[20 + i] = (char)(crc >> (8 * i));
}

/* A flipped bit is caught by the checksum; with the checksum made right, by the bounds, or it is another valid message. */
static void bit_flips(void **state)
{
    struct box   *b = *state;
    struct sample s = {.state = 3, .a = &b->in, .many = 2};

    for (size_t k = 0; k < SAMPLE_KINDS; k++) {
        struct msg m, back;
        struct err e = {0};

        clear(b);
        m = sample_msg(&s, sample_kinds[k]);
        assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
        for (int i = 0; i < 300 && b->body.len; i++) {
            size_t at = sample_u64(&s) % b->body.len;
            char   old = b->body.at[at];

            b->body.at[at] = (char)(old ^ (1 << sample_in(&s, 0, 7)));
            arena_reset(&b->out, 0);
            assert_int_equal(wire_unpack(buf_str(&b->head), buf_str(&b->body), chunk_of(&m), &b->out, &back, &e), ERR_PROTO);
            put_crc(b->head.at, buf_str(&b->body));
            if (wire_unpack(buf_str(&b->head), buf_str(&b->body), chunk_of(&m), &b->out, &back, &e) == 0)
                assert_int_equal(msg_check(&back, &e), 0);
            b->body.at[at] = old;
            put_crc(b->head.at, buf_str(&b->body));
        }
        if (m.kind == MSG_CHUNK) {
            char *bytes = arena_text(&b->in, m.chunk.bytes.at, m.chunk.bytes.len);
            bytes[3] ^= 1;
            assert_int_equal(wire_unpack(buf_str(&b->head), buf_str(&b->body), (struct str){bytes, m.chunk.bytes.len}, &b->out, &back, &e), ERR_PROTO);
        }
    }
}

static void headers(void **state)
{
    struct box                                         *b = *state;
    static const struct { int at; char value; const char *says; } bad[] = {
        {0, 'z', "magic"}, {1, 'f', "magic"}, {2, 2, "version"}, {4, 99, "not known"}, {5, 1, "not known"}, {6, 1, "flags"}, {16, 77, "bytes"}, {23, 1, "checksum"}};
    struct msg    m = {.kind = MSG_READY, .correlation = 77, .ready = {2}}, back;
    struct err    e = {0};
    enum msg_kind kind;
    uint64_t      correlation;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        clear(b);
        assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
        b->head.at[bad[i].at] = bad[i].value;
        assert_int_equal(wire_unpack(buf_str(&b->head), buf_str(&b->body), (struct str){0}, &b->out, &back, &e), ERR_PROTO);
        if (!strstr(e.text, bad[i].says)) fail_msg("byte %d: %s", bad[i].at, e.text);
        assert_int_equal(wire_peek(buf_str(&b->head), &kind, &correlation), i < 2 ? ERR_PROTO : 0);
    }
    clear(b);
    m.ready.capacity = 2;
    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
    b->head.at[3] = 9; /* a newer minor is taken in */
    assert_int_equal(wire_unpack(buf_str(&b->head), buf_str(&b->body), (struct str){0}, &b->out, &back, &e), 0);
}

/* Appends raw protobuf to a packed message and makes the header right again. */
static int unpack_with(struct box *b, const char *more, size_t len, int times, struct msg *back, struct err *e)
{
    for (int i = 0; i < times; i++) buf_put(&b->body, more, len);
    for (int i = 0; i < 4; i++) b->head.at[16 + i] = (char)(b->body.len >> (8 * i));
    put_crc(b->head.at, buf_str(&b->body));
    arena_reset(&b->out, 0);
    return wire_unpack(buf_str(&b->head), buf_str(&b->body), (struct str){0}, &b->out, back, e);
}

static void unknown_fields(void **state)
{
    struct box *b = *state;
    struct msg  m = {.kind = MSG_READY, .ready = {2}}, back;
    struct err  e = {0};

    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
    assert_int_equal(unpack_with(b, "\x9a\x06\x03" "abc", 6, UNKNOWN_FIELDS_MAX, &back, &e), 0);
    assert_int_equal(back.ready.capacity, 2);
    assert_int_equal(unpack_with(b, "\x9a\x06\x03" "abc", 6, 1, &back, &e), ERR_PROTO);
    assert_non_null(strstr(e.text, "unknown fields"));
    clear(b); /* one level down they count as well */
    m = (struct msg){.kind = MSG_BEAT, .beat = {.seq = 1}};
    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
    assert_int_equal(unpack_with(b, "\x1a\x07\x10\x01\x28\x01\xd0\x0f\x01", 9, 64, &back, &e), 0);
    assert_int_equal(back.beat.n_progress, 64);
    clear(b);
    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
    assert_int_equal(unpack_with(b, "\x1a\x0a\x10\x01\x28\x01\xd0\x0f\x01\xd0\x0f\x01", 12, 60, &back, &e), ERR_PROTO);
    assert_non_null(strstr(e.text, "unknown fields"));
}

static void memory_is_bounded(void **state)
{
    struct box *b = *state;
    struct msg  m = {.kind = MSG_EVENTS_OK}, back;
    struct err  e = {0};
    static char bomb[1 << 20];

    for (size_t i = 0; i + 1 < sizeof bomb; i += 2) memcpy(bomb + i, "\x1a", 2); /* an empty event: 2 bytes here, 200 there */
    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
    assert_int_equal(unpack_with(b, bomb, sizeof bomb - b->body.len - 2, 1, &back, &e), ERR_PROTO);
    assert_non_null(strstr(e.text, "memory"));
    clear(b); /* a body over its kind's cap is refused before protobuf */
    m = (struct msg){.kind = MSG_READY, .ready = {1}};
    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
    assert_int_equal(unpack_with(b, bomb, BODY_MAX_BYTES, 1, &back, &e), ERR_PROTO);
    assert_non_null(strstr(e.text, "at most 65536"));
}

static void bounds(void **state)
{
    struct box   *b = *state;
    struct sample s = {.state = 9, .a = &b->in, .many = 2};
    struct err    e = {0};
    struct msg    m;

#define REFUSED(message, change, word)                                                                                                    \
    do {                                                                                                                                  \
        m = sample_msg(&s, message);                                                                                                      \
        change;                                                                                                                           \
        e.text[0] = 0;                                                                                                                    \
        assert_true(wire_pack(&m, &b->head, &b->body, &e) < 0);                                                                           \
        if (!strstr(e.text, word)) fail_msg("expected \"%s\" in: %s", word, e.text);                                                      \
    } while (0)
    REFUSED(MSG_LEASE, m.lease.spec.width_px = 1000, "use 992 or 1008");
    REFUSED(MSG_LEASE, m.lease.spec.height_px = 4112, "height 4112");
    REFUSED(MSG_LEASE, m.lease.spec.guidance = NAN, "guidance");
    REFUSED(MSG_LEASE, m.lease.spec.cfg_norm = INFINITY, "normalization");
    REFUSED(MSG_LEASE, m.lease.spec.steps = 201, "steps 201");
    REFUSED(MSG_LEASE, m.lease.spec.rng.threads = 100, "rng");
    REFUSED(MSG_LEASE, m.lease.spec.rng.kind = (enum rng_kind)3, "rng");
    REFUSED(MSG_LEASE, m.lease.spec.prompt = str_of("a\xff"), "not valid UTF-8 at byte 1");
    REFUSED(MSG_LEASE, m.lease.spec.prompt = ((struct str){"a\0b", 3}), "not valid UTF-8 at byte 1");
    REFUSED(MSG_LEASE, m.lease.spec.model = str_of("a\x1b[2J"), "control byte");
    REFUSED(MSG_LEASE, m.lease.task = 0, "task is missing");
    REFUSED(MSG_LEASE, m.lease.budget_ms = 0, "budget");
    REFUSED(MSG_HELLO, m.hello.max_batch = BATCH_MAX + 1, "batch");
    REFUSED(MSG_SUBMIT, m.submit.deadline_ms = DEADLINE_MAX_MS + 1, "deadline");
    REFUSED(MSG_BEAT_OK, m.beat_ok.n_recall = CANCELS_MAX + 1, "leases");
    REFUSED(MSG_CONTROL, (m.control.verb = CONTROL_PAUSE, m.control.client = str_of("a\nb")), "control byte");
    REFUSED(MSG_HELLO, m.hello.n_ranks = RANKS_MAX + 1, "17 ranks");
    REFUSED(MSG_HELLO, m.hello.rank[0].parts = 8, "a rank's parts 8");
    REFUSED(MSG_HELLO, m.hello.rank[0].device.len = 0, "a rank has no device");
    REFUSED(MSG_HELLO, m.hello.rank[0].device = str_of("a name too long for it"), "a rank's device");
    REFUSED(MSG_BEAT, m.beat.rank[0].busy_permille = 1001, "permille of work 1001");
    REFUSED(MSG_BEAT, m.beat.rank[0].device = str_of("a\x1b[2J"), "control byte");
    REFUSED(MSG_WORKERS_OK, m.workers_ok.worker[0].rank[0].parts = 0, "a rank's parts 0");
    REFUSED(MSG_WORKERS_OK, m.workers_ok.worker[0].rank[0].total_bytes = RANK_MEMORY_BYTES + 1, "a rank's memory");
    REFUSED(MSG_HELLO, m.hello.role = (enum role)3, "role 3");
    REFUSED(MSG_HELLO, m.hello.role = ROLE_CLIENT, "a client has no");
    REFUSED(MSG_HELLO, m.hello.capacity = 65, "capacity 65");
    REFUSED(MSG_SUBMIT, m.submit.n_tasks = 3, "of a job of 3");
    REFUSED(MSG_SUBMIT, m.submit.n_items = 0, "0 items");
    REFUSED(MSG_SUBMIT, m.submit.item[0].n_images = 0, "item 0: 0 images");
    REFUSED(MSG_OFFER, m.offer.part[1].kind = PART_IMAGE, "two parts");
    REFUSED(MSG_OFFER, m.offer.n_parts = 0, "parts");
    REFUSED(MSG_OFFER, (m.offer.bytes[0] = str_of("abc"), m.offer.part[0].size_bytes = 4), "3 bytes of a part of 4");
    REFUSED(MSG_OFFER, (m.offer.bytes[1] = str_of("abc"), m.offer.part[1].size_bytes = 3), "rides along and the other does not");
    REFUSED(MSG_OFFERS, m.offers.offer[0].bytes[0].len = 0, "without its bytes");
    REFUSED(MSG_OFFERS, m.offers.n_offers = 0, "offers");
    REFUSED(MSG_OFFERS, m.offers.offer[0].epoch = 0, "epoch");
    REFUSED(MSG_OFFERS_OK, m.offers_ok.offer[0].verdict = 7, "verdict");
    REFUSED(MSG_LEASES, m.leases.lease[0].budget_ms = 0, "budget");
    REFUSED(MSG_EVENTS, m.events.inline_bytes = INLINE_MAX_BYTES + 1, "inline_bytes");
    REFUSED(MSG_FETCH_OK, (m.fetch_ok.bytes = str_of("abc"), m.fetch_ok.part.size_bytes = 4), "all of it, or none");
    REFUSED(MSG_OFFER_OK, m.offer_ok.credit_bytes = 0, "credit");
    REFUSED(MSG_CHUNK, m.chunk.bytes.len = 0, "chunk");
    REFUSED(MSG_CONTROL, m.control.verb = (enum control_verb)9, "verb");
    REFUSED(MSG_CONTROL, (m.control.verb = CONTROL_DRAIN, m.control.worker.len = 0), "worker");
    REFUSED(MSG_CREDIT, m.credit.credit_bytes = CREDIT_MAX_BYTES + 1, "credit");
    REFUSED(MSG_FAILED, m.failed.why = (enum fail_class)8, "failure class 8");
    REFUSED(MSG_BEAT, m.beat.progress[0].step = m.beat.progress[0].steps + 1, "step");
    REFUSED((enum msg_kind)50, (void)0, "not known");
#undef REFUSED
}

/* A prompt of 32 KiB twice still travels: the largest lease there is. */
static void largest_lease(void **state)
{
    struct box *b = *state;
    char       *text = arena_take(&b->in, PROMPT_MAX_BYTES);
    struct msg  m = {.kind = MSG_LEASE, .lease = {.task = 1, .epoch = 2, .job = 3, .budget_ms = 1}}, back;
    struct err  e = {0};

    memset(text, 'x', PROMPT_MAX_BYTES);
    spec_init(&m.lease.spec);
    m.lease.spec.prompt = m.lease.spec.negative = (struct str){text, PROMPT_MAX_BYTES};
    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
    assert_int_equal(wire_unpack(buf_str(&b->head), buf_str(&b->body), (struct str){0}, &b->out, &back, &e), 0);
    assert_int_equal(back.lease.spec.negative.len, PROMPT_MAX_BYTES);
    m.lease.spec.prompt.len++;
    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), ERR_LIMIT);
}

static void sentences_are_cleaned(void **state)
{
    struct box *b = *state;
    struct msg  m = {.kind = MSG_FAILED, .failed = {1, 2, FAIL_CRASHED, {"tensor \xe2\x82 of\nfile", 16}}}, back;
    struct err  e = {0};

    assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
    assert_int_equal(wire_unpack(buf_str(&b->head), buf_str(&b->body), (struct str){0}, &b->out, &back, &e), 0);
    assert_true(str_is(back.failed.text, "tensor ?? of?fil"));
}

static void items(void **state)
{
    struct box   *b = *state;
    struct sample s = {.state = 11, .a = &b->in, .many = 2};
    struct item   it = {sample_spec(&s), 9, sample_text(&s, 20)}, back;
    struct buf    again;
    struct err    e = {0};

    buf_init(&again, 1 << 20);
    assert_int_equal(wire_item_pack(&it, &b->body, &e), 0);
    assert_int_equal(wire_item_unpack(buf_str(&b->body), &b->out, &back, &e), 0);
    assert_true(str_eq(back.label, it.label) && str_eq(back.spec.prompt, it.spec.prompt));
    assert_int_equal(wire_item_pack(&back, &again, &e), 0);
    assert_true(str_eq(buf_str(&again), buf_str(&b->body)));
    for (size_t n = 0; n < b->body.len; n++) {
        int rc = wire_item_unpack(str_sub(buf_str(&b->body), 0, n), &b->out, &back, &e);
        assert_true(rc == 0 || rc == ERR_PROTO);
    }
    buf_release(&again);
}

/* tests/proto/golden.txt holds, for every message, its name, header and body in hex. ZFARM_GOLDEN=write makes it anew. */
static void golden(void **state)
{
    struct box   *b = *state;
    struct sample s = {.state = 42, .a = &b->in, .many = 2};
    const char   *write = getenv("ZFARM_GOLDEN");
    FILE         *f = fopen(TESTS_DIR "/proto/golden.txt", write ? "w" : "r");
    static char   line[1 << 16], want[1 << 16], hex[1 << 16];
    struct err    e = {0};

    assert_non_null(f);
    for (size_t k = 0; k < SAMPLE_KINDS; k++) {
        struct msg m, back;
        int        n;

        clear(b);
        m = sample_msg(&s, sample_kinds[k]);
        assert_int_equal(wire_pack(&m, &b->head, &b->body, &e), 0);
        hex_of((uint8_t *)b->head.at, b->head.len, hex);
        n = snprintf(want, sizeof want, "%s %s ", msg_kind_name(m.kind), hex);
        hex_of((const uint8_t *)buf_str(&b->body).at, b->body.len, hex);
        snprintf(want + n, sizeof want - (size_t)n, "%s\n", hex);
        if (write) fputs(want, f);
        else {
            assert_non_null(fgets(line, sizeof line, f));
            if (strcmp(line, want)) fail_msg("%s: its bytes changed:\n is %s was %s", msg_kind_name(m.kind), want, line);
        }
        assert_int_equal(wire_unpack(buf_str(&b->head), buf_str(&b->body), chunk_of(&m), &b->out, &back, &e), 0);
    }
    fclose(f);
}

/* golden-older.txt: lines of golden.txt as they were before a field was added; they are read for ever. Lines are only added. */
static void golden_older(void **state)
{
    struct box       *b = *state;
    FILE             *f = fopen(TESTS_DIR "/proto/golden-older.txt", "r");
    static char       line[1 << 16];
    static uint8_t    head[FRAME_HEADER_BYTES], body[1 << 15];
    struct err        e = {0};
    int               n = 0;

    assert_non_null(f);
    for (; fgets(line, sizeof line, f); n++) {
        char      *h = strchr(line, ' ') + 1, *d = strchr(h, ' ') + 1;
        size_t     len = strcspn(d, "\n") / 2;
        struct msg back;

        clear(b);
        d[-1] = d[2 * len] = 0;
        assert_int_equal(hex_to(h, head, sizeof head), 0);
        assert_int_equal(hex_to(d, body, len), 0);
        if (wire_unpack((struct str){(char *)head, sizeof head}, (struct str){(char *)body, len}, (struct str){0}, &b->out, &back, &e)) fail_msg("%s", e.text);
        assert_memory_equal(msg_kind_name(back.kind), line, strlen(msg_kind_name(back.kind)));
        if (back.kind == MSG_SUBMIT) assert_int_equal(back.submit.job_class, n < 4 ? CLASS_NORMAL : CLASS_BULK);
        if (back.kind == MSG_SUBMIT) assert_int_equal(back.submit.deadline_ms, 0);
        if (back.kind == MSG_EVENTS_OK) assert_int_equal(back.events_ok.job.job_class, n < 4 ? CLASS_NORMAL : CLASS_INTERACTIVE);
        if (back.kind == MSG_LEASE) assert_int_equal(back.lease.batch, 0);
        if (back.kind == MSG_HELLO) assert_int_equal(back.hello.n_ranks, 0);
        if (back.kind == MSG_BEAT) assert_int_equal(back.beat.n_ranks, 0);
    }
    assert_true(n >= 17);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(round_trip), T(fields_survive), T(truncations), T(bit_flips), T(headers), T(unknown_fields), T(memory_is_bounded),
        T(bounds), T(largest_lease), T(sentences_are_cleaned), T(items), T(golden), T(golden_older),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_hash.c - NIST and RFC vectors, chained pieces against the whole, hex both ways. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <sodium.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "tests/near.h"

static void expect_sha(const char *text, const char *want)
{
    uint8_t digest[SHA256_BYTES];
    char    hex[SHA256_HEX];

    sha256_of(text, strlen(text), digest);
    hex_of(digest, sizeof digest, hex);
    assert_string_equal(hex, want);
}

static void test_sha256(void **state)
{
    struct sha256 s;
    uint8_t       digest[SHA256_BYTES];
    char          hex[SHA256_HEX], as[1000];

    (void)state;
    expect_sha("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_sha("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect_sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(as, 'a', sizeof as);
    sha256_init(&s);
    for (int i = 0; i < 1000; i++) sha256_put(&s, as, sizeof as); /* a million 'a' */
    sha256_put(&s, NULL, 0);
    sha256_take(&s, digest);
    hex_of(digest, sizeof digest, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Every length and every cut around the blocks: as libsodium says. */
static void test_sha256_lengths(void **state)
{
    uint8_t     bytes[300], want[SHA256_BYTES], got[SHA256_BYTES];
    struct dice r = {.state = 7};

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)dice_u64(&r);
    for (size_t len = 0; len <= sizeof bytes; len++) {
        crypto_hash_sha256(want, bytes, len);
        for (size_t cut = 0; cut <= len; cut += 1 + len / 70) {
            struct sha256 s;

            sha256_init(&s);
            sha256_put(&s, bytes, cut);
            sha256_put(&s, bytes + cut, len - cut);
            sha256_take(&s, got);
            assert_memory_equal(got, want, sizeof want);
        }
    }
}

static void test_crc32c(void **state)
{
    uint8_t     bytes[301];
    struct dice r = {.state = 5};

    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283u);
    assert_int_equal(crc32c(0, "", 0), 0);
    memset(bytes, 0, 32); /* RFC 3720 B.4 */
    assert_int_equal(crc32c(0, bytes, 32), 0x8A9136AAu);
    memset(bytes, 0xFF, 32);
    assert_int_equal(crc32c(0, bytes, 32), 0x62A8AB43u);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, bytes, 32), 0x46DD794Eu);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)dice_u64(&r);
    for (size_t cut = 0; cut <= sizeof bytes; cut++) /* any cut, any alignment */
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof bytes - cut), crc32c(0, bytes, sizeof bytes));
    bytes[150] ^= 1;
    assert_int_not_equal(crc32c(0, bytes, 150), crc32c(0, bytes, 151));
}

static void test_hex(void **state)
{
    uint8_t bytes[4] = {1, 2, 3, 4};
    char    hex[9];

    (void)state;
    assert_int_equal(hex_to("00fFA0", bytes, 3), 0);
    assert_memory_equal(bytes, "\x00\xff\xa0\x04", 4);
    hex_of(bytes, 4, hex);
    assert_string_equal(hex, "00ffa004");
    assert_int_equal(hex_to("00ff", bytes, 3), ERR_ARG);
    assert_int_equal(hex_to("00ffa00", bytes, 3), ERR_ARG);
    assert_int_equal(hex_to("00ffag", bytes, 3), ERR_ARG);
    assert_int_equal(hex_to("", bytes, 3), ERR_ARG);
    assert_memory_equal(bytes, "\x00\xff\xa0\x04", 4); /* untouched */
}

static void test_random(void **state)
{
    uint8_t a[300] = {0}, zero[300] = {0};

    (void)state;
    random_bytes(a, sizeof a);
    assert_memory_not_equal(a, zero, sizeof a);
    assert_memory_not_equal(a + 268, zero, 32); /* to the end */
    assert_true(random_u64() != random_u64());
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sha256), cmocka_unit_test(test_sha256_lengths), cmocka_unit_test(test_crc32c), cmocka_unit_test(test_hex), cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* fuzz_keys.c - any bytes as a key file and as a list of accounts. What is taken in as a key has a public part that is its secret's; what is taken in
 * as accounts has each key once, under a good name, of one role. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/keyring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file_of(const uint8_t *data, size_t size, char path[40])
{
    static int fd = -1;

    if (fd < 0) fd = memfd_create("keys", MFD_CLOEXEC);
    assert(fd >= 0 && fchmod(fd, 0600) == 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    snprintf(path, 40, "/proc/self/fd/%d", fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct keyring r = {0};
    struct key     k;
    struct err     e = {0};
    char           path[40];
    uint8_t        public_key[CURVE_BYTES];

    file_of(data, size, path);
    if (key_read(&k, path, &e)) {
        assert(e.code && e.text[0]);
    } else {
        curve_public(k.secret, public_key);
        assert(memcmp(public_key, k.public_key, CURVE_BYTES) == 0 && k.name[0] && k.role >= KEY_CLIENT && k.role <= KEY_BROKER);
    }
    if (keyring_read(&r, path, &e)) {
        assert(e.code && e.text[0] && !r.account);
    } else {
        for (const struct account *a = r.account; a; a = a->hh.next) {
            assert(keyring_find(&r, a->public_key) == a && !key_name_check(str_of(a->name), NULL));
            assert(a->role >= KEY_CLIENT && a->role <= KEY_ADMIN && keyring_named(&r, a->name)->role == a->role);
        }
        keyring_release(&r);
    }
    return 0;
}

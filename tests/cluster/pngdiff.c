/* pngdiff.c - pngdiff A.png B.png [MAX]: the largest difference of two pictures' bytes; exit 1 when it passes MAX (1) or the sizes differ. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/png.h"

static struct image picture(const char *path)
{
    struct image img = {0};
    struct buf   b;
    struct err   e = {0};

    buf_init(&b, (size_t)256 << 20);
    if (file_read(path, &b, &e) || png_read(buf_str(&b), &img, NULL, NULL, &e)) {
        fprintf(stderr, "pngdiff: %s: %s\n", path, e.text);
        exit(1);
    }
    buf_release(&b);
    return img;
}

int main(int argc, char **argv)
{
    struct image a, b;
    int64_t      max = 1;
    int          worst = 0;

    if (argc < 3 || (argc > 3 && str_to_i64(str_of(argv[3]), &max))) return 2;
    a = picture(argv[1]);
    b = picture(argv[2]);
    if (a.width_px != b.width_px || a.height_px != b.height_px) {
        printf("%dx%d against %dx%d\n", a.width_px, a.height_px, b.width_px, b.height_px);
        return 1;
    }
    for (int i = 0; i < 3 * a.width_px * a.height_px; i++) {
        int d = abs(a.rgb[i] - b.rgb[i]);

        if (d > worst) worst = d;
    }
    printf("%d\n", worst);
    image_free(&a);
    image_free(&b);
    return worst > max;
}

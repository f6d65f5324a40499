/* fold.c - see fold.h. */
#include "kernels/fold.h"

#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "kernels/cpu/half.h"

/* Of the taps -1, 0, 1 those that fall on cell `cell` (0: the first of the two) when the pixel is odd or even: from..to. */
static void taps(int odd, int cell, int *from, int *to)
{
    *from = cell == 0 ? 0 : odd ? 2 : 1;
    *to = cell == 0 ? odd : 2;
}

static float sum_of(const float *w, int phase, int cell)
{
    int    y0, y1, x0, x1;
    double sum = 0.0;

    taps(phase / 2, cell / 2, &y0, &y1);
    taps(phase % 2, cell % 2, &x0, &x1);
    for (int y = y0; y <= y1; y++) {
        for (int x = x0; x <= x1; x++) sum += (double)w[y * 3 + x];
    }
    return (float)sum;
}

int conv_up2x_fold(float *to, const struct tensor *w)
{
    const int64_t n = w->dim[0] * w->dim[1];
    float        *wide = malloc((size_t)(n * 9) * sizeof *wide + 1);

    assert(w->rank == 4 && w->dim[2] == 3 && w->dim[3] == 3 && tensor_dense(w) && w->scale == 0.0f);
    if (!wide) return ERR_NOMEM;
    to_f32(wide, w->data, w->type, n * 9);
    for (int phase = 0; phase < 4; phase++) {
        for (int64_t i = 0; i < n; i++) {
            for (int cell = 0; cell < 4; cell++) to[(phase * n + i) * 4 + cell] = sum_of(wide + i * 9, phase, cell);
        }
    }
    free(wide);
    return 0;
}

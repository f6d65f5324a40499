/* mm.c - native bf16 products by shape. Believes: callers use few shapes (linear.c pads rows and columns), so nothing is ever evicted.
 * Not here: rounding to bf16 (half.c), which tile (linear.c). */
#include "kernels/cpu/mm.h"

#include <dnnl.h>
#include <stdlib.h>
#include <uthash.h>

#include "kernels/cpu/cpu.h"

struct mm {
    struct mm_key { int64_t n, m, k, adds; } key;
    dnnl_engine_t         engine; /* borrowed */
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t      prim;
    UT_hash_handle        hh;
};

static void mm_free(struct mm *mm)
{
    if (mm->prim) dnnl_primitive_destroy(mm->prim);
    if (mm->desc) dnnl_primitive_desc_destroy(mm->desc);
    free(mm);
}

static int make(struct mm *mm)
{
    const struct mm_key  *s = &mm->key;
    dnnl_memory_desc_t    x, w, y;
    dnnl_matmul_desc_t    op;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t       post = NULL;
    int                   before = pool_quiet(), bad;

    bad = dnnl_memory_desc_init_by_tag(&x, 2, (dnnl_dims_t){s->n, s->k}, dnnl_bf16, dnnl_ab) ||
          dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){s->k, s->m}, dnnl_bf16, dnnl_ba) ||
          dnnl_memory_desc_init_by_tag(&y, 2, (dnnl_dims_t){s->n, s->m}, dnnl_f32, dnnl_ab) ||
          dnnl_matmul_desc_init(&op, &x, &w, NULL, &y) || dnnl_primitive_attr_create(&attr) ||
          dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) || dnnl_post_ops_create(&post) ||
          (s->adds && dnnl_post_ops_append_sum(post, 1.0f)) || dnnl_primitive_attr_set_post_ops(attr, post) ||
          dnnl_primitive_desc_create(&mm->desc, &op, attr, mm->engine, NULL) || dnnl_primitive_create(&mm->prim, mm->desc);
    if (post) dnnl_post_ops_destroy(post);
    if (attr) dnnl_primitive_attr_destroy(attr);
    pool_unquiet(before);
    return bad ? -1 : 0;
}

struct mm *mm_for(struct cpu *c, int64_t n, int64_t m, int64_t k, int adds)
{
    struct mm_key key = {n, m, k, adds};
    struct mm    *mm;

    HASH_FIND(hh, c->mm, &key, sizeof key, mm);
    if (mm) return mm;
    mm = calloc(1, sizeof *mm);
    if (!mm) return NULL;
    mm->key = key;
    mm->engine = c->engine;
    if (make(mm)) {
        mm_free(mm);
        return NULL;
    }
    HASH_ADD(hh, c->mm, key, sizeof mm->key, mm);
    return mm;
}

size_t mm_scratch_bytes(const struct mm *mm)
{
    return dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(mm->desc, dnnl_query_scratchpad_md, 0));
}

int mm_run(const struct mm *mm, uint16_t *x, uint16_t *w, float *y, void *scratch)
{
    static const struct { int arg; dnnl_query_t what; } part[4] = {{DNNL_ARG_SRC, dnnl_query_src_md},
                                                                   {DNNL_ARG_WEIGHTS, dnnl_query_weights_md},
                                                                   {DNNL_ARG_DST, dnnl_query_dst_md},
                                                                   {DNNL_ARG_SCRATCHPAD, dnnl_query_scratchpad_md}};
    void           *at[4] = {x, w, y, scratch};
    dnnl_exec_arg_t arg[4] = {{0, NULL}};
    dnnl_stream_t   stream = NULL;
    int             bad = dnnl_stream_create(&stream, mm->engine, dnnl_stream_default_flags);

    for (int i = 0; i < 4 && !bad; i++) {
        arg[i].arg = part[i].arg;
        bad = dnnl_memory_create(&arg[i].memory, dnnl_primitive_desc_query_md(mm->desc, part[i].what, 0), mm->engine, at[i]);
    }
    bad = bad || dnnl_primitive_execute(mm->prim, stream, 4, arg) || dnnl_stream_wait(stream);
    for (int i = 0; i < 4; i++) {
        if (arg[i].memory) dnnl_memory_destroy(arg[i].memory);
    }
    if (stream) dnnl_stream_destroy(stream);
    return bad ? -1 : 0;
}

void mm_forget_all(struct cpu *c)
{
    struct mm *mm, *next;

    HASH_ITER(hh, c->mm, mm, next) {
        HASH_DEL(c->mm, mm);
        mm_free(mm);
    }
}

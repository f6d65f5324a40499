/* dnn.h - inside the rooms that speak to cuDNN (dnn.c, dnn_conv.c): its functions, its numbers, and a graph of operations with the engine chosen for it.
 * Its headers are not needed to build: the few functions and numbers used are of the stable version 9 interface and stand here. */
#ifndef KERNELS_CUDA_DNN_H
#define KERNELS_CUDA_DNN_H

#include "kernels/cuda/ops.h"

#define DNN_DESCRIPTORS 20 /* of a plan */

enum { /* the interface's numbers */
    TYPE_HANDLE = 0, TYPE_DATA_TYPE = 1, TYPE_BOOLEAN = 2, TYPE_INT64 = 3, TYPE_FLOAT = 4, TYPE_VOID_PTR = 6, TYPE_CONV_MODE = 7, TYPE_HEUR_MODE = 8,
    TYPE_NOTE = 11, TYPE_POINTWISE_MODE = 14, TYPE_DESCRIPTOR = 15,
    DATA_FLOAT = 0, DATA_BFLOAT16 = 9,
    DESC_POINTWISE = 0, DESC_CONV = 1, DESC_ENGINE = 2, DESC_ENGINECFG = 3, DESC_ENGINEHEUR = 4, DESC_PLAN = 5, DESC_CONV_FORWARD = 10,
    DESC_OP_POINTWISE = 13, DESC_GRAPH = 15, DESC_PACK = 16, DESC_TENSOR = 17, DESC_SDPA = 41,
    POINTWISE_MODE = 0, POINTWISE_TYPE = 1, POINTWISE_ADD = 0,
    CONV_TYPE = 100, CONV_MODE = 101, CONV_DILATIONS = 102, CONV_STRIDES = 103, CONV_AFTER = 104, CONV_BEFORE = 105, CONV_DIMS = 106, CROSS_CORRELATION = 1,
    HEUR_MODE = 200, HEUR_GRAPH = 201, HEUR_RESULTS = 202, MODE_FALLBACK = 2, MODE_A = 3,
    CONFIG_ENGINE = 300,
    PLAN_HANDLE = 400, PLAN_CONFIG = 401, PLAN_SPACE = 402,
    FORWARD_ALPHA = 700, FORWARD_BETA = 701, FORWARD_CONV = 702, FORWARD_W = 703, FORWARD_X = 704, FORWARD_Y = 705,
    ADD_POINTWISE = 750, ADD_X = 751, ADD_B = 752, ADD_Y = 753,
    GRAPH_HANDLE = 800, GRAPH_OPS = 801,
    TENSOR_ALIGNMENT = 900, TENSOR_TYPE = 901, TENSOR_DIMS = 902, TENSOR_STRIDES = 903, TENSOR_ID = 906, TENSOR_VIRTUAL = 907, TENSOR_BY_VALUE = 908,
    PACK_IDS = 1000, PACK_POINTERS = 1001, PACK_SPACE = 1003,
    ENGINE_NOTES = 1303, NOTE_LESS_FIRST = 1, NOTE_LESS_LAST = 8, /* fewer bits, FFT, Winograd, not deterministic */
    SDPA_Q = 2800, SDPA_K = 2801, SDPA_V = 2802, SDPA_O = 2803, SDPA_SCALE = 2805
};

#define DNN_TABLE(x)                                                                                                                     \
    x(Create, int, (void **handle))                                                                                                      \
    x(Destroy, int, (void *handle))                                                                                                      \
    x(SetStream, int, (void *handle, struct CUstream_st *stream))                                                                        \
    x(GetVersion, size_t, (void))                                                                                                        \
    x(BackendCreateDescriptor, int, (int kind, void **desc))                                                                             \
    x(BackendDestroyDescriptor, int, (void *desc))                                                                                       \
    x(BackendFinalize, int, (void *desc))                                                                                                \
    x(BackendSetAttribute, int, (void *desc, int name, int type, int64_t n, const void *values))                                         \
    x(BackendGetAttribute, int, (void *desc, int name, int type, int64_t cap, int64_t *n, void *values))                                 \
    x(BackendExecute, int, (void *handle, void *plan, void *pack))

struct dnn_api {
    void *lib, *handle;
#define MEMBER(name, type, args) type(*name) args;
    DNN_TABLE(MEMBER)
#undef MEMBER
};

struct dnn_plan {
    void   *desc[DNN_DESCRIPTORS];
    int     n_desc;
    void   *plan;  /* one of desc */
    int64_t bytes; /* work space */
};

/* The device's cuDNN, looked for once; NULL: there is none. */
struct dnn *dnn_of(struct dev *d);
const struct dnn_api *dnn_api(const struct dnn *b);
struct dnn_convs;
struct dnn_convs **dnn_convs(struct dnn *b); /* what dnn_conv.c keeps there */
void dnn_convs_free(const struct dnn_api *a, struct dnn_convs *all); /* NULL is fine */

/* A new descriptor of the plan, NULL when there is none. */
void *dnn_add(const struct dnn_api *a, struct dnn_plan *p, int kind);
bool  dnn_set(const struct dnn_api *a, void *desc, int name, int type, int64_t n, const void *values);
/* A finished tensor descriptor of rank 4. id: what a call names its data by; by_us false: it lives inside the graph only, as F32. */
void *dnn_tensor(const struct dnn_api *a, struct dnn_plan *p, int64_t id, bool by_us, const int64_t dims[4], const int64_t strides[4]);
/* The graph of n operations, and the first engine of cuDNN's own heuristic that makes a plan with at most most_bytes of work space. exact: none that
 * says of itself that it may give other bytes another time, or sums in fewer bits. */
bool dnn_choose(const struct dnn_api *a, struct dnn_plan *p, int64_t n, void *const *ops, int64_t most_bytes, bool exact);
/* False: refused, nothing was done; or the work space's failure sticks. */
bool dnn_run(struct dev *d, const struct dnn_api *a, const struct dnn_plan *p, int n, void *const *data, const int64_t *ids);
void dnn_plan_release(const struct dnn_api *a, struct dnn_plan *p);

#endif

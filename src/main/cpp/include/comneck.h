/*
 * comneck.h: the C ABI of libcomneck, and its manual.
 *
 * Rules that hold for every function:
 *   - only int32_t, int64_t, float and pointers; every pointer to memory is followed by its length, in bytes unless its
 * name says otherwise; pointers to one of the structures below are to exactly one of them unless a count follows;
 *   - the result is a status; details of the last failure on this thread are in comneck_last_error();
 *   - nothing is thrown, printed, or aborted; misuse is a status, never undefined behaviour, as long as pointers and
 * lengths are true;
 *   - handles (comneck_context, comneck_layer, comneck_plan) have one owner, who destroys each once; destroying NULL
 * does nothing;
 *   - strings are UTF-8 and zero-terminated.
 *
 * Life of a run: context (threads, instruction set) -> layers (packed weights) -> plan (steps, each checked when it is
 * added) -> seal (memory is allocated) -> execute, any number of times, which allocates nothing but where payloads are
 * larger than any before. Layers outlive the plans that use them, the context outlives both.
 */
#ifndef COMNECK_H
#define COMNECK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COMNECK_API __attribute__((visibility("default")))

/* Raised with every change of this header; Java refuses to load another one. */
#define COMNECK_ABI_VERSION 7

/* Status values. */
enum {
  COMNECK_OK = 0,
  COMNECK_MISUSE = 1,        /* an argument is wrong: a bug in the caller */
  COMNECK_DAMAGED = 2,       /* bytes from outside are not what they claim to be */
  COMNECK_OUT_OF_MEMORY = 3, /* an allocation failed */
  COMNECK_UNSUPPORTED = 4,   /* this machine cannot do it */
  COMNECK_INTERNAL = 5,      /* a bug of ours */
  COMNECK_LAUNCH_FAILED = 6, /* a GPU refused or aborted a kernel; its context cannot be used any more */
  COMNECK_DEVICE_LOST = 7    /* a GPU does not answer any more */
};

/* Element types, little-endian. */
enum { COMNECK_F32 = 0, COMNECK_BF16 = 1, COMNECK_F16 = 2, COMNECK_I32 = 3, COMNECK_I16 = 4, COMNECK_U8 = 5 };

/* Which positions of a height x width grid a view holds, in raster order: all; those with (row + column) even; the
 * others. */
enum { COMNECK_FULL = 0, COMNECK_ANCHORS = 1, COMNECK_NON_ANCHORS = 2 };

/* Element-wise functions at the end of a layer (docs/arithmetic.md). */
enum { COMNECK_NONE = 0, COMNECK_RELU = 1, COMNECK_QUICK_GELU = 2, COMNECK_GELU = 3 };

/* What the taps of a convolution mean; see org.comneck.backend.Convolution.Kind. */
enum { COMNECK_DIRECT = 0, COMNECK_CHECKERBOARD = 1, COMNECK_TRANSPOSED = 2 };

/* Arithmetic of a layer: canonical f32, or bf16 inputs and weights with f32 accumulation. */
enum { COMNECK_PRECISION_F32 = 0, COMNECK_PRECISION_BF16 = 1 };

/* Instruction sets. AUTO takes the best that the machine has. All compute the same bits in f32. */
enum { COMNECK_ISA_AUTO = 0, COMNECK_ISA_PORTABLE = 1, COMNECK_ISA_AVX2 = 2, COMNECK_ISA_AVX512 = 3 };

typedef struct comneck_context comneck_context;
typedef struct comneck_layer comneck_layer;
typedef struct comneck_plan comneck_plan;
typedef struct comneck_tables comneck_tables;
typedef struct comneck_rans_encoder comneck_rans_encoder;
typedef struct comneck_rans_decoder comneck_rans_decoder;

/* Symbols of one image that share a set of tables, in coding order. */
typedef struct comneck_rans_pass {
  const comneck_tables *tables;
  const uint8_t *indices; /* table of each symbol */
  int64_t indices_bytes;  /* at least count */
  const int16_t *values;
  int64_t values_bytes; /* at least 2 * count */
  int64_t count;        /* symbols */
} comneck_rans_pass;

/*
 * A view of a buffer in a plan's memory: images x positions x channels, channels innermost. Element (n, p, c) is
 * element number (n * positions + p) * channel_stride + channel_offset + c of the buffer.
 */
typedef struct comneck_view {
  int64_t offset_bytes;   /* of the buffer in the plan's memory, a multiple of 64 */
  int64_t bytes;          /* length of the buffer */
  int32_t type;           /* COMNECK_F32, ... */
  int32_t grid;           /* COMNECK_FULL, ... */
  int32_t images;         /* batch size */
  int32_t height;         /* rows of the full grid */
  int32_t width;          /* columns of the full grid */
  int32_t channels;       /* of this view */
  int32_t channel_offset; /* first channel in the buffer */
  int32_t channel_stride; /* channels of the buffer; 0: the view is absent (only as a convolution's source) */
} comneck_view;

/* Geometry of a convolution; a linear layer is a 1x1 convolution. */
typedef struct comneck_convolution {
  int32_t input_channels;
  int32_t output_channels;
  int32_t kernel_height;
  int32_t kernel_width;
  int32_t stride;
  int32_t padding;
  int32_t kind;      /* COMNECK_DIRECT, ... */
  int32_t precision; /* COMNECK_PRECISION_F32, ... */
} comneck_convolution;

/* COMNECK_ABI_VERSION of the library that was loaded. */
COMNECK_API int32_t comneck_abi_version(void);

/*
 * Sizes and offsets that callers in other languages rely on, in order: sizeof(comneck_view), offsetof each of its 10
 * members, sizeof(comneck_convolution), offsetof each of its 8 members. count must be 20.
 */
COMNECK_API int32_t comneck_layout(int32_t *values, int64_t count);

/* What went wrong in the last call on this thread that did not return COMNECK_OK: one sentence, valid until the next
 * call. */
COMNECK_API const char *comneck_last_error(void);

/* ------------------------------------------------------------------------------------------------------------- context
 */

/*
 * Threads and kernels. threads: how many work on a run, the caller's own included, 1 to 256. isa: COMNECK_ISA_AUTO, or
 * one to force; COMNECK_UNSUPPORTED when the machine lacks it. Idle threads sleep.
 */
COMNECK_API int32_t comneck_context_create(int32_t threads, int32_t isa, comneck_context **context);

/* One line for people: "AVX-512 with bf16, 2 threads". Truncated to text_bytes, the final zero included. */
COMNECK_API int32_t comneck_context_describe(const comneck_context *context, char *text, int64_t text_bytes);

COMNECK_API void comneck_context_destroy(comneck_context *context);

/* -------------------------------------------------------------------------------------------------------------- layers
 */

/*
 * Packs the weights of a layer: OIHW for DIRECT and CHECKERBOARD, IOHW for TRANSPOSED. weight_type and bias_type:
 * COMNECK_F32, F16 or BF16; memory of any alignment, read only during the call. bias may be NULL with 0 bytes: zeros.
 */
COMNECK_API int32_t comneck_layer_create(comneck_context *context, const comneck_convolution *geometry,
                                         const void *weight, int64_t weight_bytes, int32_t weight_type,
                                         const void *bias, int64_t bias_bytes, int32_t bias_type,
                                         comneck_layer **layer);

/* Bytes that the packed layer takes. */
COMNECK_API int32_t comneck_layer_bytes(const comneck_layer *layer, int64_t *bytes);

COMNECK_API void comneck_layer_destroy(comneck_layer *layer);

/* --------------------------------------------------------------------------------------------------------------- plans
 */

COMNECK_API int32_t comneck_plan_create(comneck_context *context, comneck_plan **plan);

/* Steps added from here on belong to a new stage of the timings, whose number is returned. */
COMNECK_API int32_t comneck_plan_stage(comneck_plan *plan, int32_t *stage);

/* What the host does with a port: writes it before an execution, reads it afterwards, or both. */
enum { COMNECK_INPUT = 1, COMNECK_OUTPUT = 2 };

/* Before sealing: the host needs these bytes of the plan's memory. offset_bytes: as in the buffer's views. */
COMNECK_API int32_t comneck_plan_port(comneck_plan *plan, int64_t offset_bytes, int64_t bytes, int32_t direction);

/* Of a sealed plan: where the host writes and reads a port. Owned by the plan. */
COMNECK_API int32_t comneck_plan_port_memory(const comneck_plan *plan, int64_t offset_bytes, void **memory);

/*
 * Allocates memory_bytes for the buffers (all views that were added must lie inside) and what the steps need besides.
 * No step can be added afterwards. *memory is 64-byte aligned, zero-filled, and owned by the plan; NULL where it is a
 * device's, which the host reaches through ports only.
 */
COMNECK_API int32_t comneck_plan_seal(comneck_plan *plan, int64_t memory_bytes, void **memory);

/* Bytes that a sealed plan owns: buffers and scratch. */
COMNECK_API int32_t comneck_plan_bytes(const comneck_plan *plan, int64_t *bytes);

/* Executes all steps. Plans of one context take turns. */
COMNECK_API int32_t comneck_plan_execute(comneck_plan *plan);

/* Nanoseconds that each stage took in the last execution, the first count ones; only as many as exist are written. */
COMNECK_API int32_t comneck_plan_nanos(const comneck_plan *plan, int64_t *nanos, int64_t count);

COMNECK_API void comneck_plan_destroy(comneck_plan *plan);

/* ------------------------------------------------------------------------------- steps: see
 * org.comneck.backend.RunBuilder. COMNECK_MISUSE when a view that is read overlaps the one that is written, unless it is the same view and the
 * step goes element by element or row by row: residuals, gate, add, scale, copy, LayerNorm. */

/*
 * destination = function(bias + sum of source * weight [+ residual]). sources are concatenated along channels; one with
 * channel_stride 0 is absent: its weights are skipped. sources F32 (or BF16 for a BF16 layer), residual (NULL: none)
 * and destination F32 or BF16.
 */
COMNECK_API int32_t comneck_plan_convolution(comneck_plan *plan, const comneck_layer *layer,
                                             const comneck_view *sources, int32_t source_count,
                                             const comneck_view *residual, int32_t function,
                                             const comneck_view *destination);

/* destination = fma(a, sigmoid(b), x). F32. */
COMNECK_API int32_t comneck_plan_gate(comneck_plan *plan, const comneck_view *a, const comneck_view *b,
                                      const comneck_view *x, const comneck_view *destination);

/* destination = a + b. F32. */
COMNECK_API int32_t comneck_plan_add(comneck_plan *plan, const comneck_view *a, const comneck_view *b,
                                     const comneck_view *destination);

/* destination[n,p,c] = source[n,p,c] * gains[n,c]; gains has one position. F32. */
COMNECK_API int32_t comneck_plan_scale(comneck_plan *plan, const comneck_view *source, const comneck_view *gains,
                                       const comneck_view *destination);

/* Copies; the same type on both sides, or F32 to BF16 or back. */
COMNECK_API int32_t comneck_plan_copy(comneck_plan *plan, const comneck_view *source, const comneck_view *destination);

/* LayerNorm over channels; weight and bias: F32, as many as channels, copied. source and destination F32 or BF16. */
COMNECK_API int32_t comneck_plan_layer_norm(comneck_plan *plan, const comneck_view *source, const float *weight,
                                            int64_t weight_bytes, const float *bias, int64_t bias_bytes, float epsilon,
                                            const comneck_view *destination);

/* Multi-head self-attention: qkv (B,N,3C) -> destination (B,N,C). F32 or BF16. */
COMNECK_API int32_t comneck_plan_attention(comneck_plan *plan, const comneck_view *qkv, int32_t heads,
                                           const comneck_view *destination);

/* Class token (NULL: none) and position table, F32, copied: see RunBuilder.embed. */
COMNECK_API int32_t comneck_plan_embed(comneck_plan *plan, const comneck_view *source, const float *class_token,
                                       int64_t class_token_bytes, const float *positions, int64_t positions_bytes,
                                       const comneck_view *destination);

/* Copies tokens first .. first + destination's positions of each image. */
COMNECK_API int32_t comneck_plan_select_tokens(comneck_plan *plan, const comneck_view *source, int32_t first,
                                               const comneck_view *destination);

/* U8 to F32: (x / 255 - mean[c]) / deviation[c]; mean and deviation: as many as channels, copied. */
COMNECK_API int32_t comneck_plan_normalize(comneck_plan *plan, const comneck_view *pixels, const float *mean,
                                           int64_t mean_bytes, const float *deviation, int64_t deviation_bytes,
                                           const comneck_view *destination);

/* F32 to U8: floor(clamp(x, 0, 1) * 255 + 0.5). */
COMNECK_API int32_t comneck_plan_to_pixels(comneck_plan *plan, const comneck_view *source, const comneck_view *pixels);

/*
 * Resamples U8 pictures (full grids, one batch, as many channels) along one axis: rows 0 gives rows another width, 1 gives another
 * height. Each element of the destination along it is
 *   clamp((2^21 + sum over k < count of source[first + k] * weight[k]) >> 22, 0, 255)
 * in 32-bit integers, which must hold the sum for any bytes. taps, copied: for each of these elements first, count, then weights,
 * as many for each.
 */
COMNECK_API int32_t comneck_plan_resample(comneck_plan *plan, const comneck_view *pixels, int32_t rows, const int32_t *taps,
                                          int64_t taps_bytes, const comneck_view *destination);

/*
 * Gaussian conditional, encoder side, for the positions of the parameters' half grid: parameters F32 with 2C channels,
 * means then scales; y and y_hat F32, full grid, C channels; symbols I16 and indices U8, the parameters' grid, C
 * channels. thresholds: F32, ascending.
 */
COMNECK_API int32_t comneck_plan_quantize_gaussian(comneck_plan *plan, const comneck_view *y,
                                                   const comneck_view *parameters, const float *thresholds,
                                                   int64_t thresholds_bytes, const comneck_view *indices,
                                                   const comneck_view *symbols, const comneck_view *y_hat);

/* Factorized prior, encoder side: z and z_hat F32, symbols I16; medians F32, one for each channel. */
COMNECK_API int32_t comneck_plan_quantize_factorized(comneck_plan *plan, const comneck_view *z, const float *medians,
                                                     int64_t medians_bytes, const comneck_view *symbols,
                                                     const comneck_view *z_hat);

/* Declares one payload for each image; begins with them. Once in a plan, before the steps that decode. */
COMNECK_API int32_t comneck_plan_payloads(comneck_plan *plan, int32_t images);

/* Next pass of each payload; the tables must outlive the plan. Where a payload is damaged, symbols are 0. */
COMNECK_API int32_t comneck_plan_decode_factorized(comneck_plan *plan, const comneck_tables *tables,
                                                   const float *medians, int64_t medians_bytes,
                                                   const comneck_view *symbols, const comneck_view *z_hat);
COMNECK_API int32_t comneck_plan_decode_gaussian(comneck_plan *plan, const comneck_tables *tables,
                                                 const comneck_view *parameters, const float *thresholds,
                                                 int64_t thresholds_bytes, const comneck_view *symbols,
                                                 const comneck_view *y_hat);

/* After the last pass: everything must be consumed, and the symbols must have the checksum that came with the payload.
 */
COMNECK_API int32_t comneck_plan_finish_payloads(comneck_plan *plan);

/* Hands over an image's payload for the next execution; copied. Any bytes are allowed. */
COMNECK_API int32_t comneck_plan_payload(comneck_plan *plan, int32_t image, const void *payload, int64_t payload_bytes,
                                         int32_t symbol_checksum);

/* What was wrong with an image's payload in the last execution, "" for nothing, and at which byte, -1 for none. */
COMNECK_API int32_t comneck_plan_damage(const comneck_plan *plan, int32_t image, char *text, int64_t text_bytes,
                                        int64_t *offset);

/*
 * Encodes the symbols of pass_count passes, in the order in which a decoder will ask for them: one payload for each
 * image. Once in a plan, after the steps that write them. Of pass p: tables[p], which must outlive the plan; symbols[p],
 * I16, and indices[p], U8 of the same shape, all channels of their buffers, in coding order; indices[p] with
 * channel_stride 0 is absent: symbols of channel c have table c. substreams: as in comneck_rans_encode.
 */
COMNECK_API int32_t comneck_plan_encode(comneck_plan *plan, const comneck_tables *const *tables,
                                        const comneck_view *symbols, const comneck_view *indices, int32_t pass_count,
                                        int32_t substreams);

/*
 * What the last execution made of an image, valid until the next one. COMNECK_MISUSE when an index had no table, or
 * when the last execution failed; other images are unharmed by the first.
 */
COMNECK_API int32_t comneck_plan_encoded(const comneck_plan *plan, int32_t image, const void **payload,
                                         int64_t *payload_bytes, int32_t *symbol_checksum);

/* ---------------------------------------------------------------------------------------------------------------- rANS
 */

/*
 * Packs coding tables (org.comneck.backend.CodingTables): shift, first and count have one entry a table; frequency has
 * rows of 256, of which count + 1 are used.
 */
COMNECK_API int32_t comneck_tables_create(int32_t tables, const int32_t *shift, int64_t shift_bytes,
                                          const int32_t *first, int64_t first_bytes, const int32_t *count,
                                          int64_t count_bytes, const int32_t *frequency, int64_t frequency_bytes,
                                          comneck_tables **out);

COMNECK_API void comneck_tables_destroy(comneck_tables *tables);

/* The context must outlive the encoder. */
COMNECK_API int32_t comneck_rans_encoder_create(const comneck_context *context, comneck_rans_encoder **encoder);

/*
 * Encodes all passes of one image, in decoding order. substreams: 1 to 32, or 0 for one in about 2 KiB. *payload
 * (docs/format.md) is valid until the encoder's next call.
 */
COMNECK_API int32_t comneck_rans_encode(comneck_rans_encoder *encoder, const comneck_rans_pass *passes,
                                        int64_t passes_bytes, int32_t substreams, const void **payload,
                                        int64_t *payload_bytes, int32_t *symbol_checksum);

COMNECK_API void comneck_rans_encoder_destroy(comneck_rans_encoder *encoder);

/* A decoder for use without a plan, with the context's instruction set. */
COMNECK_API int32_t comneck_rans_decoder_create(const comneck_context *context, comneck_rans_decoder **decoder);

/* Begins with a payload; copied. COMNECK_DAMAGED: see comneck_rans_damage. */
COMNECK_API int32_t comneck_rans_start(comneck_rans_decoder *decoder, const void *payload, int64_t payload_bytes);

/* The next pass: as many symbols as indices. Zeros with COMNECK_DAMAGED. */
COMNECK_API int32_t comneck_rans_decode(comneck_rans_decoder *decoder, const comneck_tables *tables,
                                        const uint8_t *indices, int64_t indices_bytes, int16_t *symbols,
                                        int64_t symbols_bytes);

/* After the last pass: everything must be consumed, and the symbols must have this checksum. */
COMNECK_API int32_t comneck_rans_finish(comneck_rans_decoder *decoder, int32_t symbol_checksum);

/* What was wrong, "" for nothing, and at which byte of the payload, -1 for none. */
COMNECK_API int32_t comneck_rans_damage(const comneck_rans_decoder *decoder, char *text, int64_t text_bytes,
                                        int64_t *offset);

COMNECK_API void comneck_rans_decoder_destroy(comneck_rans_decoder *decoder);

#ifdef __cplusplus
}
#endif

#endif

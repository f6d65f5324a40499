/* test_names.c - every family of names becomes ours, and ours become the original ones again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/names.h"

static void is(const char *stored, int n_levels, const char *ours)
{
    struct names n;
    names_of(stored, n_levels, &n);
    assert_int_equal(n.n, 1);
    assert_string_equal(n.name[0], ours);
}

static void original_dit_names(void **state)
{
    struct names n;
    (void)state;
    is("x_embedder.weight", 0, "all_x_embedder.2-1.weight");
    is("model.diffusion_model.final_layer.adaLN_modulation.1.bias", 0, "all_final_layer.2-1.adaLN_modulation.1.bias");
    is("layers.29.attention.out.weight", 0, "layers.29.attention.to_out.0.weight");
    is("diffusion_model.noise_refiner.0.attention.q_norm.weight", 0, "noise_refiner.0.attention.norm_q.weight");
    is("context_refiner.1.attention.k_norm.weight", 0, "context_refiner.1.attention.norm_k.weight");
    is("layers.3.feed_forward.w1.weight", 0, "layers.3.feed_forward.w1.weight");
    is("layers.3.attention.to_out.0.weight", 0, "layers.3.attention.to_out.0.weight");
    is("norm_final.weight", 0, "norm_final.weight");
    is("layers.3.attention.qkv.scale_weight", 0, "layers.3.attention.qkv.scale_weight");
    names_of("model.diffusion_model.layers.7.attention.qkv.weight", 0, &n);
    assert_int_equal(n.n, 3);
    assert_string_equal(n.name[0], "layers.7.attention.to_q.weight");
    assert_string_equal(n.name[1], "layers.7.attention.to_k.weight");
    assert_string_equal(n.name[2], "layers.7.attention.to_v.weight");
}

static void vae_names(void **state)
{
    (void)state;
    assert_int_equal(names_levels("decoder.up.3.block.0.conv1.weight"), 4);
    assert_int_equal(names_levels("first_stage_model.decoder.up.1.upsample.conv.bias"), 2);
    assert_int_equal(names_levels("decoder.up_blocks.3.resnets.0.conv1.weight"), 0);
    is("decoder.up.3.block.0.nin_shortcut.weight", 4, "decoder.up_blocks.0.resnets.0.conv_shortcut.weight");
    is("decoder.up.0.block.2.norm1.bias", 4, "decoder.up_blocks.3.resnets.2.norm1.bias");
    is("vae.decoder.up.1.upsample.conv.weight", 4, "decoder.up_blocks.2.upsamplers.0.conv.weight");
    is("decoder.up.9.block.0.conv1.weight", 4, "decoder.up.9.block.0.conv1.weight"); /* no such level: left alone */
    is("encoder.down.2.downsample.conv.bias", 4, "encoder.down_blocks.2.downsamplers.0.conv.bias");
    is("decoder.mid.block_1.conv1.weight", 4, "decoder.mid_block.resnets.0.conv1.weight");
    is("decoder.mid.attn_1.norm.weight", 4, "decoder.mid_block.attentions.0.group_norm.weight");
    is("decoder.mid.attn_1.proj_out.bias", 4, "decoder.mid_block.attentions.0.to_out.0.bias");
    is("decoder.norm_out.weight", 4, "decoder.conv_norm_out.weight");
    is("decoder.conv_norm_out.weight", 4, "decoder.conv_norm_out.weight");
    is("decoder.conv_in.weight", 4, "decoder.conv_in.weight");
    is("decoder.mid_block.attentions.0.query.weight", 0, "decoder.mid_block.attentions.0.to_q.weight");
    is("decoder.mid_block.attentions.0.proj_attn.bias", 0, "decoder.mid_block.attentions.0.to_out.0.bias");
    is("decoder.mid_block.attentions.0.group_norm.bias", 0, "decoder.mid_block.attentions.0.group_norm.bias");
}

static void text_names(void **state)
{
    (void)state;
    is("token_embd.weight", 0, "embed_tokens.weight");
    is("output_norm.weight", 0, "norm.weight");
    is("blk.35.attn_q_norm.weight", 0, "layers.35.self_attn.q_norm.weight");
    is("blk.0.attn_q.weight", 0, "layers.0.self_attn.q_proj.weight");
    is("blk.0.ffn_norm.weight", 0, "layers.0.post_attention_layernorm.weight");
    is("blk.0.unknown.weight", 0, "blk.0.unknown.weight");
    is("blk.x.attn_q.weight", 0, "blk.x.attn_q.weight");
    is("model.layers.0.self_attn.q_proj.weight", 0, "model.layers.0.self_attn.q_proj.weight"); /* the prefix is weights.h's */
    is("text_encoders.qwen3_4b.transformer.model.norm.weight", 0, "model.norm.weight");
}

static void back_to_the_original(void **state)
{
    static const struct { const char *ours; bool llama; const char *original; int part; } row[] = {
        { "all_x_embedder.2-1.bias", false, "x_embedder.bias", -1 },
        { "all_final_layer.2-1.linear.weight", false, "final_layer.linear.weight", -1 },
        { "layers.2.attention.to_out.0.weight", false, "layers.2.attention.out.weight", -1 },
        { "layers.2.attention.norm_k.weight", false, "layers.2.attention.k_norm.weight", -1 },
        { "layers.2.attention.to_v.weight", false, "layers.2.attention.qkv.weight", 2 },
        { "layers.4.mlp.down_proj.weight", true, "blk.4.ffn_down.weight", -1 },
        { "model.layers.4.self_attn.o_proj.weight", true, "blk.4.attn_output.weight", -1 },
        { "model.embed_tokens.weight", true, "token_embd.weight", -1 },
        { "norm.weight", true, "output_norm.weight", -1 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char original[NAMES_BYTES];
        int  part = 9;
        assert_true(names_original(row[i].ours, row[i].llama, original, &part));
        assert_string_equal(original, row[i].original);
        assert_int_equal(part, row[i].part);
        struct names n;
        names_of(original, 0, &n);
        const char *ours = row[i].ours + (strncmp(row[i].ours, "model.", 6) == 0 ? 6 : 0);
        assert_string_equal(n.name[part < 0 ? 0 : part], ours);
    }
    char original[NAMES_BYTES];
    int  part;
    assert_false(names_original("x_pad_token", false, original, &part));
}

static void long_names_fit(void **state)
{
    char         name[256];
    struct names n;
    (void)state;
    memset(name, 'a', 255);
    name[255] = 0;
    memcpy(name + 100, ".attention.qkv.", 15);
    memcpy(name + 244, ".qkv.weight", 11);
    names_of(name, 0, &n);
    assert_int_equal(n.n, 3);
    memcpy(name, "decoder.up.0.block.0.nin_shortcut.", 34);
    names_of(name, 60000, &n);
    memset(name, 'a', 255);
    memcpy(name, "decoder.mid.attn_1.proj_out.", 28);
    names_of(name, 4, &n);
    assert_int_equal(strncmp(n.name[0], "decoder.mid_block.", 18), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(original_dit_names),   cmocka_unit_test(vae_names),      cmocka_unit_test(text_names),
        cmocka_unit_test(back_to_the_original), cmocka_unit_test(long_names_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Every way of getting a config wrong must end in one line that says where, what, and what would
// fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/runtime/config/config_testing.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

struct BadText {
  const char* label;
  const char* from;  // of the small config, replaced ...
  const char* to;    // ... by this
  const char* where;
  const char* message;
};

void PrintTo(const BadText& bad, std::ostream* out) { *out << bad.label; }

class BadTextTest : public ::testing::TestWithParam<BadText> {};

TEST_P(BadTextTest, IsRefusedWhereItStands) {
  const BadText& bad = GetParam();
  const Error error =
      Caught([&] { ValidateConfig(ParseText(Edited(bad.from, bad.to)), std::nullopt); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_EQ(error.exit_status(), kExitUsage);
  EXPECT_EQ(error.where(), bad.where);
  EXPECT_THAT(error.message(), HasSubstr(bad.message));
  EXPECT_EQ(error.message().find('\n'), std::string::npos) << error.message();
}

std::string Label(const ::testing::TestParamInfo<BadText>& info) { return info.param.label; }

const char* const kHeads = "  num_attention_heads: 12";
const char* const kLayers = "  num_layers: 4";
const char* const kMicro = "  micro_batch_size: 2";
const char* const kLr = "  lr: 0.001";
const char* const kTrain = "train {";

INSTANTIATE_TEST_SUITE_P(
    Syntax, BadTextTest,
    ::testing::Values(
        BadText{"MistypedField", kLayers, "  num_layer: 4", "job.textproto:2:3",
                "section model has no field `num_layer`; did you mean `num_layers`?"},
        BadText{"MistypedFieldAfterTab", kLayers, "\tnum_layer: 4", "job.textproto:2:2",
                "did you mean `num_layers`?"},
        BadText{"MistypedFieldColonOnNextLine", kLayers, "  num_layer\n  : 4", "job.textproto:2:3",
                "did you mean `num_layers`?"},
        BadText{"SwappedLetters", "hidden_size", "hiddne_size", "job.textproto:3:3",
                "did you mean `hidden_size`?"},
        BadText{"MistypedSection", "optimizer {", "optimiser {", "job.textproto:13:1",
                "the config has no field `optimiser`; did you mean `optimizer`?"},
        BadText{"FieldOfAnotherSection", kMicro, "  lr: 1", "job.textproto:9:3",
                "`lr` belongs to section optimizer"},
        BadText{"FieldOutsideItsSection", kTrain, "seed: 1 train {", "job.textproto:8:1",
                "`seed` belongs to section train"},
        BadText{"TopFieldInSection", kMicro, "  run_dir: 'x'", "job.textproto:9:3",
                "`run_dir` belongs outside the sections"},
        BadText{"MistypedFieldOfAnotherSection", kMicro, "  weight_decy: 1", "job.textproto:9:3",
                "did you mean `optimizer.weight_decay`?"},
        BadText{"SectionInSection", "  lr: 0.001", "  log { }", "job.textproto:14:3",
                "section `log` cannot stand inside section optimizer"},
        BadText{"FieldNamedAsItsSection", kMicro, "  optimizer: 'adamw'", "job.textproto:9:3",
                "`optimizer` belongs to section optimizer"},
        BadText{"NothingLikeIt", kLayers, "  qqqqqq: 4", "job.textproto:2:3",
                "section model has no field `qqqqqq`"},
        BadText{"FieldTwice", kLayers, "  num_layers: 4\n  num_layers: 4", "job.textproto:3:3",
                "`num_layers` is given twice"},
        BadText{"SectionTwice", kTrain, "model { }\ntrain {", "job.textproto:8:1",
                "`model` is given twice"},
        BadText{"WordForInteger", kLayers, "  num_layers: four", "job.textproto:2:15",
                "Expected integer"},
        BadText{"StringForInteger", kLayers, "  num_layers: '4'", "job.textproto:2:15",
                "Expected integer"},
        BadText{"FractionForInteger", kLayers, "  num_layers: 4.5", "job.textproto:2:15",
                "Expected integer"},
        BadText{"IntegerTooLarge", kLayers, "  num_layers: 3000000000", "job.textproto:2:15",
                "Integer out of range"},
        BadText{"IntegerFarTooLarge", "train_iters: 100",
                "train_iters: 123456789012345678901234567890", "job.textproto:11:16",
                "Integer out of range"},
        BadText{"OctalInteger", kLayers, "  num_layers: 010", "job.textproto:2:15",
                "`010` would be read as an octal number"},
        BadText{"WordForBool", kMicro, "  deterministic: yes", "job.textproto:9:18",
                "deterministic takes true or false, not `yes`"},
        BadText{"WordForString", kMicro, "  precision: bf16", "job.textproto:9:14",
                "Expected string"},
        BadText{"NoValue", kLr, "  lr:", "job.textproto:15:1", "Expected double"},
        BadText{"NoColon", kLr, "  lr 0.001", "job.textproto:14:6", "Expected \":\""},
        BadText{"UnclosedString", kMicro, "  precision: \"bf16", "job.textproto:9:19",
                "String literals cannot cross line boundaries"},
        BadText{"UnclosedSection", "  lr: 0.001\n}", "  lr: 0.001", "job.textproto:15:1",
                "the text ends inside a field or section"},
        BadText{"UnclosedMiddleSection", "  train_iters: 100\n}", "  train_iters: 100",
                "job.textproto:12:1", "section `optimizer` cannot stand inside section train"},
        BadText{"StrayBrace", "  lr: 0.001\n}", "  lr: 0.001\n}}", "job.textproto:15:2",
                "Expected identifier"},
        BadText{"FieldNumber", kLayers, "  2: 4", "job.textproto:2:3", "Expected identifier"},
        BadText{"Extension", kLayers, "  [cairn.rule]: 4", "job.textproto:2:15", "Extension"},
        BadText{"CStyleComment", kLayers, "  // four\n  num_layers: 4", "job.textproto:2:3",
                "Expected identifier"}),
    Label);

INSTANTIATE_TEST_SUITE_P(
    OneValue, BadTextTest,
    ::testing::Values(
        BadText{"Zero", kLayers, "  num_layers: 0", "job.textproto:2:3",
                "num_layers 0 is out of range; it must be at least 1 and at most 1048576"},
        BadText{"Negative", kMicro, "  micro_batch_size: -2", "job.textproto:9:3",
                "micro_batch_size -2 is out of range; it must be at least 1"},
        BadText{"TooLarge", "hidden_size: 96", "hidden_size: 1073741825", "job.textproto:3:3",
                "at most 1073741824"},
        BadText{"CertainDropout", kLayers, "  num_layers: 4 hidden_dropout: 1",
                "job.textproto:2:17",
                "hidden_dropout 1 is out of range; it must be at least 0 "
                "and below 1"},
        BadText{"BetaOne", kLr, "  lr: 1 adam_beta2: 1.0", "job.textproto:14:9",
                "adam_beta2 1 is out of range"},
        BadText{"NegativeDecay", kLr, "  lr: 1 weight_decay: -0.1", "job.textproto:14:9",
                "weight_decay -0.1 is out of range; it must be at least 0"},
        BadText{"ZeroLr", kLr, "  lr: 0", "job.textproto:14:3",
                "lr 0 is out of range; it must be above 0"},
        BadText{"NanLr", kLr, "  lr: nan", "job.textproto:14:3", "lr nan is out of range"},
        BadText{"InfiniteLr", kLr, "  lr: inf", "job.textproto:14:3", "lr inf is out of range"},
        BadText{"OverflowingLr", kLr, "  lr: 1e999", "job.textproto:14:3",
                "lr inf is out of range"},
        BadText{"NegativeSeed", kMicro, "  seed: -1", "job.textproto:9:3",
                "seed -1 is out of range; it must be at least 0"},
        BadText{"MistypedChoice", kMicro, "  precision: 'bf61'", "job.textproto:9:3",
                "`bf61` is no precision; did you mean `bf16`? (choices: fp32, bf16, fp16)"},
        BadText{"UnknownChoice", kLr, "  lr: 1 lr_decay_style: 'step'", "job.textproto:14:9",
                "choices: constant, linear, cosine, inverse_square_root, wsd"},
        BadText{"EmptyChoice", kMicro, "  precision: ''", "job.textproto:9:3",
                "`` is no precision (choices: fp32"},
        BadText{"PlannedSchedule", kTrain, "parallel { pipeline_schedule: 'zb_h1' }\ntrain {",
                "job.textproto:8:12",
                "pipeline_schedule zb_h1 is not available in this build; what works now: gpipe, "
                "1f1b"},
        BadText{"PlannedSharding", kTrain,
                "parallel {\n data_parallel_sharding_strategy: 'optim_grads'\n}\ntrain {",
                "job.textproto:9:2", "what works now: no_shard, optim"},
        BadText{"UnknownDevice", kMicro, "  device: 'gpu'", "job.textproto:9:3",
                "choices: auto, cpu, cuda"},
        BadText{"VirtualStages", kTrain,
                "parallel { virtual_pipeline_model_parallel_size: 2 }\ntrain {",
                "job.textproto:8:12", "not available in this build; what works now: 1"},
        BadText{"ContextParallel", kTrain, "parallel { context_parallel_size: 2 }\ntrain {",
                "job.textproto:8:12", "context_parallel_size 2 is not available"},
        BadText{"ExpertParallel", kTrain, "parallel { expert_model_parallel_size: 2 }\ntrain {",
                "job.textproto:8:12", "expert_model_parallel_size 2 is not available"},
        BadText{"NegativeRetention", kTrain, "checkpoint { save_retain_interval: -1 }\ntrain {",
                "job.textproto:8:14", "save_retain_interval -1 is out of range"},
        BadText{"RewindWithoutSaves", kMicro, "  loss_anomaly_policy: 'rewind'",
                "job.textproto:9:3",
                "loss_anomaly_policy rewind needs checkpoints to go back to, and save_interval is "
                "0"},
        BadText{
            "RewindToWhatIsRemoved", kTrain,
            "checkpoint { save_interval: 50 keep: 2 }\ntrain {\n  loss_anomaly_policy: "
            "'rewind'\n",
            "job.textproto:8:32",
            "keep 2 removes what rewind_iters 100 goes back to with save_interval 50; keep must "
            "be at least 3, or 0"},
        BadText{"NulInPath", kTrain, "run_dir: 'a\\000b' train {", "job.textproto:8:1",
                "run_dir `a\\x00b` is not one line of UTF-8 text"},
        BadText{"NewlineInPath", kTrain, "run_dir: 'a\\nb' train {", "job.textproto:8:1",
                "`a\\x0ab`"},
        BadText{"BadUtf8InPath", kTrain, "data { data_path: 'a\\xff' } train {",
                "job.textproto:8:8", "`a\\xff`"},
        BadText{"LayersMissing", kLayers, "", "model.num_layers",
                "is not set, and has no default (job.textproto)"},
        BadText{"LrMissing", kLr, "", "optimizer.lr", "is not set"},
        BadText{"VocabularyMissing", "  vocab_size: 1000", "", "model.vocab_size",
                "neither is data.tokenizer"}),
    Label);

INSTANTIATE_TEST_SUITE_P(
    ValuesTogether, BadTextTest,
    ::testing::Values(
        BadText{"HeadsAndHidden", kHeads, "  num_attention_heads: 11", "job.textproto:4:3",
                "hidden_size 96 is not divisible by num_attention_heads 11; heads that fit: 1, 2, "
                "3, 4, 6, 8, 12, 16, 24, 32, 48, 96"},
        BadText{"HeadsAndGroups", kHeads, "  num_attention_heads: 12 num_query_groups: 5",
                "job.textproto:4:27", "num_query_groups 5; groups that fit: 1, 2, 3, 4, 6, 12"},
        BadText{"HeadsAndTensorParallel", kTrain,
                "parallel { tensor_model_parallel_size: 5 }\ntrain {", "job.textproto:8:12",
                "num_attention_heads 12 is not divisible by tensor_model_parallel_size 5; sizes "
                "that fit: 1, 2, 3, 4, 6, 12"},
        BadText{"Positions", "seq_length: 32", "seq_length: 32 max_position_embeddings: 31",
                "job.textproto:5:18", "seq_length 32 is longer than max_position_embeddings 31"},
        BadText{"StagesWithoutLayers", kTrain,
                "parallel { pipeline_model_parallel_size: 5 }\ntrain {", "job.textproto:8:12",
                "for num_layers is 4; sizes that fit: 1 to 4"},
        BadText{"MicroAndGlobalBatch", kMicro, "  micro_batch_size: 7", "job.textproto:10:3",
                "global_batch_size 24 is not a multiple of micro_batch_size 7; sizes that fit: 21 "
                "or 28"},
        BadText{"MicroAboveGlobalBatch", kMicro, "  micro_batch_size: 25", "job.textproto:10:3",
                "sizes that fit: 25"},
        BadText{"EvaluationOfNothing", kMicro, "  eval_interval: 5 eval_iters: 0",
                "job.textproto:9:20", "it must be at least 1, or eval_interval 0"},
        BadText{"MinLrAboveLr", kLr, "  lr: 0.001 min_lr: 0.01", "job.textproto:14:13",
                "min_lr 0.01 is above lr 0.001"},
        BadText{"WarmupBeyondRun", kLr, "  lr: 1 lr_warmup_iters: 101", "job.textproto:14:9",
                "lr_warmup_iters 101 is longer than train_iters 100"},
        BadText{"WarmupBeyondDecay", kLr, "  lr: 1 lr_decay_iters: 50 lr_warmup_iters: 51",
                "job.textproto:14:28", "lr_warmup_iters 51 is longer than lr_decay_iters 50"},
        BadText{"WsdWithoutItsDecay", kLr, "  lr: 1 lr_decay_style: 'wsd'", "job.textproto:14:9",
                "lr_decay_style wsd needs wsd_decay_iters: 1 to 100"},
        BadText{"WsdDecayTooLong", kLr,
                "  lr: 1 lr_decay_style: 'wsd' lr_warmup_iters: 50 wsd_decay_iters: 51",
                "job.textproto:14:51", "longer than the 50 iterations after the warm-up"},
        BadText{"WsdDecayUnread", kLr, "  lr: 1 wsd_decay_iters: 5", "job.textproto:14:9",
                "only lr_decay_style wsd reads wsd_decay_iters, and it is cosine"},
        BadText{"LossScaleUnread", kLr, "  lr: 1 loss_scale: 1024", "job.textproto:14:9",
                "only precision fp16 scales the loss, and it is fp32"},
        BadText{"LossScales", kLr, "  lr: 1 initial_loss_scale: 4 min_loss_scale: 8",
                "job.textproto:14:31", "min_loss_scale 8 is above initial_loss_scale 4"},
        BadText{"RetainedAmongAll", kTrain, "checkpoint { save_retain_interval: 100 }\ntrain {",
                "job.textproto:8:14",
                "save_retain_interval 100 has no use while keep 0 keeps all checkpoints"},
        BadText{"RetainedBetweenSaves", kTrain,
                "checkpoint { keep: 2 save_interval: 40 save_retain_interval: 100 }\ntrain {",
                "job.textproto:8:40",
                "save_retain_interval 100 is not a multiple of save_interval 40; sizes that fit: "
                "80 or 120"},
        BadText{"TwoDatasets", kTrain, "data { data_path: ['a', 'b'] }\ntrain {",
                "job.textproto:8:8", "blending 2 datasets is not available"},
        BadText{"SplitOfFour", kTrain, "data { split: '1,1,1,1' }\ntrain {", "job.textproto:8:8",
                "split `1,1,1,1` has more than three shares"},
        BadText{"SplitOfWords", kTrain, "data { split: 'all' }\ntrain {", "job.textproto:8:8",
                "is no number from 0"},
        BadText{"SplitEmpty", kTrain, "data { split: '' }\ntrain {", "job.textproto:8:8",
                "such as 969,30,1"},
        BadText{"SplitTrailingComma", kTrain, "data { split: '9,1,' }\ntrain {",
                "job.textproto:8:8", "is no number from 0"},
        BadText{"SplitNegative", kTrain, "data { split: '9,-1' }\ntrain {", "job.textproto:8:8",
                "is no number from 0"},
        BadText{"SplitNan", kTrain, "data { split: 'nan' }\ntrain {", "job.textproto:8:8",
                "is no number from 0"},
        BadText{"SplitWithoutTraining", kTrain, "data { split: '0,1' }\ntrain {",
                "job.textproto:8:8", "leaves nothing for training"},
        BadText{"ModelTooLarge", "hidden_size: 96", "hidden_size: 1073741820", "job.textproto:3:3",
                "parameters; its sizes must keep them below"},
        BadText{"ActivationTooLarge", "seq_length: 32", "seq_length: 1073741824",
                "job.textproto:9:3", "one activation would have"},
        BadText{"RunTooLong", "24\n  train_iters: 100", "1073741824 train_iters: 1099511627776",
                "job.textproto:10:33", "the run would take"}),
    Label);

struct BadFlags {
  const char* label;
  std::vector<std::string> arguments;
  std::optional<int> world_size;
  ErrorKind kind;
  const char* where;
  const char* message;
};

void PrintTo(const BadFlags& bad, std::ostream* out) { *out << bad.label; }

class BadFlagsTest : public ::testing::TestWithParam<BadFlags> {};

TEST_P(BadFlagsTest, IsRefusedByName) {
  const BadFlags& bad = GetParam();
  const Error error =
      Caught([&] { ValidateConfig(ParseText(SmallConfig(), bad.arguments), bad.world_size); });
  EXPECT_EQ(error.kind(), bad.kind);
  EXPECT_EQ(error.exit_status(), kExitUsage);
  EXPECT_EQ(error.where(), bad.where);
  EXPECT_THAT(error.message(), HasSubstr(bad.message));
}

INSTANTIATE_TEST_SUITE_P(
    CommandLine, BadFlagsTest,
    ::testing::Values(
        BadFlags{"Mistyped",
                 {"--tensor-model-paralel-size", "2"},
                 {},
                 ErrorKind::kUsage,
                 "command line: --tensor-model-paralel-size",
                 "did you mean `tensor_model_parallel_size`?"},
        BadFlags{"Shortened",
                 {"--tensor-parallel-size=2"},
                 {},
                 ErrorKind::kUsage,
                 "command line: --tensor-parallel-size=2",
                 "did you mean `tensor_model_parallel_size`?"},
        BadFlags{"MistypedPath",
                 {"modl.num_layers=2"},
                 {},
                 ErrorKind::kUsage,
                 "command line: modl.num_layers=2",
                 "`num_layers` belongs to section model"},
        BadFlags{"WrongSection",
                 {"train.lr=2"},
                 {},
                 ErrorKind::kUsage,
                 "command line: train.lr=2",
                 "`lr` belongs to section optimizer: `optimizer.lr`"},
        BadFlags{"MistypedPathField",
                 {"model.num_layer=2"},
                 {},
                 ErrorKind::kUsage,
                 "command line: model.num_layer=2",
                 "did you mean `model.num_layers`?"},
        BadFlags{"Section",
                 {"model=2"},
                 {},
                 ErrorKind::kUsage,
                 "command line: model=2",
                 "no option or config field is called `model`"},
        BadFlags{"ValueMissing",
                 {"--num-layers"},
                 {},
                 ErrorKind::kUsage,
                 "command line: --num-layers",
                 "needs a value: `--num-layers VALUE`"},
        BadFlags{"FlagForValue",
                 {"--num-layers", "--seed", "1"},
                 {},
                 ErrorKind::kUsage,
                 "command line: --num-layers",
                 "needs a value"},
        BadFlags{"Positional",
                 {"two"},
                 {},
                 ErrorKind::kUsage,
                 "command line: two",
                 "is not an override; write `section.field=value`"},
        BadFlags{"OneDash",
                 {"-lr=1"},
                 {},
                 ErrorKind::kUsage,
                 "command line: -lr=1",
                 "is not an override"},
        BadFlags{
            "EmptyName", {"=1"}, {}, ErrorKind::kUsage, "command line: =1", "is not an override"},
        BadFlags{"DashesOnly",
                 {"--"},
                 {},
                 ErrorKind::kUsage,
                 "command line: --",
                 "no option or config field is called ``"},
        BadFlags{"NegatedNumber",
                 {"--no-lr"},
                 {},
                 ErrorKind::kUsage,
                 "command line: --no-lr",
                 "`lr` is not a switch"},
        BadFlags{"NegationWithValue",
                 {"--no-deterministic=true"},
                 {},
                 ErrorKind::kUsage,
                 "command line: --no-deterministic=true",
                 "takes no value"},
        BadFlags{"WordForInteger",
                 {"--num-layers", "four"},
                 {},
                 ErrorKind::kConfig,
                 "command line: --num-layers four",
                 "num_layers takes an integer, not `four`"},
        BadFlags{"FractionForInteger",
                 {"num_layers=4.0"},
                 {},
                 ErrorKind::kConfig,
                 "command line: num_layers=4.0",
                 "takes an integer, not `4.0`"},
        BadFlags{"EmptyInteger",
                 {"num_layers="},
                 {},
                 ErrorKind::kConfig,
                 "command line: num_layers=",
                 "takes an integer, not ``"},
        BadFlags{"IntegerTooLarge",
                 {"num_layers=3000000000"},
                 {},
                 ErrorKind::kConfig,
                 "command line: num_layers=3000000000",
                 "too large or too small"},
        BadFlags{"WordForNumber",
                 {"--lr", "fast"},
                 {},
                 ErrorKind::kConfig,
                 "command line: --lr fast",
                 "lr takes a number, not `fast`"},
        BadFlags{"WordForBool",
                 {"deterministic=maybe"},
                 {},
                 ErrorKind::kConfig,
                 "command line: deterministic=maybe",
                 "takes true or false, not `maybe`"},
        BadFlags{"MistypedChoice",
                 {"--precision", "fp23"},
                 {},
                 ErrorKind::kConfig,
                 "command line: --precision fp23",
                 "did you mean `fp32`?"},
        BadFlags{"ControlCharacters",
                 {"run_dir=a\nb"},
                 {},
                 ErrorKind::kConfig,
                 "command line: run_dir=a\\x0ab",
                 "not one line of UTF-8"},
        // The file's micro batch is as much at fault, but what was typed last is what changes.
        BadFlags{"BlamedOverFile",
                 {"--micro-batch-size", "5"},
                 {},
                 ErrorKind::kConfig,
                 "command line: --micro-batch-size 5",
                 "not a multiple of micro_batch_size 5"},
        BadFlags{"GroupsAndTensorParallel",
                 {"num_query_groups=3", "--tensor-model-parallel-size", "2"},
                 {},
                 ErrorKind::kConfig,
                 "command line: --tensor-model-parallel-size 2",
                 "num_query_groups 3 is not divisible by tensor_model_parallel_size 2; sizes that "
                 "fit: 1, 3"},
        BadFlags{"FfnAndTensorParallel",
                 {"ffn_hidden_size=100", "--tensor-model-parallel-size", "3"},
                 {},
                 ErrorKind::kConfig,
                 "command line: --tensor-model-parallel-size 3",
                 "ffn_hidden_size 100 is not divisible by tensor_model_parallel_size 3; sizes "
                 "that fit: 1, 2, 4"},
        BadFlags{"TokensAndTensorParallel",
                 {"--sequence-parallel", "--tensor-model-parallel-size", "3"},
                 {},
                 ErrorKind::kConfig,
                 "command line: --tensor-model-parallel-size 3",
                 "seq_length × micro_batch_size, and 64 is not divisible"},
        BadFlags{"ValidationShareMissing",
                 {"split=1", "eval_interval=5"},
                 {},
                 ErrorKind::kConfig,
                 "command line: split=1",
                 "has no validation share"},
        BadFlags{"World",
                 {"--pipeline-model-parallel-size", "4"},
                 6,
                 ErrorKind::kConfig,
                 "command line: --pipeline-model-parallel-size 4",
                 "world size 6 is not a multiple of tensor 1 × pipeline 4 = 4 ranks; products "
                 "that fit: 1, 2, 3, 6"},
        BadFlags{"WorldTooSmall",
                 {"--pipeline-model-parallel-size", "4"},
                 1,
                 ErrorKind::kConfig,
                 "command line: --pipeline-model-parallel-size 4",
                 "products that fit: 1"},
        BadFlags{"WorldOfNobody", {}, 0, ErrorKind::kConfig, "world size", "at least 1"},
        BadFlags{"ReplicasAndBatch",
                 {},
                 5,
                 ErrorKind::kConfig,
                 "job.textproto:10:3",
                 "global_batch_size 24 is not a multiple of micro_batch_size 2 × data-parallel "
                 "size 5 = 10; sizes that fit: 20 or 30"}),
    [](const ::testing::TestParamInfo<BadFlags>& info) { return info.param.label; });

TEST(BadConfigTest, RunInputsAreNeededOnlyWhereAsked) {
  const LoadedConfig loaded = ParseText(SmallConfig());
  EXPECT_NO_THROW(ValidateConfig(loaded, 1));
  EXPECT_EQ(Caught([&] { RequireRunInputs(loaded); }).where(), "run_dir");
  const LoadedConfig with_dir = ParseText(SmallConfig(), {"run_dir=r"});
  EXPECT_EQ(Caught([&] { RequireRunInputs(with_dir); }).where(), "data.data_path");
  EXPECT_NO_THROW(RequireRunInputs(ParseText(SmallConfig(), {"run_dir=r", "data_path=d"})));
}

}  // namespace
}  // namespace cairn

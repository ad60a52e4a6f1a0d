#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "tests/launcher/commands/program_testing.h"

namespace cairn::testing {
namespace {

using ::testing::HasSubstr;

// One way to break the program, as a user types it.
struct ErrorCase {
  const char* name;
  const char* script;  ///< run in a Workspace; the last command is the one that fails
  int status;
  std::vector<const char*> says;  ///< parts of standard error
};

void PrintTo(const ErrorCase& wrong, std::ostream* out) { *out << wrong.script; }

class ErrorTest : public ::testing::TestWithParam<ErrorCase> {};

TEST_P(ErrorTest, IsReportedOnce) {
  const ErrorCase& wrong = GetParam();
  const Workspace workspace;
  const Outcome outcome = workspace.Run(wrong.script);
  EXPECT_EQ(outcome.status, wrong.status) << outcome.err;
  for (const char* part : wrong.says) EXPECT_THAT(outcome.err, HasSubstr(part));
  EXPECT_EQ(CountErrors(outcome.err), 1) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  ExpectNoCrash(outcome);
}

std::string CaseName(const ::testing::TestParamInfo<ErrorCase>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(
    CommandLine, ErrorTest,
    ::testing::Values(
        ErrorCase{"NoCommand", "cairn", 2, {"subcommand is required", "`cairn --help`"}},
        ErrorCase{"UnknownCommand", "cairn tran", 2, {"`tran`", "did you mean `train`?", "doctor"}},
        ErrorCase{"UnknownInnerCommand", "cairn ckpt verfy run", 2, {"`verfy`", "`verify`"}},
        ErrorCase{"UnknownTrainFlag",
                  "cairn train tiny.textproto --micro-batchsize 3",
                  2,
                  {"--micro-batchsize", "did you mean `micro_batch_size`?"}},
        ErrorCase{"UnknownFlag", "cairn doctor --bogus", 2, {"--bogus", "`cairn doctor --help`"}},
        ErrorCase{
            "FlagWithoutValue", "cairn train tiny.textproto --lr", 2, {"--lr", "needs a value"}},
        ErrorCase{"StrayWord", "cairn train tiny.textproto stray", 2, {"stray", "no"}},
        ErrorCase{"OptionOutOfRange",
                  "cairn train tiny.textproto --dry-run --world-size 0",
                  2,
                  {"--world-size: 0 is not a number from 1 to 1048576"}},
        ErrorCase{"WorldSizeOfARealRun",
                  "cairn train tiny.textproto --world-size 4",
                  2,
                  {"--world-size requires --dry-run"}},
        ErrorCase{"OneMessageOfManyRanks", "mpirun -n 2 cairn tran", 2, {"`train`"}},
        ErrorCase{"UnknownLaunch", "cairn launch mpiru", 2, {"`mpiru`", "did you mean `mpirun`?"}},
        ErrorCase{"LaunchLayout",
                  "cairn launch mpirun -n 3 tiny.textproto --tensor-model-parallel-size 2",
                  2,
                  {"world size 3 is not a multiple", "products that fit: 1, 3"}},
        ErrorCase{"LaunchHosts",
                  "cairn launch mpirun --hosts a:x tiny.textproto",
                  2,
                  {"--hosts: `x` of host a is not a number of ranks"}},
        ErrorCase{
            "LaunchOfNoJob", "mkdir d; cairn launch status d", 2, {"d: no job was submitted"}},
        ErrorCase{
            "ClosedOutput", "cairn --help > /dev/full", 3, {"standard output", "No space left"}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Config, ErrorTest,
    ::testing::Values(
        ErrorCase{"UnknownField",
                  "sed -i 's/hidden_size/hiden_size/' tiny.textproto; cairn train tiny.textproto",
                  2,
                  {"tiny.textproto:2:23: ", "`hiden_size`", "did you mean `hidden_size`?"}},
        ErrorCase{"UnknownOverride",
                  "cairn train tiny.textproto optimizer.mni_lr=0",
                  2,
                  {"command line: optimizer.mni_lr=0", "did you mean `optimizer.min_lr`?"}},
        ErrorCase{"WrongSection",
                  "cairn train tiny.textproto train.lr=1",
                  2,
                  {"`lr` belongs to section optimizer"}},
        ErrorCase{"WrongType",
                  "cairn train tiny.textproto train.micro_batch_size=zero",
                  2,
                  {"takes an integer", "`zero`"}},
        ErrorCase{"WrongChoice",
                  "cairn train tiny.textproto precision=bf61",
                  2,
                  {"`bf61` is no precision", "fp32, bf16, fp16"}},
        ErrorCase{"PlannedChoice",
                  "cairn train tiny.textproto --pipeline-schedule zb_v",
                  2,
                  {"zb_v is not available in this build", "gpipe, 1f1b"}},
        ErrorCase{"OutOfRange",
                  "cairn train tiny.textproto hidden_dropout=1",
                  2,
                  {"hidden_dropout 1 is out of range", "below 1"}},
        ErrorCase{"Unset",
                  "sed -i 's/train_iters: 4//' tiny.textproto; cairn train tiny.textproto",
                  2,
                  {"train.train_iters: is not set", "tiny.textproto"}},
        ErrorCase{"Unclosed",
                  "echo 'log {' >> tiny.textproto; cairn train tiny.textproto",
                  2,
                  {"tiny.textproto:7:1", "`}` missing"}},
        ErrorCase{"Binary", "cairn train corpus.bin", 2, {"corpus.bin:1:2", "not UTF-8"}},
        ErrorCase{"MissingFile",
                  "cairn train nope.textproto",
                  2,
                  {"nope.textproto: there is no such config file or preset", "quickstart"}},
        ErrorCase{"UnknownPreset", "cairn train gpt3-175x", 2, {"did you mean `gpt3-175b`?"}},
        ErrorCase{"PresetWithoutData", "cairn train gpt3-125m", 2, {"data.data_path: is not set"}},
        ErrorCase{"EmptyStandardInput", "cairn train -", 2, {"<stdin>", "is not set"}},
        ErrorCase{"Folder", "cairn train .", 2, {"cannot be read: Is a directory"}},
        ErrorCase{"Heads",
                  "cairn train tiny.textproto num_attention_heads=5",
                  2,
                  {"not divisible by num_attention_heads 5", "heads that fit: 1, 2, 4, 8"}},
        ErrorCase{"Batch",
                  "cairn train tiny.textproto micro_batch_size=3",
                  2,
                  {"global_batch_size 4 is not a multiple", "sizes that fit: 3 or 6"}},
        ErrorCase{"TensorParallel",
                  "cairn train tiny.textproto --tensor-model-parallel-size 3",
                  2,
                  {"not divisible by tensor_model_parallel_size 3", "sizes that fit: 1, 2, 4"}},
        ErrorCase{"PipelineParallel",
                  "cairn train tiny.textproto --pipeline-model-parallel-size 3",
                  2,
                  {"stages without a layer", "sizes that fit: 1 to 2"}},
        ErrorCase{"DryRunLayout",
                  "cairn train tiny.textproto --dry-run --world-size 3 "
                  "--tensor-model-parallel-size 2",
                  2,
                  {"world size 3", "products that fit: 1, 3"}},
        ErrorCase{"WorldSize",
                  "mpirun -n 3 cairn train tiny.textproto --tensor-model-parallel-size 2",
                  2,
                  {"world size 3 is not a multiple", "products that fit: 1, 3"}},
        ErrorCase{"OneRankOfTwo",
                  "cairn train tiny.textproto --tensor-model-parallel-size 2",
                  2,
                  {"world size 1 is not a multiple"}},
        ErrorCase{"OtherConfigOnOneRank",
                  "mpirun -n 1 cairn train tiny.textproto : -n 1 cairn train tiny.textproto lr=0.1",
                  2,
                  {"rank 1: has another config than rank 0"}},
        ErrorCase{"OtherBuildOnOneRank",
                  "cp $(command -v cairn) other; echo >> other; "
                  "mpirun -n 1 cairn train tiny.textproto : -n 1 ./other train tiny.textproto",
                  2,
                  {"rank 1: runs another build of cairn than rank 0", "on every host"}},
        ErrorCase{"SingletonOfMpirun",
                  "OMPI_COMM_WORLD_SIZE=4 cairn train tiny.textproto",
                  2,
                  {"OMPI_COMM_WORLD_SIZE: mpirun started 4 tasks", "a world of 1"}},
        ErrorCase{"SingletonOfSlurm",
                  "SLURM_STEP_ID=0 SLURM_NTASKS=4 cairn train tiny.textproto",
                  2,
                  {"SLURM_NTASKS: srun started 4 tasks", "use srun --mpi=pmix"}},
        ErrorCase{"NoNumberOfTasks",
                  "SLURM_STEP_ID=0 SLURM_NTASKS=four cairn train tiny.textproto",
                  2,
                  {"SLURM_NTASKS", "not a number of ranks"}},
        ErrorCase{"VocabularySmallerThanTokenizer",
                  "cairn train tiny.textproto vocab_size=100",
                  2,
                  {"vocab_size=100", "less than the 257 tokens of byte"}},
        ErrorCase{"RunDirUnset", "cairn train tiny.textproto run_dir=", 2, {"run_dir", "not set"}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Data, ErrorTest,
    ::testing::Values(
        ErrorCase{"NoDataset",
                  "cairn train tiny.textproto data_path=nope",
                  3,
                  {"nope.bin: no such file"}},
        ErrorCase{"NoIndex",
                  "rm corpus.idx; cairn train tiny.textproto",
                  3,
                  {"corpus.idx: no such file"}},
        ErrorCase{"TruncatedTokens",
                  "truncate -s 1000 corpus.bin; cairn train tiny.textproto",
                  3,
                  {"corpus.idx: byte ", "the .bin file, which has 1000"}},
        ErrorCase{"TooManyTokens",
                  "echo more >> corpus.bin; cairn train tiny.textproto",
                  3,
                  {"corpus.bin: byte ", "the index accounts for"}},
        ErrorCase{"TruncatedIndex",
                  "truncate -s 100 corpus.idx; cairn train tiny.textproto",
                  3,
                  {"corpus.idx: byte 18", "the file has 100 bytes"}},
        ErrorCase{"NoIndexAtAll",
                  "cp text.txt corpus.idx; cairn train tiny.textproto",
                  3,
                  {"corpus.idx: byte 0: not an index"}},
        ErrorCase{
            "TokenOutsideVocabulary",
            "bytes=$(stat -c %s corpus.bin); "
            "head -c $bytes /dev/zero | tr '\\0' '\\377' > corpus.bin; "
            "cairn train tiny.textproto",
            3,
            {"token 65535 is outside the vocabulary of 257", "corpus.bin: byte ", "document "}},
        ErrorCase{"NoTokenizer",
                  "cairn train tiny.textproto tokenizer=nope.json",
                  3,
                  {"nope.json: no such file"}},
        ErrorCase{"DamagedTokenizer",
                  "echo '{\"model\": ' > t.json; cairn train tiny.textproto tokenizer=t.json",
                  3,
                  {"t.json"}},
        ErrorCase{"SplitWithoutDocuments",
                  "cairn train tiny.textproto split=999,1,0 eval_interval=1",
                  3,
                  {"corpus", "valid"}},
        ErrorCase{"BuildWithoutInput",
                  "cairn data build nope.txt --tokenizer byte --output x",
                  3,
                  {"nope.txt: no such file"}},
        ErrorCase{"BuildWithoutTokenizer",
                  "cairn data build text.txt --output x",
                  2,
                  {"--tokenizer is required", "`cairn data build --help`"}},
        ErrorCase{"BuildIntoNowhere",
                  "cairn data build text.txt --tokenizer byte --output nowhere/x",
                  3,
                  {"nowhere/x.bin", "No such file"}},
        ErrorCase{"InfoOfNothing", "cairn data info nope", 3, {"nope.bin: no such file"}},
        ErrorCase{
            "NoSuchDocument", "cairn data show corpus --document 20", 2, {"20 is outside 0 to 19"}},
        ErrorCase{"TokenizerName",
                  "cairn data train-tokenizer text.txt --vocab-size 300 --output tok",
                  2,
                  {"--output", "does not end in .json"}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Run, ErrorTest,
    ::testing::Values(
        ErrorCase{"FileForRunDir",
                  "touch run; cairn train tiny.textproto",
                  3,
                  {"run: mkdir failed: Not a directory"}},
        ErrorCase{"ForbiddenRunDir",
                  "mpirun -n 2 cairn train tiny.textproto run_dir=/proc/run",
                  3,
                  {"/proc/run: mkdir failed"}},
        ErrorCase{"FolderForMetrics",
                  "mkdir -p run/metrics.jsonl; mpirun -n 2 cairn train tiny.textproto",
                  3,
                  {"rank 0: run/metrics.jsonl", "not a regular file"}},
        ErrorCase{"NoMemory",
                  "cairn train tiny.textproto hidden_size=8388608",
                  3,
                  {"cairn: out of memory error"}},
        ErrorCase{"LoadOfNothing",
                  "cairn train tiny.textproto load=nope",
                  3,
                  {"nope: is no folder; a step or run folder was expected"}},
        ErrorCase{"LoadOfAnEmptyRun",
                  "mkdir old; cairn train tiny.textproto load=old",
                  3,
                  {"old: has no good checkpoint"}},
        ErrorCase{"NoModelToGenerate",
                  "cairn generate nope --prompt a",
                  2,
                  {"nope: there is no such checkpoint, run folder, config file or preset"}},
        ErrorCase{"NoTokenizerToGenerate",
                  "sed -i 's/tokenizer: .byte.//; s/seq_length/vocab_size: 257 seq_length/' "
                  "tiny.textproto; "
                  "cairn generate tiny.textproto --prompt a",
                  2,
                  {"names no data.tokenizer"}},
        ErrorCase{"Temperature",
                  "cairn generate tiny.textproto --temperature -1",
                  2,
                  {"--temperature: -1 is not a number of at least 0"}},
        ErrorCase{"TopP",
                  "cairn generate tiny.textproto --top-p 1.5",
                  2,
                  {"--top-p: 1.5 is not a number from 0 to 1"}},
        ErrorCase{"EvalWithoutData", "cairn eval tiny.textproto", 2, {"--data is required"}},
        ErrorCase{
            "EvalOfNoData", "cairn eval tiny.textproto --data nope", 3, {"nope.bin: no such file"}},
        ErrorCase{"EvalSplit",
                  "cairn eval tiny.textproto --data corpus --split most",
                  2,
                  {"most not in {train,valid,test,all}"}},
        ErrorCase{"CheckpointsOfNothing", "cairn ckpt ls nope", 3, {"nope: is no folder"}},
        ErrorCase{"NoCheckpoint", "mkdir d; cairn ckpt info d", 3, {"d: has no good checkpoint"}},
        ErrorCase{
            "BothLevels", "cairn ckpt verify run --quick --full", 2, {"--quick excludes --full"}},
        ErrorCase{"DiffWithOne", "cairn ckpt diff run", 2, {"other is required"}},
        ErrorCase{"DiffTolerance", "cairn ckpt diff a b --rtol -1", 2, {"at least 0"}},
        ErrorCase{"DiffUlp", "cairn ckpt diff a b --ulp some", 2, {"--ulp"}},
        ErrorCase{"IdTwice", "cairn ckpt id run --text --json", 2, {"--json excludes --text"}},
        ErrorCase{"HistogramScale",
                  "cairn ckpt stats run --histogram log10",
                  2,
                  {"log10 not in {log2,linear}"}},
        ErrorCase{"GcOfNothing", "cairn ckpt gc nope", 3, {"nope: is no folder"}},
        ErrorCase{"GcKeepsNothing",
                  "cairn ckpt gc run --keep 0",
                  2,
                  {"--keep: 0 is not a number of at least 1"}},
        ErrorCase{"GcEveryOfAll", "cairn ckpt gc run --keep-every 5", 2, {"requires --keep"}},
        ErrorCase{"WhyNotNothing", "cairn ckpt why-not nope", 3, {"nope: is no folder"}}),
    CaseName);

// Leaves checkpoints of iterations 2 and 4 in run.
#define TRAINED "cairn train tiny.textproto save_interval=2 2> /dev/null; "
#define STEP_4 "run/checkpoints/step-00000004"

INSTANTIATE_TEST_SUITE_P(
    Checkpoint, ErrorTest,
    ::testing::Values(
        ErrorCase{"RunDirHoldsCheckpoints",
                  TRAINED "cairn train tiny.textproto",
                  2,
                  {"run already holds a checkpoint of iteration ", "checkpoint.load: \"auto\""}},
        ErrorCase{"OtherModel",
                  TRAINED "cairn train tiny.textproto run_dir=new load=run num_layers=1",
                  3,
                  {STEP_4, "model.num_layers 2, this run has 1"}},
        ErrorCase{"OtherModelOfManyRanks",
                  TRAINED "mpirun -n 2 cairn train tiny.textproto run_dir=new load=run "
                          "hidden_size=64",
                  3,
                  {STEP_4, "model.hidden_size 32, this run has 64"}},
        ErrorCase{"FlippedBit",
                  TRAINED "printf X | dd of=" STEP_4
                          "/shard-00000.safetensors seek=20000 bs=1 conv=notrunc 2> /dev/null; "
                          "cairn train tiny.textproto run_dir=new load=" STEP_4,
                  3,
                  {STEP_4 "/shard-00000.safetensors: tensor \"layers.", "bytes [", "CRC32C"}},
        ErrorCase{"TruncatedShard",
                  TRAINED "truncate -s 30000 " STEP_4 "/shard-00000.safetensors; "
                          "cairn train tiny.textproto run_dir=new load=" STEP_4,
                  3,
                  {STEP_4 "/shard-00000.safetensors: has 30000 bytes", "were committed"}},
        ErrorCase{"MissingShard",
                  TRAINED "rm " STEP_4 "/shard-00000.safetensors; "
                          "cairn eval " STEP_4 " --data corpus",
                  3,
                  {STEP_4 "/shard-00000.safetensors", "No such file"}},
        ErrorCase{"DamagedManifest",
                  TRAINED "printf X | dd of=" STEP_4
                          "/MANIFEST.pb seek=100 bs=1 conv=notrunc 2> /dev/null; "
                          "cairn generate " STEP_4 " --prompt a",
                  3,
                  {STEP_4 ": MANIFEST.pb: bytes [0,", "differs from the committed one"}},
        ErrorCase{"NotCommitted",
                  TRAINED "rm " STEP_4 "/COMMIT; "
                          "cairn train tiny.textproto run_dir=new load=" STEP_4,
                  3,
                  {STEP_4, "COMMIT"}},
        ErrorCase{"NoSuchTensor",
                  TRAINED "cairn ckpt show run final_nrom.weight",
                  2,
                  {"TENSOR", "final_nrom.weight", "`cairn ckpt tensors` lists them"}},
        ErrorCase{"NoSuchKind",
                  TRAINED "cairn ckpt show run final_norm.weight --kind momentum",
                  2,
                  {"--kind", "no kind momentum", "exp_avg"}},
        ErrorCase{"NoSuchSlice",
                  TRAINED "cairn ckpt show run 'final_norm.weight[40:50]'",
                  2,
                  {"slice [40:50]", "which has size 32"}},
        ErrorCase{"NoSuchTensorToDraw",
                  TRAINED "cairn ckpt layout run nope",
                  2,
                  {"TENSOR", "no tensor \"nope\""}},
        ErrorCase{"DiffOfDamaged",
                  TRAINED "printf X | dd of=" STEP_4
                          "/shard-00000.safetensors seek=20000 bs=1 conv=notrunc 2> /dev/null; "
                          "cairn ckpt diff run/checkpoints/step-00000002 " STEP_4,
                  3,
                  {STEP_4 "/shard-00000.safetensors: tensor \"", "bytes [", "CRC32C"}},
        ErrorCase{"IdOfDamaged",
                  TRAINED "truncate -s 30000 " STEP_4 "/shard-00000.safetensors; "
                          "cairn ckpt id " STEP_4,
                  3,
                  {"has 30000 bytes"}},
        ErrorCase{"LostOutput",
                  TRAINED "cairn ckpt tensors run --json > /dev/full",
                  3,
                  {"standard output", "No space left"}}),
    CaseName);

}  // namespace
}  // namespace cairn::testing
